//! One command by its id and its trace: command line, server, agent, and back.

use ghost_proto::admin::{PlaceVmRequest, RemoveVmRequest};
use ghost_proto::agentpb::CreateVmRequest;
use ghost_proto::controlplane::RegisterRequest;
use serde_json::{Value, json};
use tonic::Request;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::agent::Agent;
use crate::api::Api;
use crate::fake_host::FakeHost;
use crate::program::{Served, done, folder, ghost_api_in, issued, registration};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const CREATE: [&str; 8] =
    ["vm", "create", "--agent", "pc-1", "--name", "web", "--template", "debian-12"];

/// The line that ends the call `rpc` with that id.
fn end_of(served: &mut Served, rpc: &str, id: &str) -> Value {
    served.line(|line| line["rpc"] == rpc && line["request_id"] == id && line["code"].is_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_found_by_its_id_and_trace_from_the_command_line_to_the_agent() {
    let (_folder, dir) = folder();
    done(&dir, &["init", "--name", "localhost"]);
    let mut served = Served::start_with(&dir, &["--log-level", "debug"]);
    let (agent, own, mut client) = issued(&dir, &served, &done(&dir, &["token", "create"])).await;
    let host = FakeHost::start(&own).await;
    let at = |address: String| RegisterRequest {
        address,
        ..registration(&Uuid::from_u128(1).to_string())
    };
    let mut ask = Request::new(at(host.address.to_string()));
    ask.metadata_mut().insert("x-request-id", "agents-own".parse().unwrap());
    client.register(ask).await.unwrap();
    let line = end_of(&mut served, "Register", "agents-own");
    assert_eq!((&line["agent_id"], &line["level"]), (&json!(agent), &json!("INFO")), "{line}");

    let run = |args: &[&str], id: &str| {
        let args = [args, &["--request-id", id, "-o", "json"]].concat();
        ghost_api_in(&dir, &[("TRACEPARENT", PARENT)], &args)
    };
    let output = run(&CREATE, "create-1");
    assert!(output.status.success(), "{output:?}");
    let line = end_of(&mut served, "PlaceVM", "create-1");
    let of = ["message", "trace_id", "agent_id", "vm_name", "code"].map(|key| line[key].clone());
    assert_eq!(json!(of), json!(["done", TRACE, agent, "web", "Ok"]), "{line}");
    assert!(line["caller"].as_str().unwrap().starts_with("uid ") && line["took"].is_string());
    let output = run(&["vm", "delete", "--agent", "pc-1", "web"], "delete-1");
    assert!(output.status.success(), "{output:?}");
    let line = end_of(&mut served, "RemoveVM", "delete-1");
    assert_eq!((&line["vm_name"], &line["trace_id"]), (&json!("web"), &json!(TRACE)), "{line}");
    {
        let told = host.told.lock().unwrap();
        assert_eq!(told.ids, ["create-1", "delete-1"]);
        assert_eq!(told.traces, [PARENT, PARENT]);
        assert_eq!(told.creates[0].request_id, "create-1");
    }

    client.register(at("127.0.0.1:9".to_owned())).await.unwrap();
    let output = run(&CREATE, "create-2");
    assert_eq!(output.status.code(), Some(7));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["request_id"], "create-2", "{error}");
    let line = end_of(&mut served, "PlaceVM", "create-2");
    assert_eq!((&line["message"], &line["code"]), (&json!("refused"), &json!("Unavailable")));
    let output = ghost_api_in(&dir, &[("GHOST_REQUEST_ID", "script")], &CREATE);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.trim_end().ends_with("(request id script)"), "{text}");
    assert!(served.terminate());
}

#[tokio::test]
async fn an_answer_good_or_bad_has_the_id_that_was_sent_and_what_is_no_id_is_replaced() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    let host = FakeHost::start(&agent.identity).await;
    let ask = RegisterRequest { address: host.address.to_string(), ..agent.registration() };
    agent.client.register(ask).await.unwrap();
    let vm = CreateVmRequest { name: "web".to_owned(), ..CreateVmRequest::default() };
    let create = |id: &'static str, trace: &'static str| {
        let ask = PlaceVmRequest { agent: agent.id.clone(), vm: Some(vm.clone()) };
        let mut ask = Request::new(ask);
        ask.metadata_mut().insert("x-request-id", id.parse().unwrap());
        ask.metadata_mut().insert("traceparent", trace.parse().unwrap());
        ask
    };
    let mut admin = api.admin().await;
    let answer = admin.place_vm(create("mine", "no trace")).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine");
    let answer = admin.place_vm(create("has space", PARENT)).await.unwrap();
    let replaced = answer.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
    {
        let told = host.told.lock().unwrap();
        assert_eq!(told.ids, ["mine", &replaced]);
        assert_eq!((replaced.len(), &told.traces[..]), (36, &[PARENT.to_owned()][..]));
        // A header may be many commands': each makes a VM of its own.
        assert_ne!(told.creates[0].request_id, "mine");
    }
    let ask = RemoveVmRequest { agent: "nobody".to_owned(), vm: "web".to_owned() };
    let mut ask = Request::new(ask);
    ask.metadata_mut().insert("x-request-id", "gone".parse().unwrap());
    let refused = admin.remove_vm(ask).await.unwrap_err();
    assert_eq!(refused.metadata().get("x-request-id").unwrap(), "gone");
    assert_eq!(refused.get_details_error_info().unwrap().metadata["request_id"], "gone");
}
