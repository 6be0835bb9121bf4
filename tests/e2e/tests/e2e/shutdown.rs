//! SIGTERM: no new calls, those under way end, guests are not touched.

use std::time::Duration;

use ghost_e2e::agent::Home;
use ghost_e2e::client::{self, mini};
use ghost_e2e::host::answers;
use ghost_proto::agentpb::CreateVmRequest;
use rustix::process::Signal;

/// Fault: SIGTERM in the middle of a create, then of a stop. Promise: 1, 2. Result: what is under way ends within the
/// limit, with its true answer; the guest runs on.
#[tokio::test]
async fn a_create_under_way_ends_before_the_agent_does() {
    let home = Home::new().await.unwrap().with("AGENT__SHUTDOWN_TIMEOUT", "120s");
    let mut agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();

    let creating = ctl.create("e2e-term");
    let stopping = async {
        agent.until("the guest was started", Duration::from_secs(60)).await?;
        agent.signal(Signal::TERM)?;
        agent.ended().await
    };
    let (created, ended) = tokio::join!(creating, stopping);
    let address = created.unwrap()["ip_address"].as_str().unwrap().to_owned();
    assert!(ended.unwrap().success());
    assert!(answers(&address).await.unwrap(), "the guest died with the agent");

    // A stop that is under way still hears of the guest's end, and says the truth about it.
    let mut agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();
    let stop = ["vm", "stop", "e2e-term"];
    let stopping = ctl.json(&stop);
    let terminating = async {
        agent.until("asked the guest to power off", Duration::from_secs(30)).await?;
        agent.signal(Signal::TERM)?;
        agent.ended().await
    };
    let (stopped, ended) = tokio::join!(stopping, terminating);
    let stopped = stopped.unwrap();
    assert_eq!(stopped["error"].as_str().unwrap_or_default(), "", "{stopped}");
    assert!(ended.unwrap().success());

    let agent = home.start().await.unwrap();
    let deleted =
        home.ctl(&agent).unwrap().run(["vm", "delete", "e2e-term", "--yes"]).await.unwrap();
    assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
    agent.stop().await.unwrap();
}

/// Fault: SIGTERM in the middle of a create that takes longer than the limit. Promise: 1, 7. Result: exit 0; the next
/// agent takes it back.
#[tokio::test]
async fn what_the_limit_cuts_off_is_undone_by_the_next_agent() {
    let home = Home::new().await.unwrap().with("AGENT__SHUTDOWN_TIMEOUT", "1s");
    let mut agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();

    // A guest that takes no address: the create is under way for two minutes.
    let silent = "#!/bin/sh\n# ghost-mini: no-dhcp\n".to_owned();
    let creating = api.create_vm(CreateVmRequest { user_data: silent, ..mini("e2e-cut") });
    let stopping = async {
        agent.until("the guest was started", Duration::from_secs(60)).await?;
        agent.signal(Signal::TERM)?;
        agent.ended().await
    };
    let (created, ended) = tokio::join!(creating, stopping);
    assert!(created.is_err(), "a client was told of a VM that will be undone");
    assert!(ended.unwrap().success());

    let agent = home.start().await.unwrap();
    agent.until("undid a creation that was cut off", Duration::from_secs(30)).await.unwrap();
    agent.stop().await.unwrap();
}

/// Fault: SIGTERM with an open stream; a second signal in the middle of a create. Promise: 1, 7. Result: the stream
/// does not keep the agent; it leaves at once, and the next one takes the create back.
#[tokio::test]
async fn an_open_stream_does_not_keep_the_agent_and_a_second_signal_ends_it_at_once() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let home = Home::new().await.unwrap();
    let mut agent = home.start().await.unwrap();
    let (address, operator) = (agent.address().unwrap(), home.certs.operator());
    let channel = client::channel(address, &home.certs, &operator).await.unwrap();
    let watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    watch.message().await.unwrap().unwrap();
    agent.signal(Signal::TERM).unwrap();
    assert!(agent.ended().await.unwrap().success());

    // A create that goes on for two minutes, a limit of thirty seconds, and no patience.
    let mut agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let silent = "#!/bin/sh\n# ghost-mini: no-dhcp\n".to_owned();
    let creating = api.create_vm(CreateVmRequest { user_data: silent, ..mini("e2e-twice") });
    let stopping = async {
        agent.until("the guest was started", Duration::from_secs(60)).await?;
        agent.signal(Signal::TERM)?;
        agent.until("stopping", Duration::from_secs(5)).await?;
        let told_again = std::time::Instant::now();
        agent.signal(Signal::INT)?;
        agent.ended().await.map(|_| told_again.elapsed())
    };
    let (created, took) = tokio::join!(creating, stopping);
    assert!(created.is_err());
    assert!(took.unwrap() < Duration::from_secs(15));

    let agent = home.start().await.unwrap();
    agent.until("undid a creation that was cut off", Duration::from_secs(30)).await.unwrap();
    agent.stop().await.unwrap();
}
