//! What happened to VMs.

use ghost_proto::admin::ListEventsRequest;
use ghost_proto::controlplane::{ReportEventsRequest, VmEvent};
use tonic::Code;

use crate::agent::{Agent, event};
use crate::api::{Api, reason};

async fn kept(api: &Api, agent: &str) -> Vec<u64> {
    let ask = ListEventsRequest { agent: agent.to_owned(), limit: 0 };
    let told = api.admin().await.list_events(ask).await.unwrap().into_inner();
    told.events.into_iter().map(|event| event.event.unwrap().sequence).collect()
}

#[tokio::test]
async fn events_come_at_least_once_and_are_kept_once_with_their_gaps() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    assert_eq!(agent.report(&[]).await.unwrap(), 0);
    assert_eq!(agent.report(&[1, 2, 5]).await.unwrap(), 5);
    assert_eq!(agent.report(&[1, 2, 5]).await.unwrap(), 5);
    assert_eq!(agent.report(&[5, 6]).await.unwrap(), 6);
    assert_eq!(agent.report(&[3]).await.unwrap(), 6);
    assert_eq!(kept(&api, "pc-1").await, [1, 2, 5, 6]);
    assert_eq!(kept(&api, "").await, [1, 2, 5, 6]);
    assert_eq!(agent.register().await.unwrap().last_event, 6);
}

#[tokio::test]
async fn an_event_keeps_the_command_that_caused_it() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
    let caused = VmEvent { request_id: "r-1".to_owned(), traceparent, ..event(1) };
    let hostile = VmEvent { request_id: "x".repeat(100_000), ..event(2) };
    let events = vec![caused.clone(), hostile];
    let ask = ReportEventsRequest { instance: agent.instance.clone(), events };
    agent.client.report_events(ask).await.unwrap();
    let ask = ListEventsRequest { agent: String::new(), limit: 0 };
    let told = api.admin().await.list_events(ask).await.unwrap().into_inner().events;
    assert_eq!(told[0].event.as_ref(), Some(&caused));
    assert_eq!(told[1].event.as_ref().unwrap().request_id.len(), 128);
}

#[tokio::test]
async fn events_out_of_order_and_too_many_are_refused_whole() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    let many: Vec<u64> = (1..=257).collect();
    for wrong in [&[2, 1][..], &[1, 1], &[0], &many] {
        let status = agent.report(wrong).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "BAD_EVENTS")
        );
    }
    assert_eq!(kept(&api, &agent.id).await, [] as [u64; 0]);
    assert_eq!(agent.report(&many[..256]).await.unwrap(), 256);
}

#[tokio::test]
async fn events_of_one_agent_are_not_anothers() {
    let api = Api::start().await;
    let (mut one, mut other) = (Agent::new(&api).await, Agent::new(&api).await);
    one.register().await.unwrap();
    other.register().await.unwrap();
    assert_eq!(one.report(&[7]).await.unwrap(), 7);
    assert_eq!(other.report(&[1]).await.unwrap(), 1);
    assert_eq!(kept(&api, &other.id).await, [1]);
    let ambiguous = ListEventsRequest { agent: "pc-1".to_owned(), limit: 0 };
    let status = api.admin().await.list_events(ambiguous).await.unwrap_err();
    assert_eq!(reason(&status), "AMBIGUOUS_NAME");
}
