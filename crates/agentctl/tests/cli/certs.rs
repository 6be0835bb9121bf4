//! `certs init`, `certs show` and `certs status`: what they write is what the design promises.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::*;

use crate::run::agentctl;

const FILES: [&str; 6] =
    ["agent.crt", "agent.key", "ca.crt", "ca.key", "operator.crt", "operator.key"];

fn init(dir: &Path, more: &[&str]) -> crate::run::Outcome {
    agentctl(&[&["certs", "init", dir.to_str().unwrap()], more].concat())
}

fn der(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let extension = certificate.subject_alternative_name().unwrap().unwrap();
    extension
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::URI(text) | GeneralName::DNSName(text) => (*text).to_owned(),
            GeneralName::IPAddress(bytes) => format!("{bytes:?}"),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn six_files_are_made_and_the_keys_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new/certs");
    let run = init(&dir, &[]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("tls_ca:") && run.stdout.contains("agentctl --addr"), "{run:?}");
    let made: BTreeSet<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(made, FILES.map(str::to_owned).into());
    for file in FILES {
        let mode = dir.join(file).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if file.ends_with(".key") { 0o600 } else { 0o644 }, "{file}");
    }
}

#[test]
fn the_ca_signs_and_does_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), &[]);
    let der = der(&folder.path().join("ca.crt"));
    let (_, ca) = X509Certificate::from_der(&der).unwrap();
    let constraints = ca.basic_constraints().unwrap().unwrap().value;
    assert_eq!((constraints.ca, constraints.path_len_constraint), (true, Some(0)));
    let usage = ca.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && !usage.digital_signature());
    let life = ca.validity().not_after - ca.validity().not_before;
    assert_eq!(life.unwrap().whole_days(), 3650);
}

#[test]
fn the_agent_and_the_operator_carry_their_names_and_purposes() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--agent-name", "pc-7", "--san", "10.64.0.7", "--san", "pc.vpn", "--days", "30"];
    init(folder.path(), &more);
    let (agent, operator) =
        (der(&folder.path().join("agent.crt")), der(&folder.path().join("operator.crt")));
    let (_, agent) = X509Certificate::from_der(&agent).unwrap();
    let found = names(&agent);
    for name in
        ["spiffe://ghost/agent/pc-7", "localhost", "[127, 0, 0, 1]", "[10, 64, 0, 7]", "pc.vpn"]
    {
        assert!(found.contains(&name.to_owned()), "{name} in {found:?}");
    }
    let purposes = agent.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth);
    let (_, operator) = X509Certificate::from_der(&operator).unwrap();
    assert_eq!(names(&operator), ["spiffe://ghost/operator"]);
    let purposes = operator.extended_key_usage().unwrap().unwrap().value;
    assert!(!purposes.server_auth && purposes.client_auth);
    for certificate in [&agent, &operator] {
        assert!(!certificate.is_ca());
        let validity = certificate.validity();
        assert_eq!((validity.not_after - validity.not_before).unwrap().whole_days(), 30);
        let hour_ago = ASN1Time::now().timestamp() - 3600;
        assert!((hour_ago - validity.not_before.timestamp()).abs() < 120);
    }
}

#[test]
fn what_is_there_is_kept_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("operator.key"), "mine").unwrap();
    let run = init(folder.path(), &[]);
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("operator.key") && run.stderr.contains("--force"), "{run:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    assert_eq!(init(folder.path(), &["--force"]).code, 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 6);
    assert_ne!(std::fs::read_to_string(folder.path().join("operator.key")).unwrap(), "mine");
}

#[test]
fn nonsense_is_refused_and_makes_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("certs");
    for more in [["--days", "0"], ["--days", "3650"], ["--san", "a b"], ["--agent-name", "a/b"]] {
        let run = init(&dir, &more);
        assert_eq!(run.code, 2, "{more:?}: {run:?}");
    }
    assert!(!dir.exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let run = init(Path::new("/proc/certs"), &[]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("/proc/certs"), "{run:?}");
}

#[test]
fn show_reads_back_what_init_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let made = init(folder.path(), &["--agent-name", "pc-7", "-o", "json"]).json();
    assert_eq!(made["agent"], "spiffe://ghost/agent/pc-7");
    let file = folder.path().join("agent.crt");
    let shown = agentctl(&["certs", "show", file.to_str().unwrap(), "-o", "json"]).json();
    assert_eq!(shown[0]["names"][0], "spiffe://ghost/agent/pc-7");
    assert_eq!((&shown[0]["valid_now"], &shown[0]["ca"]), (&true.into(), &false.into()));
    let key = folder.path().join("agent.key");
    let run = agentctl(&["certs", "show", key.to_str().unwrap()]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("no certificate"), "{run:?}");
}

fn status(dir: &Path, more: &[&str]) -> crate::run::Outcome {
    agentctl(&[&["certs", "status", dir.to_str().unwrap(), "-o", "json"], more].concat())
}

#[test]
fn status_says_how_long_the_agent_will_be_believed() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), &["--agent-name", "pc-7"]);
    let run = status(folder.path(), &[]);
    let json = run.json();
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    assert_eq!(json["agent"]["names"][0], "spiffe://ghost/agent/pc-7");
    let left = json["remaining_seconds"].as_i64().unwrap();
    assert!((365 * 86_400 - 120..=365 * 86_400).contains(&left), "{left}");
    assert_eq!(json["key"], "belongs");
    let table = agentctl(&["certs", "status", folder.path().to_str().unwrap()]);
    let told = ["365 d 0 h left", "364 d 23 h left"].iter().any(|left| table.stdout.contains(left));
    assert!(told, "{table:?}");
}

#[test]
fn less_than_a_week_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path(), &["--days", "6"]);
    let run = status(folder.path(), &[]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.stderr.contains("warning: ") && run.stderr.contains("agent.crt expires in "),
        "{run:?}"
    );
}

#[test]
fn what_does_not_belong_together_is_a_problem() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    init(one.path(), &[]);
    init(other.path(), &[]);
    std::fs::copy(other.path().join("agent.key"), one.path().join("agent.key")).unwrap();
    let run = status(one.path(), &[]);
    assert_eq!((run.code, &run.json()["key"]), (1, &"belongs_to_another".into()), "{run:?}");
    std::fs::copy(other.path().join("agent.crt"), one.path().join("agent.crt")).unwrap();
    let run = status(one.path(), &[]);
    assert_eq!((run.code, &run.json()["key"]), (1, &"belongs".into()), "{run:?}");
    assert!(run.stderr.contains("is not signed for an agent by ca.crt"), "{run:?}");
}

#[test]
fn a_folder_without_an_agents_certificate_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let run = status(folder.path(), &[]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stderr.contains("agent.crt does not exist"), "{run:?}");
    init(folder.path(), &[]);
    std::fs::write(folder.path().join("agent.crt"), "garbage").unwrap();
    let run = status(folder.path(), &[]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("there is no certificate in it"), "{run:?}");
}
