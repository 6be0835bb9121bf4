//! What every store must do, asked of the one in memory and the one on disk.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::memory::MemoryStore;
use super::redb::{OpenError, RedbStore};
use super::{Agents as _, EnrolError, Journal as _, Store, Tokens as _};
use crate::domain::audit::Change;
use crate::domain::event::{MOST_KEPT, tests::event};
use crate::domain::registration::tests::registration;
use crate::domain::token::{Admission, Applicant, Hash, KeyRefusal, Token};
use crate::domain::{AgentId, Capacity, Heard, Said};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn id(digit: char) -> AgentId {
    format!("{digit}b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55").parse().unwrap()
}

fn change(what: &'static str) -> Change {
    Change { at: at(0), who: "uid 0".to_owned(), what, detail: String::new() }
}

fn token(secret: &str) -> Token {
    Token { hash: Hash::of(secret.as_bytes()), expires_at: at(100), made_for: None, used: None }
}

fn who(secret: &str, digit: char) -> Applicant {
    let (secret, public_key) = (Hash::of(secret.as_bytes()), Hash::of(&[digit as u8]));
    Applicant { secret, agent: id(digit), name: format!("pc-{digit}"), public_key, at: at(1) }
}

fn heard(second: i64) -> Heard {
    Heard {
        at: at(second),
        said: Said::Online,
        reasons: vec![],
        capacity: Capacity::default(),
        vms: 1,
        vms_running: 1,
        version: "1".to_owned(),
        boot_id: "b".to_owned(),
    }
}

fn on_disk(folder: &Path) -> RedbStore {
    RedbStore::open(&folder.join("store.redb")).unwrap()
}

/// Runs a claim against each store.
async fn each<F: Future<Output = ()>>(claim: impl Fn(Arc<dyn Store>) -> F) {
    claim(Arc::new(MemoryStore::default())).await;
    let folder = tempfile::tempdir().unwrap();
    claim(Arc::new(on_disk(folder.path()))).await;
}

async fn numbers(store: &dyn Store, limit: usize) -> Vec<(u64, String)> {
    let records = store.audit(limit).await.unwrap();
    records.into_iter().map(|record| (record.number, record.what)).collect()
}

#[tokio::test]
async fn a_key_enrols_one_agent_and_only_then_is_it_on_record() {
    each(|store| async move {
        store.add_token(token("s"), change("token created")).await.unwrap();
        let (agent, admission) =
            store.enrol(who("s", '1'), change("agent enrolled")).await.unwrap();
        assert_eq!((agent.id, admission), (id('1'), Admission::New));
        let refused = store.enrol(who("s", '2'), change("agent enrolled")).await.unwrap_err();
        assert!(matches!(refused, EnrolError::Refused(KeyRefusal::Used)), "{refused:?}");
        let unknown = store.enrol(who("x", '2'), change("agent enrolled")).await.unwrap_err();
        assert!(matches!(unknown, EnrolError::Refused(KeyRefusal::Unknown)), "{unknown:?}");
        let again = store.enrol(who("s", '1'), change("agent enrolled")).await.unwrap();
        assert_eq!(again, (agent, Admission::Repeated));
        assert_eq!(store.agents().await.unwrap().len(), 1);
        let expected = [(1, "token created".to_owned()), (2, "agent enrolled".to_owned())];
        assert_eq!(numbers(&*store, 9).await, expected);
        assert_eq!(store.broken_audit().await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_that_show_one_key_at_once_one_gets_in() {
    each(|store| async move {
        store.add_token(token("s"), change("token created")).await.unwrap();
        let digits = "0123456789abcdef".chars();
        let tries = digits.map(|digit| store.enrol(who("s", digit), change("agent enrolled")));
        let outcomes = futures_util::future::join_all(tries).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert_eq!(store.agents().await.unwrap().len(), 1);
        assert_eq!(store.audit(99).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_key_that_expired_long_ago_is_forgotten() {
    each(|store| async move {
        store.add_token(token("old"), change("token created")).await.unwrap();
        let week_later = Change { at: at(100 + 8 * 86_400), ..change("token created") };
        store.add_token(token("new"), week_later).await.unwrap();
        let late = Applicant { at: at(9 * 86_400), ..who("old", '1') };
        let refused = store.enrol(late, change("agent enrolled")).await.unwrap_err();
        assert!(matches!(refused, EnrolError::Refused(KeyRefusal::Unknown)), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn what_an_agent_said_is_kept_and_a_stranger_leaves_nothing() {
    each(|store| async move {
        store.add_token(token("s"), change("token created")).await.unwrap();
        store.enrol(who("s", '1'), change("agent enrolled")).await.unwrap();
        let said = registration("renamed");
        store.register(id('1'), said.clone(), heard(1), None).await.unwrap();
        store.register(id('2'), said.clone(), heard(1), None).await.unwrap();
        store.heard(vec![(id('1'), heard(2)), (id('2'), heard(2))]).await.unwrap();
        let agents = store.agents().await.unwrap();
        assert_eq!(agents.len(), 1);
        assert_eq!(agents[0].name, "renamed");
        assert_eq!((&agents[0].registration, &agents[0].heard), (&Some(said), &Some(heard(2))));
    })
    .await;
}

#[tokio::test]
async fn an_agent_is_revoked_once() {
    each(|store| async move {
        store.add_token(token("s"), change("token created")).await.unwrap();
        store.enrol(who("s", '1'), change("agent enrolled")).await.unwrap();
        for second in [5, 6] {
            store.revoke(id('1'), at(second), change("agent revoked")).await.unwrap();
        }
        store.revoke(id('2'), at(7), change("agent revoked")).await.unwrap();
        assert_eq!(store.agents().await.unwrap()[0].revoked_at, Some(at(5)));
        assert_eq!(store.audit(99).await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn events_are_kept_once_and_the_last_is_told() {
    each(|store| async move {
        let keep = |digit, sequences: &[u64]| {
            store.keep_events(id(digit), at(1), sequences.iter().map(|n| event(*n)).collect())
        };
        assert_eq!(keep('1', &[]).await.unwrap(), 0);
        assert_eq!(keep('1', &[1, 2, 5]).await.unwrap(), 5);
        assert_eq!(keep('1', &[2, 3, 5, 6]).await.unwrap(), 6);
        assert_eq!(keep('2', &[9]).await.unwrap(), 9);
        let sequences = |kept: Vec<crate::domain::event::KeptEvent>| {
            kept.into_iter().map(|kept| kept.event.sequence).collect::<Vec<_>>()
        };
        assert_eq!(sequences(store.events(Some(id('1')), 9).await.unwrap()), [1, 2, 5, 6]);
        assert_eq!(sequences(store.events(Some(id('1')), 2).await.unwrap()), [5, 6]);
        assert_eq!(sequences(store.events(None, 3).await.unwrap()), [5, 6, 9]);
        let mut last = store.last_events().await.unwrap();
        last.retain(|(_, last)| *last > 0);
        last.sort_unstable();
        assert_eq!(last, [(id('1'), 6), (id('2'), 9)]);
    })
    .await;
}

#[tokio::test]
async fn of_one_agent_so_many_events_are_kept_and_no_more() {
    each(|store| async move {
        let all: Vec<_> = (1..=MOST_KEPT + 7).map(event).collect();
        for some in all.chunks(2000) {
            store.keep_events(id('1'), at(1), some.to_vec()).await.unwrap();
        }
        store.keep_events(id('2'), at(1), vec![event(1)]).await.unwrap();
        let kept = store.events(Some(id('1')), usize::MAX).await.unwrap();
        assert_eq!(kept.len() as u64, MOST_KEPT);
        assert_eq!(kept[0].event.sequence, 8);
        assert_eq!(store.events(Some(id('2')), 9).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_command_goes_to_the_agent_that_had_it_first() {
    each(|store| async move {
        let assign = |request: &str, digit| {
            store.assign(request.to_owned(), id(digit), change("vm create asked"))
        };
        assert_eq!(store.assigned("r".to_owned()).await.unwrap(), None);
        assert_eq!(assign("r", '1').await.unwrap(), id('1'));
        assert_eq!(store.assigned("r".to_owned()).await.unwrap(), Some(id('1')));
        assert_eq!(assign("r", '2').await.unwrap(), id('1'));
        assert_eq!(assign("q", '2').await.unwrap(), id('2'));
        assert_eq!(store.audit(99).await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn the_newest_records_are_told_oldest_first() {
    each(|store| async move {
        for what in ["a", "b", "c"] {
            store.record(change(what)).await.unwrap();
        }
        let expected = [(2, "b".to_owned()), (3, "c".to_owned())];
        assert_eq!(numbers(&*store, 2).await, expected);
        assert_eq!(store.broken_audit().await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_death_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = on_disk(folder.path());
    store.add_token(token("s"), change("token created")).await.unwrap();
    store.enrol(who("s", '1'), change("agent enrolled")).await.unwrap();
    store.keep_events(id('1'), at(1), vec![event(3)]).await.unwrap();
    // A process that is killed leaves the file as it is at that moment, not closed.
    let left = folder.path().join("left.redb");
    std::fs::copy(folder.path().join("store.redb"), &left).unwrap();
    let found = RedbStore::open(&left).unwrap();
    assert_eq!(found.agents().await.unwrap(), store.agents().await.unwrap());
    assert_eq!(found.last_events().await.unwrap(), [(id('1'), 3)]);
    assert_eq!(found.audit(9).await.unwrap(), store.audit(9).await.unwrap());
    assert_eq!(found.broken_audit().await.unwrap(), None);
    let refused = found.enrol(who("s", '2'), change("agent enrolled")).await.unwrap_err();
    assert!(matches!(refused, EnrolError::Refused(KeyRefusal::Used)), "{refused:?}");
}

#[tokio::test]
async fn a_store_is_its_owners_alone_and_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = on_disk(folder.path());
    let mode = std::fs::metadata(folder.path().join("store.redb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = RedbStore::open(&folder.path().join("store.redb")).unwrap_err();
    assert!(matches!(second, OpenError::InUse(_)), "{second:?}");
    drop(first);
    on_disk(folder.path());
}

#[tokio::test]
async fn a_file_that_is_no_store_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(RedbStore::open(&path).unwrap_err(), OpenError::Other { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
