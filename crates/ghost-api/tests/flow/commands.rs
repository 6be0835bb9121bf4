//! VMs, placed on agents and removed from them.

use ghost_proto::admin::{PlaceVmRequest, PlaceVmResponse, RemoveVmRequest};
use ghost_proto::agentpb::CreateVmRequest;
use ghost_proto::controlplane::RegisterRequest;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::agent::{Agent, capacity};
use crate::api::{Api, reason};
use crate::fake_host::FakeHost;

/// An agent with a host that answers, and so much memory left, in GiB.
async fn host(api: &Api, name: &str, ram: f64, cached: &[&str]) -> (Agent, FakeHost) {
    let mut agent = Agent::new(api).await;
    let host = FakeHost::start(&agent.identity).await;
    let ask = RegisterRequest {
        name: name.to_owned(),
        address: host.address.to_string(),
        capacity: Some(capacity(ram)),
        templates_cached: cached.iter().map(|one| (*one).to_owned()).collect(),
        ..agent.registration()
    };
    agent.client.register(ask).await.unwrap();
    (agent, host)
}

async fn has_left(agent: &mut Agent, ram: f64) {
    let mut beat = agent.beat();
    beat.capacity = Some(capacity(ram));
    agent.client.heartbeat(beat).await.unwrap();
}

fn vm(name: &str) -> CreateVmRequest {
    CreateVmRequest {
        name: name.to_owned(),
        vcpu: 2,
        ram_gb: 4,
        disk_gb: 20,
        template: "debian-12".to_owned(),
        ..CreateVmRequest::default()
    }
}

async fn place(api: &Api, agent: &str, vm: CreateVmRequest) -> Result<PlaceVmResponse, Status> {
    let ask = PlaceVmRequest { agent: agent.to_owned(), vm: Some(vm) };
    Ok(api.admin().await.place_vm(ask).await?.into_inner())
}

async fn last_records(api: &Api, count: usize) -> Vec<String> {
    let records = api.audit().await;
    let last = &records[records.len() - count..];
    last.iter().map(|record| format!("{}: {}", record.what, record.detail)).collect()
}

#[tokio::test]
async fn a_vm_is_placed_where_most_memory_is_left_by_the_control_planes_own_name() {
    let api = Api::start().await;
    let (_small, small) = host(&api, "small", 8.0, &[]).await;
    let (big_agent, big) = host(&api, "big", 32.0, &[]).await;
    let placed = place(&api, "", vm("web")).await.unwrap();
    assert_eq!((placed.agent_name.as_str(), &placed.agent_id), ("big", &big_agent.id));
    assert_eq!(placed.vm.unwrap().ip_address, "192.168.122.50");
    {
        let told = big.told.lock().unwrap();
        assert_eq!(told.callers, ["URI(spiffe://ghost/control-plane)"]);
        assert_eq!((told.creates.len(), told.creates[0].name.as_str()), (1, "web"));
        assert!(!told.creates[0].request_id.is_empty());
        // The agent's log, events and errors name the call by the create's id.
        assert_eq!(told.ids, [told.creates[0].request_id.clone()]);
    }
    assert!(small.told.lock().unwrap().callers.is_empty());
    let records = last_records(&api, 2).await;
    assert!(records[0].starts_with("vm create asked: web (debian-12"), "{records:?}");
    assert!(
        records[1].starts_with("vm placed: web on big") && records[1].contains("running"),
        "{records:?}"
    );
}

#[tokio::test]
async fn an_agent_that_has_the_image_is_preferred() {
    let api = Api::start().await;
    let (_a, _big) = host(&api, "big", 32.0, &[]).await;
    let (_b, _cached) = host(&api, "cached", 8.0, &["debian-12"]).await;
    assert_eq!(place(&api, "", vm("web")).await.unwrap().agent_name, "cached");
}

#[tokio::test]
async fn a_repeated_create_goes_to_the_same_agent_even_if_it_is_full_now() {
    let api = Api::start().await;
    let (mut first, first_host) = host(&api, "first", 32.0, &[]).await;
    let (mut other, other_host) = host(&api, "other", 16.0, &[]).await;
    let ask = CreateVmRequest { request_id: "r-1".to_owned(), ..vm("web") };
    assert_eq!(place(&api, "", ask.clone()).await.unwrap().agent_name, "first");
    has_left(&mut first, 0.0).await;
    has_left(&mut other, 0.0).await;
    assert_eq!(place(&api, "first", ask.clone()).await.unwrap().agent_name, "first");
    // Whoever names another agent does not get the VM of the first unawares.
    let refused = place(&api, "other", ask).await.unwrap_err();
    assert!(refused.message().contains("request r-1 went to agent"), "{refused:?}");
    assert_eq!(first_host.told.lock().unwrap().creates.len(), 2);
    assert!(other_host.told.lock().unwrap().creates.is_empty());
    assert_eq!(reason(&place(&api, "", vm("db")).await.unwrap_err()), "NONE_FITS");
    has_left(&mut other, 16.0).await;
    assert_eq!(place(&api, "", vm("db")).await.unwrap().agent_name, "other");
}

#[tokio::test]
async fn when_no_agent_fits_each_has_its_reason() {
    let api = Api::start().await;
    let none = place(&api, "", vm("web")).await.unwrap_err();
    assert!(none.message().contains("token create"), "{none:?}");
    let (_a, _small) = host(&api, "small", 2.0, &[]).await;
    let status = place(&api, "", vm("web")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "NONE_FITS"));
    assert!(status.message().contains("small has 2.0 GiB of memory left, 4 asked"), "{status:?}");
    api.clock.advance(90);
    let status = place(&api, "", vm("web")).await.unwrap_err();
    assert!(status.message().contains("small is offline"), "{status:?}");
}

#[tokio::test]
async fn an_agents_refusal_is_passed_on_under_its_name() {
    let api = Api::start().await;
    let (_agent, _host) = host(&api, "pc-7", 16.0, &[]).await;
    let status = place(&api, "pc-7", vm("taken")).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().starts_with("agent pc-7: the name 'taken' is taken"), "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("CONFLICT", "agent.ghost"));
    let records = last_records(&api, 1).await;
    assert!(records[0].starts_with("vm not placed: taken on pc-7"), "{records:?}");
}

#[tokio::test]
async fn an_agent_that_cannot_be_reached_is_told_with_its_address() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    let status = place(&api, "pc-1", vm("web")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "AGENT_UNREACHABLE"));
    assert!(
        status.message().contains("127.0.0.1:9") && status.message().contains("refused"),
        "{status:?}"
    );
}

#[tokio::test]
async fn who_answers_at_an_agents_address_and_is_not_that_agent_is_told_nothing() {
    let api = Api::start().await;
    let (_other, impostor) = host(&api, "other", 16.0, &[]).await;
    let mut agent = Agent::new(&api).await;
    let ask = RegisterRequest { address: impostor.address.to_string(), ..agent.registration() };
    agent.client.register(ask).await.unwrap();
    let status = place(&api, "pc-1", vm("web")).await.unwrap_err();
    assert_eq!(reason(&status), "AGENT_UNREACHABLE");
    assert!(status.message().contains("not valid for name"), "{status:?}");
    assert!(impostor.told.lock().unwrap().creates.is_empty());
}

#[tokio::test]
async fn an_agent_that_cannot_be_commanded_says_why() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    let why = |status: Status| (reason(&status), status.message().to_owned());
    let (code, text) = why(place(&api, "pc-1", vm("web")).await.unwrap_err());
    assert_eq!(code, "NOT_COMMANDABLE");
    assert!(text.contains("never registered"), "{text}");
    let ask = RegisterRequest { address: String::new(), ..agent.registration() };
    agent.client.register(ask).await.unwrap();
    assert!(why(place(&api, "pc-1", vm("web")).await.unwrap_err()).1.contains("own host only"));
    let status = place(&api, "nobody", vm("web")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "NO_SUCH_AGENT"));
    let ask = PlaceVmRequest { agent: String::new(), vm: None };
    let status = api.admin().await.place_vm(ask).await.unwrap_err();
    assert_eq!(reason(&status), "BAD_REQUEST");
}

#[tokio::test]
async fn a_vm_is_removed_and_it_is_on_record() {
    let api = Api::start().await;
    let (agent, host) = host(&api, "pc-7", 16.0, &[]).await;
    let ask = RemoveVmRequest { agent: agent.id.clone(), vm: "web".to_owned() };
    api.admin().await.remove_vm(ask).await.unwrap();
    assert_eq!(host.told.lock().unwrap().deletes, ["web"]);
    let records = last_records(&api, 2).await;
    assert!(records[0].starts_with("vm delete asked: web on pc-7"), "{records:?}");
    assert!(records[1].starts_with("vm removed: web on pc-7"), "{records:?}");
    let ask = RemoveVmRequest { agent: String::new(), vm: "web".to_owned() };
    let status = api.admin().await.remove_vm(ask).await.unwrap_err();
    assert_eq!(reason(&status), "BAD_REQUEST");
}

#[tokio::test]
async fn a_command_whose_operator_hangs_up_is_finished_and_on_record() {
    let api = Api::start().await;
    let (agent, host) = host(&api, "pc-7", 16.0, &[]).await;
    let ask = PlaceVmRequest { agent: agent.id.clone(), vm: Some(vm("slow")) };
    let mut admin = api.admin().await;
    tokio::select! {
        answered = admin.place_vm(ask) => panic!("{answered:?}"),
        reached = host.gate.reached.acquire() => drop(reached.unwrap()),
    }
    drop(admin);
    host.gate.open.add_permits(1);
    let on_record = async {
        while !last_records(&api, 1).await[0].starts_with("vm placed: slow on pc-7") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), on_record).await.unwrap();
}
