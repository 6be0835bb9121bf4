use std::fs::File;

use ghost_core::domain::control::{ToldStatus, VmState};
use ghost_core::domain::{Origin, VmName, VmStatus};
use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const SMALL: Bounds = Bounds { events: 16, bytes: 1 << 20 };

fn change(vm: u128, status: ToldStatus) -> NewEvent {
    let name: VmName = format!("vm-{vm:03}").parse().unwrap();
    let state = VmState { name, status, reason: Some("why\nnot".to_owned()), address: None };
    NewEvent { at: Timestamp::UNIX_EPOCH, vm: Uuid::from_u128(vm).into(), state, origin: None }
}

fn running(vm: u128) -> NewEvent {
    change(vm, ToldStatus::Is(VmStatus::Running))
}

fn content(queue: &EventDir) -> Content {
    lock(&queue.inner).backlog.content().clone()
}

/// As the next process finds it.
fn reopened(dir: &Path) -> Content {
    content(&EventDir::open_in(dir, SMALL))
}

fn damaged(dir: &Path) -> usize {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains(".damaged-")).count()
}

#[tokio::test]
async fn what_was_pushed_and_acknowledged_survives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let queue = EventDir::open_in(dir.path(), SMALL);
    queue.push(vec![running(1), running(2)]).await;
    queue.push(vec![change(1, ToldStatus::Deleted)]).await;
    queue.acknowledge(1).await;
    assert_eq!(queue.trouble(), None);
    let next = EventDir::open_in(dir.path(), SMALL);
    assert_eq!(content(&next), content(&queue));
    next.push(vec![running(3)]).await;
    let numbers: Vec<u64> = next.oldest(9).await.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, [2, 3, 4]);
}

#[tokio::test]
async fn what_waits_is_counted_from_the_start_and_after_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let queue = EventDir::open_in(dir.path(), SMALL);
    assert_eq!(queue.waiting(), 0);
    queue.push(vec![running(1), running(2), running(3)]).await;
    assert_eq!(queue.waiting(), 3);
    queue.acknowledge(1).await;
    assert_eq!((queue.waiting(), queue.clone().waiting()), (2, 2));
    assert_eq!(EventDir::open_in(dir.path(), SMALL).waiting(), 2);
}

#[tokio::test]
async fn a_command_is_kept_with_its_change_and_a_line_without_one_is_as_earlier_versions_wrote_it()
{
    let dir = tempfile::tempdir().unwrap();
    let queue = EventDir::open_in(dir.path(), SMALL);
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok();
    let origin = Some(Origin { request_id: "r-1".parse().unwrap(), traceparent });
    queue.push(vec![NewEvent { origin: origin.clone(), ..running(1) }, running(2)]).await;
    let next = EventDir::open_in(dir.path(), SMALL).oldest(9).await;
    assert_eq!(next[0].origin, origin);
    let line = serde_json::to_string(&next[1]).unwrap();
    assert!(!line.contains("origin"), "{line}");
    assert_eq!(serde_json::from_str::<VmEvent>(&line).unwrap(), next[1]);
}

#[tokio::test]
async fn a_log_cut_off_at_any_byte_is_as_it_was_after_some_whole_line() {
    let dir = tempfile::tempdir().unwrap();
    let (work, log) = (dir.path().join("a"), dir.path().join("a/log"));
    let queue = EventDir::open_in(&work, SMALL);
    let length = || usize::try_from(fs::metadata(&log).unwrap().len()).unwrap();
    let began = length();
    // The file's length, and what it held.
    let mut states = vec![(began, content(&queue))];
    for step in 0..6u64 {
        match step {
            4 => queue.acknowledge(2).await,
            _ => queue.push(vec![running(u128::from(step % 3))]).await,
        }
        states.push((length(), content(&queue)));
    }
    let whole = fs::read(&log).unwrap();
    let other = dir.path().join("b");
    fs::create_dir(&other).unwrap();
    for cut in began..=whole.len() {
        fs::write(other.join("log"), &whole[..cut]).unwrap();
        let (_, expected) = states.iter().rev().find(|(length, _)| *length <= cut).unwrap();
        let queue = EventDir::open_in(&other, SMALL);
        assert_eq!(&content(&queue), expected, "cut at {cut}");
        // And it goes on from there.
        queue.push(vec![running(9)]).await;
        assert_eq!(reopened(&other), content(&queue), "cut at {cut}");
    }
    assert_eq!(damaged(&other), 0);
}

#[tokio::test]
async fn a_crash_while_the_log_is_written_anew_leaves_the_former_one() {
    let dir = tempfile::tempdir().unwrap();
    let queue = EventDir::open_in(dir.path(), SMALL);
    queue.push(vec![running(1)]).await;
    fs::write(dir.path().join(".ghost-x1y2z3.tmp"), "half a").unwrap();
    assert_eq!(reopened(dir.path()), content(&queue));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_changed_byte_is_never_taken_for_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("a");
    let queue = EventDir::open_in(&work, SMALL);
    queue.push(vec![running(1), running(2), running(3)]).await;
    let (whole, right) = (fs::read(work.join("log")).unwrap(), content(&queue));
    let last_line = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n').unwrap();
    let other = dir.path().join("b");
    for at in 0..whole.len() {
        fs::create_dir(&other).unwrap();
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        fs::write(other.join("log"), &changed).unwrap();
        let found = reopened(&other);
        // The end may be a line that was cut off (or two, without the break between them); all else is damage, and kept for a look.
        assert_eq!(damaged(&other) == 1, at < last_line, "byte {at}");
        assert!(found.pending.iter().all(|(n, event)| right.pending.get(n) == Some(event)));
        let doubted = found.told.values().all(|told| told.state.is_none());
        assert!(doubted || at >= last_line, "byte {at}");
        fs::remove_dir_all(&other).unwrap();
    }
}

#[tokio::test]
async fn a_log_of_a_newer_agent_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = Vec::new();
    line::write(&Line::Began { schema: 2, last: 7, acknowledged: 7 }, &mut text).unwrap();
    fs::write(dir.path().join("log"), text).unwrap();
    assert_eq!(reopened(dir.path()).last, 7);
    assert_eq!(damaged(dir.path()), 1);
}

#[tokio::test]
async fn the_file_stays_small_however_long_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let queue = EventDir::open_in(dir.path(), SMALL);
    let mut longest = 0;
    for round in 0..400u64 {
        queue.push((0..8).map(running).collect()).await;
        queue.acknowledge(round * 8).await;
        longest = longest.max(fs::metadata(dir.path().join("log")).unwrap().len());
    }
    assert!(longest < 300 << 10, "{longest}");
    assert_eq!(reopened(dir.path()), content(&queue));
    assert_eq!(content(&queue).last, 3200);
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_kept_in_memory_said_once_and_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let (work, away) = (dir.path().join("a"), dir.path().join("away"));
    let queue = EventDir::open_in(&work, SMALL);
    queue.push(vec![running(1)]).await;
    // The open file takes nothing, and the folder no new one.
    lock(&queue.inner).log.set_file(File::open(work.join("log")).unwrap());
    fs::rename(&work, &away).unwrap();
    fs::write(&work, "in the way").unwrap();
    queue.push(vec![running(2)]).await;
    queue.push(vec![running(3)]).await;
    let trouble = queue.trouble().unwrap();
    assert!(trouble.starts_with("events are held in memory only: cannot "), "{trouble}");
    assert_eq!(queue.oldest(9).await.len(), 3);
    fs::remove_file(&work).unwrap();
    fs::rename(&away, &work).unwrap();
    // Whoever asks next finds that the disk takes it again.
    assert_eq!(queue.oldest(9).await.len(), 3);
    assert_eq!(queue.trouble(), None);
    assert_eq!(reopened(&work), content(&queue));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_a_trouble_and_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("a");
    fs::write(&work, "in the way").unwrap();
    let queue = EventDir::open_in(&work, SMALL);
    queue.push(vec![running(1)]).await;
    assert!(queue.trouble().unwrap().contains("move what is in the way"));
    assert_eq!(queue.oldest(9).await.len(), 1);
}

#[derive(Debug, Clone)]
enum Op {
    Push(Vec<(u128, bool)>),
    Acknowledge(u64),
    Agree(u64),
    Restart,
    /// After a crash in the middle of a write.
    RestartTorn,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => prop::collection::vec((1..9u128, any::<bool>()), 1..6).prop_map(Op::Push),
        2 => (0..80u64).prop_map(Op::Acknowledge),
        1 => (0..80u64).prop_map(Op::Agree),
        1 => Just(Op::Restart),
        1 => Just(Op::RestartTorn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_is_what_a_backlog_in_memory_would_be(ops in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut queue = EventDir::open_in(dir.path(), SMALL);
        let mut model = Backlog::resume(Content::default(), SMALL);
        for op in ops {
            match op {
                Op::Push(changes) => {
                    let changes: Vec<NewEvent> = changes.into_iter().map(|(vm, gone)| {
                        if gone { change(vm, ToldStatus::Deleted) } else { running(vm) }
                    }).collect();
                    model.push(changes.clone());
                    runtime.block_on(queue.push(changes));
                }
                Op::Acknowledge(up_to) => {
                    model.acknowledge(up_to);
                    runtime.block_on(queue.acknowledge(up_to));
                }
                Op::Agree(kept) => {
                    prop_assert_eq!(model.agree(kept), runtime.block_on(queue.agree(kept)));
                }
                Op::Restart | Op::RestartTorn => {
                    if matches!(op, Op::RestartTorn) {
                        use std::io::Write as _;
                        let mut log = File::options().append(true).open(dir.path().join("log")).unwrap();
                        log.write_all(b"0123abcd {\"event\":{\"seq").unwrap();
                    }
                    model = Backlog::resume(model.content().clone(), SMALL);
                    queue = EventDir::open_in(dir.path(), SMALL);
                }
            }
            prop_assert_eq!(model.content(), &content(&queue));
            prop_assert_eq!(queue.trouble(), None);
        }
        prop_assert_eq!(damaged(dir.path()), 0);
    }
}
