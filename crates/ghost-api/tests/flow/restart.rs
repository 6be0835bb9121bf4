//! What is there after a restart.

use crate::agent::Agent;
use crate::api::{Api, reason};

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let mut api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    let unused = api.key("").await;
    agent.register().await.unwrap();
    agent.heartbeat().await.unwrap();
    agent.report(&[1, 4]).await.unwrap();
    let (agents, audit) = (api.agents().await, api.audit().await);
    api.restart().await;
    assert_eq!(api.agents().await, agents);
    assert_eq!(api.audit().await, audit);
    agent.reconnect(&api).await;
    // The same process needs not register again: the contract lets it, and the answer is the same.
    assert_eq!(agent.heartbeat().await.unwrap().last_event, 4);
    assert_eq!(agent.report(&[4, 5]).await.unwrap(), 5);
    let own = rcgen::KeyPair::generate().unwrap();
    let id = uuid::Uuid::new_v4().to_string();
    crate::agent::enrol(&api, &unused, &id, &own).await.unwrap();
    let another = rcgen::KeyPair::generate().unwrap();
    let status = crate::agent::enrol(&api, &unused, &id, &another).await.unwrap_err();
    assert_eq!(reason(&status), "KEY_USED");
}

#[tokio::test]
async fn records_are_numbered_without_gaps_over_restarts() {
    let mut api = Api::start().await;
    for _ in 0..3 {
        api.key("").await;
        api.restart().await;
    }
    let numbers: Vec<u64> = api.audit().await.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(api.audit().await[0].who.starts_with("uid "));
}
