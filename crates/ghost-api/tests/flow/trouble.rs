//! A store that fails, or is slow.

use std::sync::Arc;

use ghost_api::store::Agents as _;
use ghost_api::store::memory::MemoryStore;
use rcgen::KeyPair;
use tonic::Code;
use uuid::Uuid;

use crate::agent::{self, Agent};
use crate::api::{Api, reason};

#[tokio::test]
async fn while_the_store_fails_nothing_changes_and_agents_are_told_to_try_again() {
    let store = Arc::new(MemoryStore::default());
    let api = Api::start_on(store.clone()).await;
    let mut agent = Agent::new(&api).await;
    let unused = api.key("").await;
    store.fail(Some("/secret: no space left on device"));
    let own = KeyPair::generate().unwrap();
    let id = Uuid::new_v4().to_string();
    for status in [
        agent.register().await.unwrap_err(),
        agent::enrol(&api, &unused, &id, &own).await.unwrap_err(),
    ] {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STORE_FAILED"));
        assert!(!format!("{status:?}").contains("secret"));
    }
    assert_eq!(reason(&agent.heartbeat().await.unwrap_err()), "NOT_REGISTERED");
    store.fail(None);
    agent.register().await.unwrap();
    store.fail(Some("no space left on device"));
    // A heartbeat needs no disk.
    agent.heartbeat().await.unwrap();
    assert_eq!(reason(&agent.report(&[1]).await.unwrap_err()), "STORE_FAILED");
    assert_eq!(agent.heartbeat().await.unwrap().last_event, 0);
    assert!(api.server().plane().save().await.is_err());
    store.fail(None);
    assert_eq!(agent.report(&[1]).await.unwrap(), 1);
    let vms = async || store.agents().await.unwrap()[0].heard.as_ref().unwrap().vms;
    assert_eq!(vms().await, 0);
    api.server().plane().save().await.unwrap();
    assert_eq!(vms().await, 2);
    agent::enrol(&api, &unused, &id, &own).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_hangs_up_while_it_enrols_is_known_and_gets_its_answer_at_the_next_try() {
    let store = Arc::new(MemoryStore::default());
    let api = Api::start_on(store.clone()).await;
    let (key, own, id) =
        (api.key("").await, KeyPair::generate().unwrap(), Uuid::new_v4().to_string());
    let held = store.hold().await;
    let came = async {
        while store.came() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answered = agent::enrol(&api, &key, &id, &own) => panic!("{answered:?}"),
        () = came => {}
    }
    drop(held);
    let known = async {
        while api.agents().await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), known).await.unwrap();
    agent::enrol(&api, &key, &id, &own).await.unwrap();
}
