use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::VmStatus;

const SMALL: Bounds = Bounds { events: 8, bytes: 1 << 20 };

fn event(vm: u128, status: ToldStatus) -> NewEvent {
    let name: VmName = format!("vm-{vm:03}").parse().unwrap();
    let state = VmState { name, status, reason: None, address: None };
    NewEvent { at: Timestamp::UNIX_EPOCH, vm: Uuid::from_u128(vm).into(), state, origin: None }
}

fn running(vm: u128) -> NewEvent {
    event(vm, ToldStatus::Is(VmStatus::Running))
}

fn stopped(vm: u128) -> NewEvent {
    event(vm, ToldStatus::Is(VmStatus::Stopped))
}

fn deleted(vm: u128) -> NewEvent {
    event(vm, ToldStatus::Deleted)
}

fn backlog() -> Backlog {
    Backlog::resume(Content::default(), SMALL)
}

fn pending(backlog: &Backlog) -> Vec<(u64, &'static str)> {
    backlog.oldest(100).into_iter().map(|e| (e.sequence, e.state.status.as_str())).collect()
}

#[test]
fn numbers_begin_at_one_and_what_is_acknowledged_is_gone() {
    let mut backlog = backlog();
    backlog.push(vec![running(1), stopped(1)]);
    assert_eq!(pending(&backlog), [(1, "running"), (2, "stopped")]);
    assert!(backlog.acknowledge(1));
    assert!(!backlog.acknowledge(1));
    assert_eq!(pending(&backlog), [(2, "stopped")]);
    // More than was ever given.
    backlog.acknowledge(u64::MAX);
    backlog.push(vec![running(1)]);
    assert_eq!(pending(&backlog), [(3, "running")]);
}

#[test]
fn in_a_full_one_the_newest_of_each_vm_stays() {
    let mut backlog = backlog();
    for _ in 0..4 {
        backlog.push(vec![running(1), stopped(1)]);
    }
    let squeezed = backlog.push(vec![running(2)]);
    assert_eq!(squeezed, Pushed::Squeezed { superseded: 7, lost: 0 });
    assert_eq!(pending(&backlog), [(8, "stopped"), (9, "running")]);
}

#[test]
fn too_many_vms_lose_the_oldest_and_it_is_told_anew_one_day() {
    let mut backlog = backlog();
    let squeezed = backlog.push((1..=9).map(running).collect());
    assert_eq!(squeezed, Pushed::Squeezed { superseded: 0, lost: 1 });
    let told = &backlog.content().told[&Uuid::from_u128(1).into()];
    assert_eq!(told.state, None);
}

#[test]
fn long_reasons_count_too() {
    let mut backlog = Backlog::resume(Content::default(), Bounds { events: 1000, bytes: 4096 });
    for _ in 0..100 {
        let mut wordy = running(1);
        wordy.state.reason = Some("x".repeat(1000));
        backlog.push(vec![wordy]);
    }
    assert!(pending(&backlog).len() <= 3, "{:?}", pending(&backlog));
    assert_eq!(backlog.content().last, 100);
}

#[test]
fn after_lost_writes_numbers_are_not_given_twice() {
    // An earlier process gave and delivered up to 9, but its disk had kept 4 only.
    let mut content = Content { last: 4, acknowledged: 3, ..Content::default() };
    content.append(VmEvent {
        sequence: 4,
        at: Timestamp::UNIX_EPOCH,
        vm: Uuid::from_u128(1).into(),
        state: running(1).state,
        origin: None,
    });
    let mut backlog = Backlog::resume(content, SMALL);
    backlog.push(vec![stopped(1), running(2)]);
    assert_eq!(backlog.agree(9), Memory::Kept);
    assert_eq!(pending(&backlog), [(10, "stopped"), (11, "running")]);
    // The same answer again changes nothing.
    assert_eq!(backlog.agree(9), Memory::Kept);
    assert_eq!(pending(&backlog), [(10, "stopped"), (11, "running")]);
}

#[test]
fn a_number_that_was_never_given_loses_nothing() {
    let mut backlog = backlog();
    assert_eq!(backlog.agree(0), Memory::Kept);
    backlog.push(vec![running(1)]);
    assert_eq!(backlog.agree(50), Memory::Kept);
    assert_eq!(pending(&backlog), [(51, "running")]);
}

#[test]
fn a_control_plane_that_forgot_is_told_every_vm_anew_once() {
    let mut backlog = backlog();
    backlog.push(vec![running(1), running(2), deleted(2)]);
    backlog.acknowledge(3);
    assert_eq!(backlog.agree(0), Memory::Lost);
    let told = &backlog.content().told;
    assert_eq!(told.values().map(|last| last.state.clone()).collect::<Vec<_>>(), [None]);
    assert_eq!(backlog.agree(0), Memory::Kept);
    backlog.push(vec![running(1)]);
    assert_eq!(pending(&backlog), [(4, "running")]);
}

#[derive(Debug, Clone)]
enum Op {
    Push(u128, u8),
    Acknowledge(u64),
    Agree(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..6u128, 0..3u8).prop_map(|(vm, what)| Op::Push(vm, what)),
        2 => (0..60u64).prop_map(Op::Acknowledge),
        1 => (0..60u64).prop_map(Op::Agree),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_last_state_of_each_vm_is_pending_or_acknowledged(
        ops in prop::collection::vec(op(), 1..80)
    ) {
        let mut backlog = backlog();
        let mut newest: BTreeMap<VmId, ToldStatus> = BTreeMap::new();
        let mut settled: BTreeMap<VmId, ToldStatus> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Push(vm, what) => {
                    let new = [running, stopped, deleted][usize::from(what)](vm);
                    newest.insert(new.vm, new.state.status);
                    backlog.push(vec![new]);
                }
                Op::Acknowledge(up_to) => {
                    for event in backlog.oldest(100).iter().filter(|e| e.sequence <= up_to) {
                        settled.insert(event.vm, event.state.status);
                    }
                    backlog.acknowledge(up_to);
                }
                Op::Agree(kept) => {
                    // The control plane is honest: it keeps what it was sent, or forgot some.
                    let kept = kept.min(backlog.content().last);
                    for event in backlog.oldest(100).iter().filter(|e| e.sequence <= kept) {
                        settled.insert(event.vm, event.state.status);
                    }
                    backlog.agree(kept);
                }
            }
            let all = backlog.oldest(100);
            prop_assert!(all.len() <= SMALL.events);
            prop_assert!(all.iter().all(|e| e.sequence > backlog.content().acknowledged));
            prop_assert!(all.iter().all(|e| e.sequence <= backlog.content().last));
            for (vm, status) in &newest {
                let last = all.iter().rev().find(|e| e.vm == *vm).map(|e| e.state.status);
                prop_assert_eq!(last.or(settled.get(vm).copied()), Some(*status));
            }
        }
    }
}
