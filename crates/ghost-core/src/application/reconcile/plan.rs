//! What has to be done, from the ledger and libvirt side by side. Pure: nothing is asked or changed here.

use uuid::Uuid;

use crate::application::registry::Known;
use crate::domain::{
    Change, Definition, Desired, Kept, PowerState, Sighting, Step, VmId, VmRecord, VmStage,
};

/// What has to be done about one VM that nobody is working on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Its creation was cut off: take these steps back.
    Undo(Vec<Step>),
    /// Its removal was cut off: go on.
    Remove,
    /// libvirt lost its definition, or will with the power: define it again.
    Redefine,
    /// It shall run and does not, because its start was cut off or the host went down.
    Start,
    /// Its stop was cut off: go on.
    Stop,
    /// It is what it shall be, and the ledger does not say so yet.
    Settle(Desired),
    /// It was powered on or off past the agent: that is what it shall be from now on.
    Follow(Desired),
}

/// What has to be done about a VM on a host in this `boot`; `None` if all is well, or if that can't be
/// told before libvirt was asked.
#[must_use]
pub fn plan(vm: &Known, boot: Uuid) -> Option<Action> {
    let (desired, change) = match &vm.record.stage {
        VmStage::Creating { undo } => return Some(Action::Undo(undo.clone())),
        VmStage::Deleting => return Some(Action::Remove),
        // Kept for somebody to look into: as it is.
        VmStage::Ready { failure: Some(_), .. } => return None,
        VmStage::Ready { desired, change, failure: None } => (*desired, *change),
    };
    let power = match &vm.seen {
        Sighting::Never => return None,
        Sighting::NoDomain => return Some(Action::Redefine),
        Sighting::Power(_) if vm.definition == Definition::Transient => {
            return Some(Action::Redefine);
        }
        Sighting::Power(power) => power,
    };
    let this_boot = vm.record.started.is_none_or(|started| started.boot == boot);
    let known_of_this_boot = vm.record.started.is_some_and(|started| started.boot == boot);
    match (power, desired, change) {
        (PowerState::Running | PowerState::Paused(_), Desired::Running, Change::UnderWay) => {
            Some(Action::Settle(Desired::Running))
        }
        (PowerState::Off(_), Desired::Stopped, Change::UnderWay) => {
            Some(Action::Settle(Desired::Stopped))
        }
        (PowerState::Off(_) | PowerState::Crashed, Desired::Running, Change::UnderWay) => {
            Some(Action::Start)
        }
        (PowerState::Crashed, Desired::Stopped, Change::UnderWay) => {
            Some(Action::Settle(Desired::Stopped))
        }
        (PowerState::Running | PowerState::Paused(_), Desired::Stopped, Change::UnderWay) => {
            Some(Action::Stop)
        }
        (PowerState::Off(_), Desired::Running, Change::Done) if this_boot => {
            Some(Action::Follow(Desired::Stopped))
        }
        (PowerState::Off(_) | PowerState::Crashed, Desired::Running, Change::Done)
            if !this_boot =>
        {
            Some(Action::Start)
        }
        (PowerState::Running, Desired::Stopped, Change::Done) => {
            Some(Action::Follow(Desired::Running))
        }
        // Somebody was faster, such as libvirt-guests after a boot.
        (PowerState::Running, Desired::Running, Change::Done) if !known_of_this_boot => {
            Some(Action::Settle(Desired::Running))
        }
        // A guest that died stays an error until somebody starts it, and one that is held until
        // somebody lets it go on.
        (PowerState::Off(_) | PowerState::Crashed, _, Change::Done)
        | (PowerState::Running, Desired::Running, Change::Done)
        | (PowerState::Paused(_), _, Change::Done) => None,
    }
}

/// Whether somebody began to change the VM, and has not ended.
#[must_use]
pub const fn is_unfinished(stage: &VmStage) -> bool {
    match stage {
        VmStage::Creating { .. } | VmStage::Deleting => true,
        VmStage::Ready { change: Change::UnderWay, .. } => true,
        VmStage::Ready { change: Change::Done, .. } => false,
    }
}

/// What the ledger has lost: the records of domains of this agent that are not `known`, and those domains
/// whose record can't be read.
pub fn lost(kept: Vec<Kept>, known: impl Fn(VmId) -> bool) -> (Vec<VmRecord>, Vec<VmId>) {
    let (mut lost, mut unreadable) = (Vec::new(), Vec::new());
    for one in kept.into_iter().filter(|one| !known(one.id)) {
        match one.record {
            Some(record) => lost.push(record),
            None => unreadable.push(one.id),
        }
    }
    (lost, unreadable)
}

#[cfg(test)]
mod tests;
