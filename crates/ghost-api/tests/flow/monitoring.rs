//! What monitoring reads.

use std::sync::Arc;

use ghost_api::store::memory::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::agent::Agent;
use crate::api::Api;

async fn get(api: &Api, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(api.server().http.unwrap()).await.unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.heartbeat().await.unwrap_err();
    agent.register().await.unwrap();
    agent.heartbeat().await.unwrap();
    agent.heartbeat().await.unwrap();
    agent.report(&[1, 2, 3]).await.unwrap();
    agent.report(&[1, 2, 3]).await.unwrap();
    let (head, body) = get(&api, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("version=0.0.4"), "{head}");
    for line in [
        "ghost_api_agents{status=\"online\"} 1",
        "ghost_api_agents{status=\"offline\"} 0",
        "ghost_api_heartbeats_total 2",
        "ghost_api_events_total 3",
        "ghost_api_enrolments_total 1",
        "ghost_api_registrations_total 1",
        "ghost_api_refused_calls_total{reason=\"NOT_REGISTERED\"} 1",
    ] {
        assert!(body.lines().any(|one| one == line), "no {line} in {body}");
    }
}

#[tokio::test]
async fn health_is_told_and_nothing_else() {
    let api = Api::start().await;
    assert!(get(&api, "/healthz").await.1.contains("\"healthy\""));
    assert!(get(&api, "/secrets").await.0.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn whoever_holds_connections_and_asks_nothing_keeps_no_probe_out() {
    let api = Api::start().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(api.server().http.unwrap()).await.unwrap());
    }
    assert!(get(&api, "/healthz").await.1.contains("\"healthy\""));
}

#[tokio::test]
async fn a_store_that_fails_is_unhealthy_until_it_works_again() {
    let store = Arc::new(MemoryStore::default());
    let api = Api::start_on(store.clone()).await;
    store.fail(Some("/secret: no space left on device"));
    let (head, body) = get(&api, "/healthz").await;
    assert!(head.starts_with("HTTP/1.1 503") && body.contains("\"unhealthy\""), "{head} {body}");
    assert!(!body.contains("secret"), "{body}");
    assert!(get(&api, "/metrics").await.1.contains("\nghost_api_store_failing 1\n"));
    store.fail(None);
    assert!(get(&api, "/healthz").await.0.starts_with("HTTP/1.1 200"));
}
