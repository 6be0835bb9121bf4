//! Mutual TLS 1.3 with the certificates of `certs init`, and each way in which it can fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::fake_agent::FakeAgent;
use crate::run::{Outcome, agentctl};

/// A folder that `certs init` filled.
struct Certs(tempfile::TempDir);

impl Certs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = agentctl(&["certs", "init", folder.path().to_str().unwrap()]);
        assert_eq!(run.code, 0, "{run:?}");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Signs a certificate of its own into NAME.crt and NAME.key.
    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let ca_key = KeyPair::from_pem(&std::fs::read_to_string(self.path("ca.key")).unwrap());
        let ca_pem = std::fs::read_to_string(self.path("ca.crt")).unwrap();
        let ca = Issuer::from_ca_cert_pem(&ca_pem, ca_key.unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        std::fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn in_the_past(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 31);
}

fn in_the_future(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2100, 1, 1);
    params.not_after = rcgen::date_time_ymd(2101, 1, 1);
}

/// An agent that presents NAME.crt of `certs` and wants clients of the CA in `client_ca`.
fn agent(certs: &Certs, name: &str, client_ca: &Path) -> (FakeAgent, String) {
    agent_speaking(certs, name, client_ca, &rustls::version::TLS13)
}

fn agent_speaking(
    certs: &Certs,
    name: &str,
    client_ca: &Path,
    version: &'static rustls::SupportedProtocolVersion,
) -> (FakeAgent, String) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(client_ca).unwrap()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = vec![CertificateDer::from_pem_file(certs.path(&format!("{name}.crt"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certs.path(&format!("{name}.key"))).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    FakeAgent::on_tls(config)
}

fn list(addr: &str, certs: &Certs, more: &[&str]) -> Outcome {
    let dir = certs.path("");
    let all = ["--addr", addr, "--certs", dir.to_str().unwrap(), "vm", "list", "-o", "json"];
    agentctl(&[&all[..], more].concat())
}

fn refused(run: &Outcome, words: &str) {
    assert_eq!(run.code, 9, "{run:?}");
    assert!(run.error_json()["error"]["remedy"].is_string(), "{run:?}");
    assert!(run.stderr.contains(words), "{words:?} in {run:?}");
}

#[test]
fn operator_and_agent_know_each_other_by_the_certificates_of_init() {
    let certs = Certs::new();
    let (agent, addr) = agent(&certs, "agent", &certs.path("ca.crt"));
    let _agent = agent.with_vms(&["web-1"]);
    let run = list(&addr, &certs, &[]);
    assert_eq!(run.json()[0]["name"], "web-1", "{run:?}");
}

#[test]
fn an_agent_of_another_ca_is_not_believed() {
    let (certs, other) = (Certs::new(), Certs::new());
    let (_agent, addr) = agent(&other, "agent", &other.path("ca.crt"));
    refused(&list(&addr, &certs, &[]), "is not signed by your CA");
}

#[test]
fn an_expired_agent_is_named_with_its_date() {
    let certs = Certs::new();
    certs.sign("old", in_the_past);
    let (_agent, addr) = agent(&certs, "old", &certs.path("ca.crt"));
    refused(&list(&addr, &certs, &[]), "expired on 2021-01-31");
}

#[test]
fn an_agent_of_the_future_points_at_the_clocks() {
    let certs = Certs::new();
    certs.sign("young", in_the_future);
    let (_agent, addr) = agent(&certs, "young", &certs.path("ca.crt"));
    refused(&list(&addr, &certs, &[]), "compare the clocks");
}

#[test]
fn an_agent_of_another_name_is_not_believed_until_that_name_is_asked_for() {
    let certs = Certs::new();
    certs.sign("pc", |params| {
        params.subject_alt_names = vec![SanType::DnsName("pc.vpn".try_into().unwrap())];
    });
    let (_agent, addr) = agent(&certs, "pc", &certs.path("ca.crt"));
    refused(&list(&addr, &certs, &[]), "is for pc.vpn, not for 127.0.0.1");
    assert_eq!(list(&addr, &certs, &["--server-name", "pc.vpn"]).code, 0);
}

#[test]
fn an_operator_cannot_pose_as_an_agent() {
    let certs = Certs::new();
    certs.sign("poser", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let (_agent, addr) = agent(&certs, "poser", &certs.path("ca.crt"));
    refused(&list(&addr, &certs, &[]), "is not one of a server");
}

#[test]
fn a_client_of_another_ca_is_told_so() {
    let (certs, other) = (Certs::new(), Certs::new());
    let (_agent, addr) = agent(&certs, "agent", &certs.path("ca.crt"));
    let (cert, key) = (other.path("operator.crt"), other.path("operator.key"));
    // The refusal travels after the handshake and races with our first write: each time it must be seen.
    for _ in 0..10 {
        let stranger = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
        refused(
            &list(&addr, &certs, &stranger),
            "does not know the CA that signed your certificate",
        );
    }
}

#[test]
fn an_expired_client_is_told_so() {
    let certs = Certs::new();
    let (_agent, addr) = agent(&certs, "agent", &certs.path("ca.crt"));
    certs.sign("operator", in_the_past);
    refused(&list(&addr, &certs, &[]), "your certificate has expired");
}

#[test]
fn a_server_certificate_is_no_clients() {
    let certs = Certs::new();
    let (_agent, addr) = agent(&certs, "agent", &certs.path("ca.crt"));
    certs.sign("operator", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert_eq!(list(&addr, &certs, &[]).code, 9);
}

#[test]
fn tls_1_2_is_not_spoken() {
    let certs = Certs::new();
    let (_agent, addr) =
        agent_speaking(&certs, "agent", &certs.path("ca.crt"), &rustls::version::TLS12);
    let run = list(&addr, &certs, &[]);
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.stderr.contains("TLS 1.3"), "{run:?}");
}

#[test]
fn a_port_without_tls_or_without_anyone_is_unavailable() {
    let certs = Certs::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let plain = std::thread::spawn(move || {
        use std::io::Write as _;
        listener.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let run = list(&addr, &certs, &[]);
    plain.join().unwrap();
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.stderr.contains("is not an agent's TLS port"), "{run:?}");
    let run = list(&addr, &certs, &[]);
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.stderr.contains("refused the connection"), "{run:?}");
}

#[test]
fn files_that_are_missing_wrong_or_do_not_match_are_named() {
    let (certs, other) = (Certs::new(), Certs::new());
    let junk = certs.path("junk");
    std::fs::write(&junk, "not a certificate").unwrap();
    let foreign = other.path("operator.key");
    for (option, value, words) in [
        ("--ca", Path::new("/no/ca.crt"), "cannot read /no/ca.crt"),
        ("--ca", &junk, "no certificate in it"),
        ("--cert", &junk, "no certificate in it"),
        ("--key", &junk, "junk cannot be used"),
        ("--key", &foreign, "does not belong to the certificate"),
    ] {
        let run = list("127.0.0.1:1", &certs, &[option, value.to_str().unwrap()]);
        assert_eq!(run.code, 2, "{option} {run:?}");
        assert!(run.stderr.contains(words), "{words} in {run:?}");
    }
}

/// `certs status` of the folder, for the agent at that address.
fn status(addr: &str, certs: &Certs) -> Outcome {
    let dir = certs.path("");
    agentctl(&["certs", "status", dir.to_str().unwrap(), "--addr", addr, "-o", "json"])
}

#[test]
fn status_says_whether_the_running_agent_shows_the_files_certificate() {
    let certs = Certs::new();
    let (_agent, addr) = agent(&certs, "agent", &certs.path("ca.crt"));
    let run = status(&addr, &certs);
    assert_eq!((run.code, &run.json()["running"]["same_as_file"]), (0, &true.into()), "{run:?}");
    certs.sign("agent", |_| {});
    let run = status(&addr, &certs);
    assert_eq!((run.code, &run.json()["running"]["same_as_file"]), (0, &false.into()), "{run:?}");
    assert!(run.stderr.contains("shows another certificate"), "{run:?}");
}

#[test]
fn status_shows_certificates_that_are_over_and_fails() {
    let certs = Certs::new();
    certs.sign("old", in_the_past);
    let (_agent, addr) = agent(&certs, "old", &certs.path("ca.crt"));
    let run = status(&addr, &certs);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("to 2021-01-31T00:00:00Z only"), "{run:?}");
    certs.sign("agent", in_the_past);
    let run = status(&addr, &certs);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("agent.crt expired on 2021-01-31"), "{run:?}");
    certs.sign("agent", in_the_future);
    let run = status(&addr, &certs);
    assert!(run.code == 1 && run.stderr.contains("is not valid before 2100"), "{run:?}");
}

#[test]
fn status_of_an_agent_that_is_not_there_is_a_failure_of_its_own() {
    let certs = Certs::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let run = status(&free.to_string(), &certs);
    assert_eq!(run.code, 7, "{run:?}");
}
