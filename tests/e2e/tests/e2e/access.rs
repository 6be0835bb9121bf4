//! Who may command: nobody without a proven, permitted identity.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ghost_e2e::agent::Home;
use ghost_e2e::certs::{Certs, Identity, Validity};
use ghost_e2e::client;
use ghost_e2e::ctl::Ctl;
use ghost_proto::agentpb::ListVMsRequest;
use ghost_proto::agentpb::agent_service_client::AgentServiceClient;
use rustix::process::{Resource, Rlimit, prlimit};
use rustls::crypto::ring;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;

/// Longest call of somebody whom nobody holds up: a tenth of it is usual.
const PROMPT: Duration = Duration::from_secs(5);

/// What a client with that version and certificate says of itself.
fn tls(
    certs: &Certs,
    version: &'static SupportedProtocolVersion,
    who: Option<&Identity>,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.ca()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match who {
        None => builder.with_no_client_auth(),
        Some(who) => {
            let cert = CertificateDer::from_pem_file(&who.cert).unwrap();
            builder
                .with_client_auth_cert(vec![cert], PrivateKeyDer::from_pem_file(&who.key).unwrap())
                .unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// A connection that the agent has taken, or nothing if it refuses.
async fn connect(address: SocketAddr, tls: &TlsConnector) -> Option<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = tls.connect("localhost".try_into().unwrap(), stream).await.ok()?;
    // TLS 1.3 tells a client that it is refused after its own handshake has ended: read on. A
    // server that accepts sends its HTTP/2 settings.
    stream.read_u8().await.ok()?;
    Some(stream)
}

/// Whether the agent takes a handshake with that version and certificate.
async fn shakes_hands(
    address: SocketAddr,
    certs: &Certs,
    version: &'static SupportedProtocolVersion,
    who: Option<&Identity>,
) -> bool {
    connect(address, &tls(certs, version, who)).await.is_some()
}

/// Whether a list of VMs comes, and soon.
async fn is_served(ctl: &Ctl) -> bool {
    let ended = tokio::time::timeout(PROMPT, ctl.run(["vm", "list"])).await;
    ended.is_ok_and(|ended| ended.unwrap().code == Some(0))
}

#[tokio::test]
async fn only_tls_1_3_with_a_valid_certificate_of_our_ca_is_talked_to() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let address = agent.address().unwrap();
    let operator = home.certs.operator();
    let expired = home.certs.issue("spiffe://ghost/operator", Validity::Past).unwrap();
    let foreign = home.certs.issue_elsewhere("spiffe://ghost/operator").unwrap();
    let (tls13, tls12) = (&rustls::version::TLS13, &rustls::version::TLS12);
    assert!(shakes_hands(address, &home.certs, tls13, Some(&operator)).await, "the operator");
    assert!(!shakes_hands(address, &home.certs, tls12, Some(&operator)).await, "TLS 1.2");
    assert!(!shakes_hands(address, &home.certs, tls13, None).await, "no certificate");
    assert!(!shakes_hands(address, &home.certs, tls13, Some(&expired)).await, "an expired one");
    assert!(!shakes_hands(address, &home.certs, tls13, Some(&foreign)).await, "one of another CA");
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_certificate_whose_name_is_not_allowed_may_do_nothing() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let address = agent.address().unwrap();
    let stranger = home.certs.issue("spiffe://ghost/operator/2", Validity::Now).unwrap();
    let channel = client::channel(address, &home.certs, &stranger).await.unwrap();
    let refused =
        AgentServiceClient::new(channel.clone()).list_v_ms(ListVMsRequest::default()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("grpc.allowed_clients"), "{refused}");
    let health = tonic_health::pb::health_client::HealthClient::new(channel)
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await;
    assert_eq!(health.unwrap_err().code(), Code::PermissionDenied);
    let ctl = Ctl::over_tls_as(address, &home.certs, &stranger).unwrap();
    assert_eq!(ctl.run(["vm", "list"]).await.unwrap().code, Some(9));
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_dns_name_spelled_like_the_operators_uri_is_not_obeyed() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let address = agent.address().unwrap();
    let lookalike = home.certs.issue_dns("spiffe://ghost/operator").unwrap();
    let channel = client::channel(address, &home.certs, &lookalike).await.unwrap();
    let answer = AgentServiceClient::new(channel).list_v_ms(ListVMsRequest::default()).await;
    assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn each_connection_proves_its_certificate_anew() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let address = agent.address().unwrap();
    // One connector for both: it would resume the first session if the agent offered it.
    let tls = tls(&home.certs, &rustls::version::TLS13, Some(&home.certs.operator()));
    for _ in 0..2 {
        let stream = connect(address, &tls).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn silent_sockets_do_not_keep_the_operator_out() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let address = agent.address().unwrap();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(is_served(&home.ctl(&agent).unwrap()).await, "{:#?}", agent.log());
    agent.until("refused a connection", PROMPT).await.unwrap();
    let refusals = agent.log().iter().filter(|line| line.contains("refused a connection")).count();
    assert!(refusals < 20, "{refusals} lines for 200 sockets");
    drop(silent);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn connections_that_may_not_command_keep_nobody_out() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let address = agent.address().unwrap();
    let files = Rlimit { current: Some(256), maximum: Some(256) };
    prlimit(Some(agent.pid().unwrap()), Resource::Nofile, files).unwrap();
    let stranger = home.certs.issue("spiffe://ghost/operator/2", Validity::Now).unwrap();
    let tls = tls(&home.certs, &rustls::version::TLS13, Some(&stranger));
    let mut open = Vec::new();
    for _ in 0..300 {
        let connection = tokio::time::timeout(PROMPT, connect(address, &tls)).await;
        open.extend(connection.expect("an answer in time"));
    }
    assert!(is_served(&home.ctl(&agent).unwrap()).await, "the operator is kept out");
    assert!(is_served(&Ctl::over_socket(&home.socket())).await, "the unix socket is kept from us");
    assert_eq!(open.len(), 8, "as many as are told why they are refused");
    drop(open);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn health_is_served_to_those_who_are_allowed() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let channel = client::channel(agent.address().unwrap(), &home.certs, &home.certs.operator())
        .await
        .unwrap();
    let request =
        tonic_health::pb::HealthCheckRequest { service: "agentpb.AgentService".to_owned() };
    let answer =
        tonic_health::pb::health_client::HealthClient::new(channel).check(request).await.unwrap();
    assert_eq!(
        answer.into_inner().status(),
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn reflection_describes_the_api_to_this_host() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let address = agent.address().unwrap();
    let channel = client::channel(address, &home.certs, &home.certs.operator()).await.unwrap();
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        unreachable!("{answer:?}")
    };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"agentpb.AgentService"), "{names:?}");
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn the_unix_socket_serves_without_certificates_and_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let ctl = Ctl::over_socket(&home.socket());
    assert_eq!(ctl.run(["vm", "list"]).await.unwrap().code, Some(0));
    let mode = std::fs::metadata(home.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    agent.stop().await.unwrap();
    assert_eq!(ctl.run(["vm", "list"]).await.unwrap().code, Some(7), "the agent is gone");
}
