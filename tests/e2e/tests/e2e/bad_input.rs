//! Requests that are wrong: each is refused with its code, its cause and what is allowed, and
//! changes nothing.

use ghost_e2e::agent::Home;
use ghost_e2e::client::{self, mini};
use ghost_proto::agentpb::{CreateVmRequest, DeleteVmRequest, ListVMsRequest, WatchVMsRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

type Spoil = fn(&mut CreateVmRequest);

/// What is wrong with a create, the field that is blamed, and a word of the reason.
const WRONG: [(Spoil, &str, &str); 24] = [
    (|r| r.name = String::new(), "name", "3 to 63"),
    (|r| r.name = "ab".to_owned(), "name", "3 to 63"),
    (|r| r.name = "a".repeat(64), "name", "3 to 63"),
    (|r| r.name = "../../etc/passwd".to_owned(), "name", "letters"),
    (|r| r.name = "<domain/>".to_owned(), "name", "letters"),
    (|r| r.name = "a&b;c".to_owned(), "name", "letters"),
    (|r| r.name = "-web".to_owned(), "name", "begin and end"),
    (|r| r.name = uuid::Uuid::new_v4().to_string(), "name", "UUID"),
    (|r| r.vcpu = 0, "vcpu", "1 to 32"),
    (|r| r.vcpu = 33, "vcpu", "1 to 32"),
    (|r| r.vcpu = i32::MIN, "vcpu", "1 to 32"),
    (|r| r.ram_gb = 0, "ram_gb", "1 to 128"),
    (|r| r.ram_gb = 129, "ram_gb", "1 to 128"),
    (|r| r.disk_gb = 9, "disk_gb", "10 to 1000"),
    (|r| r.disk_gb = i32::MAX, "disk_gb", "10 to 1000"),
    (|r| r.template = "windows-11".to_owned(), "template", ", mini, "),
    (|r| r.template = "../mini".to_owned(), "template", "such as debian-12"),
    (|r| r.user_data = "just text".to_owned(), "user_data", "#cloud-config"),
    (|r| r.user_data = format!("#cloud-config\n{}", "x".repeat(65_536)), "user_data", "65536"),
    (
        |r| r.ssh_authorized_keys = vec!["-----BEGIN OPENSSH PRIVATE KEY-----".to_owned()],
        "ssh_authorized_keys[0]",
        "private",
    ),
    (
        |r| r.metadata = (0..65).map(|i| (format!("k{i}"), String::new())).collect(),
        "metadata",
        "at most 64",
    ),
    (|r| r.metadata = [("</metadata>".to_owned(), "x".to_owned())].into(), "metadata", "a-z"),
    (|r| r.metadata = [("key".to_owned(), "x".repeat(1025))].into(), "metadata", "1024"),
    (|r| r.request_id = "two words".to_owned(), "request_id", "visible"),
];

#[tokio::test]
async fn wrong_requests_are_refused_with_code_cause_and_remedy_and_change_nothing() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();

    for (spoil, field, word) in WRONG {
        let mut request = mini("e2e-wrong");
        spoil(&mut request);
        let refused = api.create_vm(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}: {refused}");
        let info = refused.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("VALIDATION_ERROR", "agent.ghost")
        );
        let fields = refused.get_details_bad_request().unwrap().field_violations;
        assert_eq!(fields.len(), 1, "{fields:?}");
        assert_eq!(fields[0].field, field);
        assert!(fields[0].description.contains(word), "{field}: {}", fields[0].description);
    }

    let everything = CreateVmRequest { user_data: "x".to_owned(), ..CreateVmRequest::default() };
    let refused = api.create_vm(everything).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations.len(), 6);

    let unknown = api.delete_vm(DeleteVmRequest { vm_id: "nobody".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let no_reference =
        api.delete_vm(DeleteVmRequest { vm_id: "no/body".to_owned() }).await.unwrap_err();
    assert_eq!(no_reference.code(), Code::InvalidArgument);
    let page =
        ListVMsRequest { page_size: -1, page_token: "?".to_owned(), status: "asleep".to_owned() };
    let refused = api.list_v_ms(page).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations.len(), 3);

    let large = CreateVmRequest { user_data: "x".repeat(2 << 20), ..mini("e2e-wrong") };
    assert_eq!(api.create_vm(large).await.unwrap_err().code(), Code::OutOfRange);

    agent.stop().await.unwrap();
}

#[tokio::test]
async fn more_than_the_host_has_is_refused_with_the_sum() {
    let home = Home::new().await.unwrap().with("RESOURCES__RESERVED_RAM_GB", "60000");
    let agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let refused = api.create_vm(mini("e2e-large")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().starts_with("asked 1 GiB RAM, 0 GiB available ("), "{refused}");
    agent.stop().await.unwrap();
}

/// The one field that is blamed, and why.
fn blamed(refused: &Status) -> (String, String) {
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let mut fields = refused.get_details_bad_request().unwrap().field_violations;
    assert_eq!(fields.len(), 1, "{fields:?}");
    let field = fields.remove(0);
    (field.field, field.description)
}

/// What an agent of its own gives as the token of its first event.
async fn token_of_another_agent() -> String {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let mut api = home.api(&agent).await.unwrap();
    let mut events = api.watch_v_ms(WatchVMsRequest::default()).await.unwrap().into_inner();
    let synced = events.message().await.unwrap().unwrap();
    assert_eq!(synced.kind, "synced");
    drop((events, api));
    agent.stop().await.unwrap();
    synced.resume_token
}

#[tokio::test]
async fn tokens_that_are_made_up_or_of_another_agent_are_refused_and_say_what_to_do() {
    let foreign = token_of_another_agent().await;
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let mut api = home.api(&agent).await.unwrap();

    for made_up in ["?", "../../etc/passwd", "bmV4dA==", &"a".repeat(100_000)] {
        let page = ListVMsRequest { page_token: made_up.to_owned(), ..ListVMsRequest::default() };
        let (field, why) = blamed(&api.list_v_ms(page).await.unwrap_err());
        assert_eq!(field, "page_token");
        assert!(why.contains("use next_page_token as it is") && why.len() < 200, "{why}");
    }
    let of_nobody = ListVMsRequest { page_token: "nobody".to_owned(), ..ListVMsRequest::default() };
    assert!(api.list_v_ms(of_nobody).await.unwrap().into_inner().vms.is_empty());

    let of = foreign.split(':').next().unwrap();
    for (token, word) in [(foreign.as_str(), of), ("1:2:3", "leave it empty"), ("?", "begin anew")]
    {
        let watch = WatchVMsRequest { resume_token: token.to_owned() };
        let (field, why) = blamed(&api.watch_v_ms(watch).await.unwrap_err());
        assert_eq!(field, "resume_token");
        assert!(why.contains(word), "{why}");
    }
    agent.stop().await.unwrap();
}
