//! What is in force, whatever becomes of the files.

use std::path::Path;

use ghost_core::testing::FakeClock;
use ghost_host::SystemClock;
use jiff::SignedDuration;

use super::issuing::{Authority, agent};
use super::stamp::Stamp;
use super::watching::{EVERY, Looks, Remaining};
use super::*;

fn identity(authority: &Authority) -> Identity {
    Identity::load(&authority.files(), Arc::new(SystemClock::new())).unwrap()
}

fn names(identity: &Identity) -> Vec<String> {
    identity.current().map(|current| current.names.clone()).unwrap_or_default()
}

#[test]
fn what_is_in_the_files_is_in_force_for_both_sides() {
    let authority = Authority::new();
    authority.write("certs", &authority.issue(&agent(1)));
    let identity = identity(&authority);
    assert_eq!(names(&identity), ["localhost".to_owned(), agent(1)]);
    let current = identity.current().unwrap();
    assert_eq!(current.server.alpn_protocols, [b"h2"]);
    assert_eq!(current.client.alpn_protocols, [b"h2"]);
    assert!(current.not_before < current.not_after);
}

#[test]
fn a_newer_certificate_of_the_same_agent_takes_its_place_and_is_told() {
    let authority = Authority::new();
    authority.write("certs", &authority.issue(&agent(1)));
    let identity = identity(&authority);
    let mut changes = identity.changes();
    let former = identity.current().unwrap();
    identity.reload().unwrap();
    assert!(!changes.has_changed().unwrap(), "the same is nothing new");
    authority.write("certs", &authority.issue_until(&agent(1), 4_000_000_000));
    identity.reload().unwrap();
    assert!(changes.has_changed().unwrap());
    let newer = changes.borrow_and_update().clone().unwrap();
    assert_eq!(newer.not_after.as_second(), 4_000_000_000);
    assert!(!Arc::ptr_eq(&former.server, &newer.server));
}

type Damage = Box<dyn FnOnce(&Authority, &Path)>;

/// Damages the files of a good identity, and gives what a reload says and what is in force then.
fn damaged(damage: impl FnOnce(&Authority, &Path)) -> (String, Vec<String>) {
    let authority = Authority::new();
    let folder = authority.write("certs", &authority.issue(&agent(1)));
    let identity = identity(&authority);
    damage(&authority, &folder);
    let error = identity.reload().unwrap_err();
    (crate::grpc::call::chain(&error), names(&identity))
}

#[test]
fn unfit_files_change_nothing_and_each_is_named_with_a_remedy() {
    let write = |name: &'static str, contents: Vec<u8>| {
        move |_: &Authority, folder: &Path| {
            std::fs::write(folder.join(name), &contents).unwrap();
        }
    };
    let stays = vec!["localhost".to_owned(), agent(1)];
    let told = |damage: Damage, word: &str| {
        let (error, in_force) = damaged(damage);
        assert!(error.contains(word), "{word}: {error}");
        assert_eq!(in_force, stays, "{word}");
    };
    told(Box::new(write("agent.crt", b"garbage".to_vec())), "tls_cert");
    told(Box::new(write("agent.crt", Vec::new())), "holds no certificate");
    told(Box::new(write("agent.key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n".to_vec())), "tls_key");
    told(Box::new(write("ca.crt", b"\0\xff".to_vec())), "tls_ca");
    told(Box::new(write("agent.crt", vec![b'a'; 10 << 20])), "too large");
    told(Box::new(|_, folder| std::fs::remove_file(folder.join("agent.key")).unwrap()), "tls_key");
    told(Box::new(|_, folder| std::fs::remove_dir_all(folder).unwrap()), "cannot be read");
    told(
        Box::new(|authority, folder| {
            let other = authority.issue(&agent(1));
            std::fs::write(folder.join("agent.crt"), other.cert).unwrap();
        }),
        "does not belong to",
    );
    told(
        Box::new(|authority, _| {
            authority.write("certs", &authority.issue_until(&agent(1), 1_600_000_000));
        }),
        "2020-09-13T12:26:40Z only",
    );
    told(
        Box::new(|_, folder| {
            std::fs::remove_file(folder.join("agent.crt")).unwrap();
            std::fs::create_dir(folder.join("agent.crt")).unwrap();
        }),
        "not a file",
    );
}

#[test]
fn another_agents_certificate_is_refused() {
    let (error, in_force) = damaged(|authority, _| {
        authority.write("certs", &authority.issue(&agent(2)));
    });
    assert!(error.contains(&agent(1)) && error.contains("another agent's"), "{error}");
    assert_eq!(in_force, ["localhost".to_owned(), agent(1)]);
}

#[test]
fn a_name_that_was_chosen_by_hand_may_give_way_to_an_agents_id() {
    let authority = Authority::new();
    authority.write("certs", &authority.issue("spiffe://ghost/agent/my-pc"));
    let identity = identity(&authority);
    authority.write("certs", &authority.issue(&agent(1)));
    identity.reload().unwrap();
    assert!(names(&identity).contains(&agent(1)));
}

async fn looked(identity: &Identity) {
    // Two looks, whenever the first is.
    identity.clock.sleep(EVERY * 2 + EVERY / 2).await;
}

#[tokio::test(start_paused = true)]
async fn files_are_followed_however_they_are_replaced() {
    let authority = Authority::new();
    let end = |n: i64| 4_000_000_000 + n;
    let folders = [1, 2, 3, 4]
        .map(|n| authority.write(&format!("v{n}"), &authority.issue_until(&agent(1), end(n))));
    let clock = Arc::new(FakeClock::default());
    let identity = Arc::new(Identity::awaited(&authority.files(), clock));
    let ends = || identity.current().map(|current| current.not_after.as_second());
    let steps = async {
        looked(&identity).await;
        assert_eq!(ends(), None, "nothing is there yet");
        authority.lead_to(&folders[0]);
        looked(&identity).await;
        assert_eq!(ends(), Some(end(1)), "a new link");
        authority.lead_to(&folders[1]);
        looked(&identity).await;
        assert_eq!(ends(), Some(end(2)), "another link");
        for name in ["agent.crt", "agent.key"] {
            std::fs::rename(folders[2].join(name), folders[1].join(name)).unwrap();
        }
        looked(&identity).await;
        assert_eq!(ends(), Some(end(3)), "renamed files");
        std::fs::write(folders[1].join("agent.crt"), "half").unwrap();
        looked(&identity).await;
        assert_eq!(ends(), Some(end(3)), "an unfit file");
        std::fs::remove_dir_all(&folders[1]).unwrap();
        std::fs::rename(&folders[3], &folders[1]).unwrap();
        looked(&identity).await;
        assert_eq!(ends(), Some(end(4)), "a replaced folder");
    };
    tokio::select! { () = Arc::clone(&identity).watch_files() => {}, () = steps => {} }
}

fn unfit() -> Result<(), TlsError> {
    Err(TlsError::Mismatch { cert: "agent.crt".into(), key: "agent.key".into() })
}

#[test]
fn one_state_of_the_files_is_complained_of_once_and_never_at_first_sight() {
    let authority = Authority::new();
    let folder = authority.write("certs", &authority.issue(&agent(1)));
    let stamp = || Stamp::of(&authority.files());
    let mut looks = Looks::default();
    let first = stamp();
    assert!(looks.judge(first.clone(), unfit(), true).is_none(), "half written?");
    assert!(looks.judge(first.clone(), unfit(), true).unwrap().to_string().contains("agent.key"));
    assert!(looks.judge(first.clone(), unfit(), true).is_none(), "told already");
    std::fs::write(folder.join("agent.crt"), "another").unwrap();
    let second = stamp();
    assert_ne!(first, second);
    assert!(looks.judge(second.clone(), unfit(), true).is_none());
    assert!(looks.judge(second.clone(), unfit(), true).is_some(), "another state");
    assert!(looks.judge(second.clone(), Ok(()), true).is_none());
    assert!(looks.judge(second, unfit(), true).is_none(), "well in between");
}

#[test]
fn files_that_are_awaited_are_not_complained_of() {
    let authority = Authority::new();
    let stamp = || Stamp::of(&authority.files());
    let mut looks = Looks::default();
    assert!(looks.judge(stamp(), unfit(), false).is_none());
    assert!(looks.judge(stamp(), unfit(), false).is_none());
    assert!(looks.judge(stamp(), unfit(), true).is_some(), "they were there before");
}

#[test]
fn the_end_of_a_certificate_has_thresholds() {
    let end = jiff::Timestamp::UNIX_EPOCH;
    for (hours, remaining) in [
        (7 * 24, Remaining::Long),
        (7 * 24 - 1, Remaining::Week),
        (23, Remaining::Day),
        (0, Remaining::Day),
        (-1, Remaining::Nothing),
    ] {
        assert_eq!(
            Remaining::of(end, end - SignedDuration::from_hours(hours)),
            remaining,
            "{hours}"
        );
    }
}
