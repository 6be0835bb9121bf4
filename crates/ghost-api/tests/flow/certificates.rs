//! What TLS lets through.

use std::path::Path;

use ghost_proto::controlplane::{
    HeartbeatRequest, RegisterRequest, RenewRequest, ReportEventsRequest,
};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::Code;

use crate::agent::{Agent, capacity};
use crate::api::{Api, Client, Identity, init, reason, tls, tls_of};

fn of_files(folder: &Path, name: &str) -> Identity {
    let file = |end| folder.join(format!("{name}.{end}"));
    let certificate = CertificateDer::from_pem_file(file("crt")).unwrap();
    (vec![certificate], PrivateKeyDer::from_pem_file(file("key")).unwrap())
}

fn registration() -> RegisterRequest {
    RegisterRequest {
        instance: uuid::Uuid::new_v4().to_string(),
        name: "pc-1".to_owned(),
        capacity: Some(capacity(1.0)),
        ..Default::default()
    }
}

/// What becomes of a client with that certificate: TLS 1.3 tells it after its side of the handshake.
async fn outcome(connected: Result<Client, Box<dyn std::error::Error>>) -> Result<(), String> {
    let mut client = connected.map_err(|error| error.to_string())?;
    client.register(registration()).await.map(drop).map_err(|status| format!("{status:?}"))
}

#[tokio::test]
async fn every_call_but_the_first_needs_an_agents_certificate() {
    let api = Api::start().await;
    let operator = tls(&api.ca(), Some(of_files(&api.dir(), "operator")));
    for mut client in [api.stranger().await, api.connect(operator).await.unwrap()] {
        let statuses = [
            client.register(registration()).await.unwrap_err(),
            client.renew(RenewRequest::default()).await.unwrap_err(),
            client.heartbeat(HeartbeatRequest::default()).await.unwrap_err(),
            client.report_events(ReportEventsRequest::default()).await.unwrap_err(),
        ];
        for status in statuses {
            assert_eq!(
                (status.code(), reason(&status).as_str()),
                (Code::Unauthenticated, "NO_CERTIFICATE")
            );
        }
    }
}

#[tokio::test]
async fn another_authoritys_certificate_is_refused_whatever_it_says() {
    let api = Api::start().await;
    let agent = Agent::new(&api).await;
    let elsewhere = tempfile::tempdir().unwrap();
    init(&elsewhere.path().join("api"));
    let foreign = of_files(&elsewhere.path().join("api"), "operator");
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        vec![SanType::URI(format!("spiffe://ghost/agent/{}", agent.id).try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let forged = params.self_signed(&key).unwrap().der().clone();
    let forged = (vec![forged], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    for identity in [foreign, forged] {
        let refused = outcome(api.connect(tls(&api.ca(), Some(identity))).await).await.unwrap_err();
        assert!(
            refused.contains("UnknownCA")
                || refused.contains("DecryptError")
                || refused.contains("BadCertificate"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn an_agent_trusts_no_other_authority_than_that_of_its_key() {
    let api = Api::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    init(&elsewhere.path().join("api"));
    let other = CertificateDer::from_pem_file(elsewhere.path().join("api/ca.crt")).unwrap();
    assert!(api.connect(tls(&other, None)).await.is_err());
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let api = Api::start().await;
    let old = tls_of(&api.ca(), None, &[&rustls::version::TLS12]);
    let refused = api.connect(old).await.err().unwrap().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
}

#[tokio::test]
async fn a_certificate_that_ended_while_the_connection_was_open_is_worth_nothing() {
    let api = Api::start().await;
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    api.clock.advance(30 * 86_400 + 1);
    let status = agent.heartbeat().await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unauthenticated, "CERTIFICATE_ENDED")
    );
}

#[tokio::test]
async fn who_says_nothing_holds_up_nobody() {
    let api = Api::start().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(tokio::net::TcpStream::connect(api.server().address).await.unwrap());
    }
    let mut agent = Agent::new(&api).await;
    agent.register().await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn who_says_nothing_is_hung_up_on() {
    let api = Api::start().await;
    let mut silent = tokio::net::TcpStream::connect(api.server().address).await.unwrap();
    let read = tokio::io::AsyncReadExt::read_u8(&mut silent);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(15), read).await.unwrap();
    assert!(ended.is_err());
}
