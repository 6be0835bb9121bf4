use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::domain::{BootMoment, OffCause};
use crate::testing::samples;

const THIS: Uuid = Uuid::from_u128(2);
const FORMER: Uuid = Uuid::from_u128(1);

const RUNNING: Sighting = Sighting::Power(PowerState::Running);
const HELD: Sighting = Sighting::Power(PowerState::Paused("user"));
const OFF: Sighting = Sighting::Power(PowerState::Off(OffCause::Unknown));
const DIED: Sighting = Sighting::Power(PowerState::Crashed);

fn vm(stage: VmStage, seen: Sighting, started_in: Uuid) -> Known {
    let mut record =
        VmRecord::creating(VmId::generate(), &samples::spec("web"), Timestamp::UNIX_EPOCH);
    record.stage = stage;
    record.started = Some(BootMoment { boot: started_in, elapsed: Duration::ZERO });
    Known { record: Arc::new(record), seen, definition: Definition::Persistent }
}

fn ready(desired: Desired, change: Change) -> VmStage {
    VmStage::Ready { desired, change, failure: None }
}

#[test]
fn each_case_has_its_action() {
    use Action::{Follow, Redefine, Settle, Start, Stop};
    use Change::{Done, UnderWay};
    use Desired::{Running, Stopped};
    let cases = [
        // What it shall be, how far it is, what is seen, of which boot: what is to be done.
        (Running, Done, RUNNING, THIS, None),
        (Running, Done, RUNNING, FORMER, Some(Settle(Running))),
        (Running, Done, HELD, THIS, None),
        (Running, Done, DIED, THIS, None),
        (Running, Done, OFF, THIS, Some(Follow(Stopped))),
        (Running, Done, OFF, FORMER, Some(Start)),
        (Running, Done, DIED, FORMER, Some(Start)),
        (Running, Done, Sighting::NoDomain, FORMER, Some(Redefine)),
        (Running, Done, Sighting::Never, FORMER, None),
        (Running, UnderWay, RUNNING, THIS, Some(Settle(Running))),
        (Running, UnderWay, OFF, THIS, Some(Start)),
        (Running, UnderWay, DIED, THIS, Some(Start)),
        (Stopped, Done, OFF, THIS, None),
        (Stopped, Done, OFF, FORMER, None),
        (Stopped, Done, DIED, THIS, None),
        (Stopped, Done, HELD, THIS, None),
        (Stopped, Done, RUNNING, THIS, Some(Follow(Running))),
        (Stopped, UnderWay, RUNNING, THIS, Some(Stop)),
        (Stopped, UnderWay, HELD, THIS, Some(Stop)),
        (Stopped, UnderWay, OFF, THIS, Some(Settle(Stopped))),
        (Stopped, UnderWay, DIED, THIS, Some(Settle(Stopped))),
    ];
    for (desired, change, seen, boot, action) in cases {
        let case = format!("{desired:?} {change:?} {seen:?}");
        assert_eq!(plan(&vm(ready(desired, change), seen, boot), THIS), action, "{case}");
    }
}

#[test]
fn a_domain_that_runs_without_a_definition_gets_one() {
    let transient = Known {
        definition: Definition::Transient,
        ..vm(ready(Desired::Running, Change::Done), RUNNING, THIS)
    };
    assert_eq!(plan(&transient, THIS), Some(Action::Redefine));
}

#[test]
fn a_vm_that_was_kept_to_be_looked_into_stays_as_it_is() {
    let failure = Some("no address".to_owned());
    let stage = VmStage::Ready { desired: Desired::Running, change: Change::Done, failure };
    for seen in [RUNNING, OFF, DIED, Sighting::NoDomain] {
        assert_eq!(plan(&vm(stage.clone(), seen, FORMER), THIS), None);
    }
}

#[test]
fn a_domain_that_is_in_no_record_gives_its_own_and_one_without_a_readable_record_none() {
    let record =
        |name| VmRecord::creating(VmId::generate(), &samples::spec(name), Timestamp::UNIX_EPOCH);
    let (known, unknown) = (record("known"), record("unknown"));
    let kept = |record: &VmRecord| Kept {
        id: record.id,
        record: Some(record.clone()),
        definition: Definition::Persistent,
    };
    let unreadable = Kept { record: None, ..kept(&record("unreadable")) };
    let all = vec![kept(&known), kept(&unknown), unreadable.clone()];
    assert_eq!(lost(all, |id| id == known.id), (vec![unknown], vec![unreadable.id]));
}

fn any_stage() -> impl Strategy<Value = VmStage> {
    let desired = prop_oneof![Just(Desired::Running), Just(Desired::Stopped)];
    let change = prop_oneof![Just(Change::Done), Just(Change::UnderWay)];
    prop_oneof![
        (0..=4usize).prop_map(|n| VmStage::Creating { undo: Step::ALL[..n].to_vec() }),
        Just(VmStage::Deleting),
        (desired, change).prop_map(|(desired, change)| ready(desired, change)),
    ]
}

fn any_sighting() -> impl Strategy<Value = Sighting> {
    prop_oneof![
        Just(Sighting::Never),
        Just(Sighting::NoDomain),
        Just(RUNNING),
        Just(HELD),
        Just(OFF),
        Just(DIED)
    ]
}

/// What the action does to a VM, if all goes well.
fn done(vm: &Known, action: &Action) -> Option<Known> {
    let mut record = (*vm.record).clone();
    let mut seen = vm.seen.clone();
    let mut settled = |desired| record.stage = VmStage::settled(desired);
    match action {
        Action::Undo(_) | Action::Remove => return None,
        Action::Redefine if seen == Sighting::NoDomain => seen = OFF,
        Action::Redefine => {}
        Action::Start => {
            settled(Desired::Running);
            seen = RUNNING;
            record.started = Some(BootMoment { boot: THIS, elapsed: Duration::ZERO });
        }
        Action::Stop => {
            settled(Desired::Stopped);
            seen = OFF;
        }
        Action::Settle(desired) | Action::Follow(desired) => {
            settled(*desired);
            record.started = Some(BootMoment { boot: THIS, elapsed: Duration::ZERO });
        }
    }
    Some(Known { record: Arc::new(record), seen, definition: Definition::Persistent })
}

proptest! {
    #[test]
    fn after_at_most_three_actions_nothing_is_left_to_do(
        stage in any_stage(), seen in any_sighting(), former: bool, transient: bool,
    ) {
        let mut vm = vm(stage, seen, if former { FORMER } else { THIS });
        if transient {
            vm.definition = Definition::Transient;
        }
        for _ in 0..3 {
            let Some(action) = plan(&vm, THIS) else { return Ok(()) };
            let Some(next) = done(&vm, &action) else { return Ok(()) };
            vm = next;
        }
        prop_assert_eq!(plan(&vm, THIS), None);
    }

    #[test]
    fn nothing_is_removed_but_what_was_being_made_or_removed(
        seen in any_sighting(), stage in any_stage(), former: bool,
    ) {
        let ready = matches!(stage, VmStage::Ready { .. });
        let vm = vm(stage, seen, if former { FORMER } else { THIS });
        let removes = matches!(plan(&vm, THIS), Some(Action::Undo(_) | Action::Remove));
        prop_assert_eq!(removes, !ready);
    }

    #[test]
    fn a_guest_that_runs_and_shall_run_is_never_touched(former: bool) {
        let vm = vm(ready(Desired::Running, Change::Done), RUNNING, if former { FORMER } else { THIS });
        let only_noted = former.then_some(Action::Settle(Desired::Running));
        prop_assert_eq!(plan(&vm, THIS), only_noted);
    }
}
