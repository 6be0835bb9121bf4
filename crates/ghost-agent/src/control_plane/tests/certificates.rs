//! Enrolment and renewal.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use ghost_core::application::backoff::Dice;
use ghost_core::domain::control::{ControlError, Refusal};
use ghost_host::SystemClock;
use tempfile::TempDir;
use tonic::Code;

use super::authority::{AGENT, Authority, NOW, PAST, files_in, source};
use super::server::{Conduct, Fake};
use crate::config::{ApiKey, TlsFiles};
use crate::control_plane::client::GrpcControlPlane;
use crate::control_plane::enrol::{Enrolment, EnrolmentKey};
use crate::control_plane::files::fits;
use crate::control_plane::issued::Asked;
use crate::control_plane::renew::Renewal;

/// A host that was given that key.
fn enrolment(fake: &Fake, folder: &TempDir, key: &str) -> Enrolment {
    let files = files_in(folder.path());
    Enrolment {
        agent: AGENT,
        name: "attic".to_owned(),
        target: fake.target(),
        key: ApiKey::read(key).unwrap(),
        credentials: source(&files),
        files,
        clock: Arc::new(SystemClock::new()),
        dice: Dice::seeded(1),
    }
}

async fn refused(enrolment: &Enrolment) -> ControlError {
    let key = EnrolmentKey::parse(enrolment.key.as_ref().unwrap()).ok().unwrap();
    let error = enrolment.enrol(&key, Asked::of(AGENT).unwrap()).await.unwrap_err();
    assert!(!enrolment.files.cert.exists() && !enrolment.files.key.exists());
    error
}

fn contents(files: &TlsFiles) -> [Vec<u8>; 3] {
    [&files.key, &files.cert, &files.ca].map(|path| fs::read(path).unwrap())
}

#[tokio::test]
async fn a_key_becomes_a_certificate_and_is_used_once() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let enrolment = enrolment(&fake, &folder, &fake.authority.key());
    enrolment.run().await;
    let files = &enrolment.files;
    assert!(fits(&files.key, &files.cert));
    assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    let loaded = enrolment.credentials.current().unwrap();
    assert!(loaded.are_of(AGENT));
    // The certificate works, and is left alone from now on.
    let before = contents(files);
    enrolment.run().await;
    assert_eq!((contents(files), fake.seen.lock().unwrap().enrolled), (before, 1));
    assert_eq!(fake.seen.lock().unwrap().certificates, [None]);
}

#[tokio::test]
async fn a_host_that_died_before_the_answer_asks_for_the_same_key_again() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let attempt = async || {
        let enrolment = enrolment(&fake, &folder, &fake.authority.key());
        let key = EnrolmentKey::parse(enrolment.key.as_ref().unwrap()).ok().unwrap();
        enrolment.attempt(&key).await
    };
    let asked = folder.path().join("agent.key.asked");
    fake.conducts(Conduct::Says(Code::Unavailable, "STORE_FAILED"));
    attempt().await.unwrap_err();
    let before = fs::read(&asked).unwrap();
    assert_eq!(fs::metadata(&asked).unwrap().permissions().mode() & 0o777, 0o600);
    fake.conducts(Conduct::Well);
    attempt().await.unwrap();
    assert_eq!(fs::read(folder.path().join("agent.key")).unwrap(), before);
    assert!(!asked.exists());
}

#[tokio::test]
async fn a_key_that_cannot_be_kept_is_not_sent() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let mut enrolment = enrolment(&fake, &folder, &fake.authority.key());
    enrolment.files = files_in(&folder.path().join("missing"));
    let key = EnrolmentKey::parse(enrolment.key.as_ref().unwrap()).ok().unwrap();
    let error = enrolment.attempt(&key).await.unwrap_err();
    assert!(error.cause.contains("missing: No such file"), "{error}");
    assert_eq!(fake.seen.lock().unwrap().enrolled, 0);
}

#[tokio::test]
async fn a_key_of_another_authority_does_not_leave_the_host() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let enrolment = enrolment(&fake, &folder, &Authority::new().key());
    let error = refused(&enrolment).await;
    assert_eq!(error.refusal, Refusal::Refused);
    assert!(
        error.cause.contains("does not show the authority that GHOST_API_KEY names"),
        "{error}"
    );
    assert_eq!(fake.seen.lock().unwrap().certificates.len(), 0);
}

#[tokio::test]
async fn a_server_of_the_right_authority_for_another_host_or_time_is_refused() {
    for (name, years, word) in
        [("elsewhere.example", NOW, "is for another host"), ("127.0.0.1", PAST, "has expired")]
    {
        let folder = tempfile::tempdir().unwrap();
        let fake = Fake::with(Authority::new(), name, years).await;
        let error = refused(&enrolment(&fake, &folder, &fake.authority.key())).await;
        assert_eq!(error.refusal, Refusal::Refused);
        assert!(error.cause.contains(word), "{error}");
        assert_eq!(fake.seen.lock().unwrap().certificates.len(), 0);
    }
}

#[tokio::test]
async fn a_used_expired_or_unknown_key_says_what_to_do() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let enrolment = enrolment(&fake, &folder, &fake.authority.key());
    for (reason, word) in [
        ("KEY_USED", "ask for a new key"),
        ("KEY_EXPIRED", "ask for a new key"),
        ("KEY_UNKNOWN", "copy GHOST_API_KEY again"),
    ] {
        fake.conducts(Conduct::Says(Code::PermissionDenied, reason));
        let error = refused(&enrolment).await;
        assert_eq!(error.refusal, Refusal::Refused);
        assert!(error.cause.contains(reason) && error.cause.contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_what_was_asked_for_is_not_taken() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let enrolment = enrolment(&fake, &folder, &fake.authority.key());
    for (conduct, word) in [
        (Conduct::LeavesOut, "lacks the name 00000000-0000-0000-0000-000000000007.agents"),
        (Conduct::Swaps, "does not hold before this agent's authority"),
    ] {
        fake.conducts(conduct);
        let error = refused(&enrolment).await;
        assert!(error.cause.contains(word), "{error}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_replaced_and_a_broken_one_is_left_for_a_person() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let enrolment = enrolment(&fake, &folder, &fake.authority.key());
    fs::write(&enrolment.files.cert, "not a certificate").unwrap();
    enrolment.run().await;
    assert_eq!(fake.seen.lock().unwrap().enrolled, 0);
    fake.authority.equips(folder.path(), PAST);
    enrolment.run().await;
    assert_eq!(fake.seen.lock().unwrap().enrolled, 1);
}

#[tokio::test]
async fn without_a_key_or_with_half_of_one_nothing_is_sent() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    for key in ["", "ghost-1-abc"] {
        enrolment(&fake, &folder, key).run().await;
    }
    assert_eq!(fake.seen.lock().unwrap().certificates.len(), 0);
}

fn renewal(fake: &Fake, folder: &TempDir) -> Renewal {
    let files = fake.authority.equips(folder.path(), NOW);
    let credentials = source(&files);
    Renewal {
        agent: AGENT,
        plane: Arc::new(GrpcControlPlane::new(fake.target(), credentials.clone())),
        files,
        credentials,
        clock: Arc::new(SystemClock::new()),
        dice: Dice::seeded(1),
    }
}

#[tokio::test]
async fn a_renewal_has_a_new_key_and_is_in_use_at_once() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let renewal = renewal(&fake, &folder);
    let before = contents(&renewal.files);
    let was = renewal.credentials.current().unwrap();
    renewal.renew().await.unwrap();
    let after = contents(&renewal.files);
    assert!(before[0] != after[0] && before[1] != after[1] && before[2] == after[2]);
    assert!(fits(&renewal.files.key, &renewal.files.cert));
    assert!(!Arc::ptr_eq(&was, &renewal.credentials.current().unwrap()));
    renewal.renew().await.unwrap();
    let seen = fake.seen.lock().unwrap();
    assert!(seen.certificates[0].is_some() && seen.certificates[0] != seen.certificates[1]);
}

#[tokio::test]
async fn a_renewal_that_is_refused_or_wrong_changes_nothing() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let renewal = renewal(&fake, &folder);
    let before = contents(&renewal.files);
    for conduct in
        [Conduct::LeavesOut, Conduct::Swaps, Conduct::Says(Code::PermissionDenied, "AGENT_REVOKED")]
    {
        fake.conducts(conduct);
        assert_eq!(renewal.renew().await.unwrap_err().refusal, Refusal::Refused);
        assert_eq!(contents(&renewal.files), before);
    }
    assert!(source(&renewal.files).current().is_some());
}

#[tokio::test]
async fn a_folder_that_takes_nothing_is_named() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let mut enrolment = enrolment(&fake, &folder, &fake.authority.key());
    enrolment.files = files_in(&folder.path().join("missing"));
    let error = refused(&enrolment).await;
    assert!(error.cause.contains("missing: No such file"), "{error}");
}
