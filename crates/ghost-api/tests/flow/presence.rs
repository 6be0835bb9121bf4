//! Who is there.

use ghost_proto::controlplane::{RegisterRequest, Status as Said};
use tonic::Code;

use crate::agent::{Agent, capacity};
use crate::api::{Api, reason};

#[tokio::test]
async fn an_agent_is_as_it_says_until_it_is_silent_for_three_intervals() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    let mut beat = agent.beat();
    beat.status = Said::Degraded.into();
    beat.reasons = vec!["libvirt is away".to_owned()];
    agent.client.heartbeat(beat).await.unwrap();
    let seen = api.agent(&agent.id).await;
    assert_eq!(
        (seen.status.as_str(), seen.reasons),
        ("degraded", vec!["libvirt is away".to_owned()])
    );
    api.clock.advance(60);
    assert_eq!(api.agent(&agent.id).await.status, "degraded");
    api.clock.advance(30);
    assert_eq!(api.agent(&agent.id).await.status, "offline");
    let mut beat = agent.beat();
    beat.sent_at = None;
    agent.client.heartbeat(beat.clone()).await.unwrap();
    assert_eq!(api.agent(&agent.id).await.status, "online");
    beat.status = Said::Draining.into();
    agent.client.heartbeat(beat.clone()).await.unwrap();
    assert_eq!(api.agent(&agent.id).await.status, "draining");
    beat.status = 77;
    agent.client.heartbeat(beat).await.unwrap();
    assert_eq!(api.agent(&agent.id).await.status, "degraded");
}

#[tokio::test]
async fn a_heartbeat_of_who_never_registered_is_told_to_register() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    for status in [agent.heartbeat().await.unwrap_err(), agent.report(&[1]).await.unwrap_err()] {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::FailedPrecondition, "NOT_REGISTERED")
        );
    }
    agent.register().await.unwrap();
    agent.heartbeat().await.unwrap();
}

#[tokio::test]
async fn of_two_hosts_with_one_id_the_newest_counts_and_both_are_told() {
    let api = Api::start().await;
    let mut first = Agent::new(&api).await;
    first.register().await.unwrap();
    let mut second = first.double(&api).await;
    let mut ask = second.registration();
    (ask.name, ask.address) = ("pc-2".to_owned(), "100.64.0.9:9090".to_owned());
    let answer = second.client.register(ask).await.unwrap().into_inner();
    assert_eq!(answer.superseded, "pc-1 at 127.0.0.1:9");
    for status in [first.heartbeat().await.unwrap_err(), first.report(&[1]).await.unwrap_err()] {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::FailedPrecondition, "SUPERSEDED")
        );
    }
    second.heartbeat().await.unwrap();
    assert_eq!(api.agents().await.len(), 1);
    assert_eq!(api.agent(&first.id).await.name, "pc-2");
    let records = api.audit().await;
    assert_eq!(records.last().unwrap().what, "agent superseded");
    assert!(records.last().unwrap().detail.contains("pc-1 at 127.0.0.1:9 by pc-2"));
}

#[tokio::test]
async fn an_older_process_has_its_id_back_when_the_newer_one_has_said_its_last_word() {
    let api = Api::start().await;
    let mut first = Agent::new(&api).await;
    first.register().await.unwrap();
    let mut second = first.double(&api).await;
    second.register().await.unwrap();
    assert_eq!(reason(&first.heartbeat().await.unwrap_err()), "SUPERSEDED");
    let mut last_word = second.beat();
    last_word.status = Said::Draining.into();
    second.client.heartbeat(last_word).await.unwrap();
    assert_eq!(reason(&first.heartbeat().await.unwrap_err()), "NOT_REGISTERED");
    first.register().await.unwrap();
    first.heartbeat().await.unwrap();
}

#[tokio::test]
async fn an_agent_whose_hypervisor_is_away_at_its_start_is_heard_all_the_same() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    let ask = RegisterRequest { capacity: None, ..agent.registration() };
    agent.client.register(ask).await.unwrap();
    agent.heartbeat().await.unwrap();
}

#[tokio::test]
async fn who_follows_a_process_that_ended_or_fell_silent_supersedes_nobody() {
    let api = Api::start().await;
    let mut first = Agent::new(&api).await;
    first.register().await.unwrap();
    let mut last_word = first.beat();
    last_word.status = Said::Draining.into();
    first.client.heartbeat(last_word).await.unwrap();
    let mut second = first.double(&api).await;
    assert_eq!(second.register().await.unwrap().superseded, "");
    api.clock.advance(90);
    let mut third = first.double(&api).await;
    assert_eq!(third.register().await.unwrap().superseded, "");
    let mut fourth = first.double(&api).await;
    assert_ne!(fourth.register().await.unwrap().superseded, "");
}

#[tokio::test]
async fn the_same_process_registers_as_often_as_it_likes_and_leaves_one_record() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    let before = api.audit().await.len();
    for ram in [8.0, 7.0, 7.0] {
        let ask = RegisterRequest { capacity: Some(capacity(ram)), ..agent.registration() };
        assert_eq!(agent.client.register(ask).await.unwrap().into_inner().superseded, "");
    }
    assert_eq!(api.audit().await.len(), before);
    let ram = api.agent(&agent.id).await.capacity.unwrap().ram.unwrap().available;
    assert!((ram - 7.0 * 1_073_741_824.0).abs() < 1.0, "{ram}");
}

#[tokio::test]
async fn a_clock_that_is_a_day_off_is_told_and_not_refused() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    let mut beat = agent.beat();
    beat.sent_at.as_mut().unwrap().seconds += 86_400;
    agent.client.heartbeat(beat).await.unwrap();
    let seen = api.agent(&agent.id).await;
    assert_eq!(seen.status, "online");
    // The clock of the test may tick between the two.
    assert!(
        seen.reasons[0].contains("s ahead")
            && seen.reasons[0].contains("863") | seen.reasons[0].contains("864"),
        "{:?}",
        seen.reasons
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_words() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    let good = agent.registration();
    let nan = || {
        let mut wrong = capacity(1.0);
        wrong.ram.as_mut().unwrap().available = f64::NAN;
        Some(wrong)
    };
    for (what, wrong) in [
        ("instance", RegisterRequest { instance: "x".to_owned(), ..good.clone() }),
        ("name", RegisterRequest { name: "\u{1b}[2J".to_owned(), ..good.clone() }),
        ("address", RegisterRequest { address: "http://x".to_owned(), ..good.clone() }),
        ("capacity", RegisterRequest { capacity: nan(), ..good.clone() }),
        ("templates", RegisterRequest { templates: vec![String::new(); 300], ..good.clone() }),
    ] {
        let status = agent.client.register(wrong).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "BAD_REGISTRATION")
        );
        assert!(status.message().contains(what), "{status:?}");
    }
    agent.register().await.unwrap();
    let mut beat = agent.beat();
    beat.capacity = nan();
    let status = agent.client.heartbeat(beat).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "BAD_HEARTBEAT"));
}
