//! Ledger and libvirt side by side: what a dead process left undone is undone or finished, what libvirt or
//! the host lost is made true again, what the ledger lost is learned from libvirt.
//!
//! What to do is decided purely by [`plan()`]; doing it is dull. Invariant: only VMs of the ledger, and
//! domains that bear this agent's mark, are ever looked at.

mod act;
pub mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tracing::Instrument as _;

use super::limits::Limits;
use super::registry::Registry;
use super::said::{Said, gist};
use super::undo;
use crate::domain::{
    AppError, BootMoment, Desired, Kept, Step, VmId, VmRecord, VmRef, VmStage, cause,
};
use crate::ports::Ports;
pub use plan::{Action, plan};

/// How many VMs are worked on at once: one whose domain hangs must not hold up the rest.
const AT_ONCE: usize = 4;
/// After which time a VM that was removed under doubt is looked for again: longer than any call
/// that was under way when a process died or a connection was lost.
pub(super) const DOUBT: Duration = Duration::from_secs(60);
/// Most steps that one VM needs: define, start, settle.
const MOST_STEPS: usize = 3;

/// Whether a domain of this agent is of no VM.
enum Stranger {
    None,
    /// It is, with its disk.
    LeftAlone,
}

/// The use case.
#[derive(Debug)]
pub struct Reconcile {
    ports: Ports,
    registry: Arc<Registry>,
    limits: Limits,
    /// Of domains that are in no record.
    strangers: Said<VmId>,
    /// Of what may be left of removed VMs.
    leftovers: Said<VmId>,
}

impl Reconcile {
    /// Over these ports.
    #[must_use]
    pub fn new(ports: Ports, registry: Arc<Registry>, limits: Limits) -> Self {
        let (strangers, leftovers) = (Said::default(), Said::default());
        Self { ports, registry, limits, strangers, leftovers }
    }

    /// Takes in what the ledger knows. Called once, before anything else.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn adopt(&self) -> Result<(), AppError> {
        for record in self.ports.ledger.load().await? {
            self.registry.adopt(record);
        }
        Ok(())
    }

    /// Takes in what libvirt has, records that the ledger has lost included.
    ///
    /// # Errors
    /// libvirt's, if it can't be asked; the ledger's, if it can't take in what it has lost.
    pub async fn look(&self) -> Result<(), AppError> {
        let asking = self.registry.asking(self.ports.clock.monotonic());
        // Before libvirt is asked: a VM that is removed meanwhile is not one that was lost.
        let before: BTreeSet<VmId> = self.registry.ids().borrow().iter().copied().collect();
        let asked = async {
            let observed = self.ports.hypervisor.observe().await?;
            Ok::<_, AppError>((observed, self.ports.hypervisor.kept().await?))
        };
        let (observed, kept) = asked.await.inspect_err(|_| self.registry.lost_contact())?;
        let kept_known = kept.iter().filter(|one| before.contains(&one.id)).cloned();
        self.registry.kept(&kept_known.collect::<Vec<_>>());
        let runs = |id| observed.iter().any(|one| one.id == id && !one.power.is_off());
        let taken_in = self.take_in_lost(kept, &before, runs).await;
        self.registry.resync(asking, &observed);
        taken_in
    }

    /// One that can't be taken in does not hold up the rest.
    ///
    /// # Errors
    /// The last of theirs: there is something left to take in.
    async fn take_in_lost(
        &self,
        kept: Vec<Kept>,
        before: &BTreeSet<VmId>,
        runs: impl Fn(VmId) -> bool,
    ) -> Result<(), AppError> {
        let registry = Arc::clone(&self.registry);
        let known = |id: VmId| {
            before.contains(&id) || registry.suspects(id) || registry.ids().borrow().contains(&id)
        };
        let (lost, unreadable) = plan::lost(kept, known);
        let is_readable = unreadable.is_empty();
        self.strangers.begin_pass();
        for id in unreadable {
            if self.strangers.is_news(id, "unreadable") {
                tracing::error!(vm_id = %id, "a domain of this agent is in no record, and the record in its metadata can't be read: it is left alone; look at it with virsh dumpxml");
            }
        }
        let (mut result, mut complete) = (Ok(()), is_readable);
        for record in lost {
            let (id, name) = (record.id, record.name.clone());
            match self.take_in(record, runs(id)).await {
                Ok(Stranger::None) => {}
                Ok(Stranger::LeftAlone) => complete = false,
                Err(error) => {
                    if self.strangers.is_news(id, gist(&error)) {
                        tracing::error!(vm_name = %name, vm_id = %id, error = cause(&error), "cannot make the lost record of this VM anew; will try again in some seconds");
                    }
                    (result, complete) = (Err(error), false);
                }
            }
        }
        self.registry.compared(complete);
        result
    }

    async fn take_in(&self, record: VmRecord, runs: bool) -> Result<Stranger, AppError> {
        let (id, name) = (record.id, &record.name);
        if self.registry.view(&VmRef::Name(name.clone())).is_ok() {
            if self.strangers.is_news(id, "of another's name") {
                tracing::error!(vm_name = %name, vm_id = %id, "a domain of this agent is in no record, and its name belongs to another VM by now; remove the domain and its volumes by hand");
            }
            return Ok(Stranger::LeftAlone);
        }
        if !runs && self.ports.storage.find(id).await?.disk.is_none() {
            // Not a VM that was lost, but one whose undo was overtaken.
            tracing::warn!(vm_name = %name, vm_id = %id, "a domain of this agent is in no record and has no disk: it is removed");
            self.registry.suspect(id, self.ports.clock.monotonic());
            return Ok(Stranger::None);
        }
        // What it shall be is what it is; that is not known before libvirt's answer is taken in.
        let record = VmRecord { stage: VmStage::settled(Desired::Stopped), ..record };
        self.ports.ledger.save(&record).await?;
        tracing::warn!(vm_name = %record.name, vm_id = %id, "the record of this VM was lost; it was made anew from libvirt's metadata");
        self.registry.adopt(record);
        Ok(Stranger::None)
    }

    /// Acts on every VM that needs it and is not being worked on, and looks again for what was removed
    /// under doubt. One that fails does not hold up the rest; it is tried again at the next call.
    pub async fn act_on_all(&self) {
        let now = match self.ports.boot_moment().await {
            Ok(now) => now,
            Err(error) => {
                tracing::error!(
                    error = cause(&error),
                    "cannot tell whether the host was booted anew; nothing is done about VMs"
                );
                return;
            }
        };
        let vms = self.registry.known();
        let (due, well): (Vec<_>, Vec<_>) = vms.iter().partition(|vm| plan(vm, now.boot).is_some());
        // What somebody else has cured is no problem any more.
        for vm in well {
            self.registry.problem(vm.record.id, None);
        }
        let due: Vec<VmId> = due.iter().map(|vm| vm.record.id).collect();
        stream::iter(due).for_each_concurrent(AT_ONCE, |id| self.act_on(id, now)).await;
        let suspects = self.registry.due_suspects(self.ports.clock.monotonic());
        stream::iter(suspects).for_each_concurrent(AT_ONCE, |id| self.look_again_for(id)).await;
    }

    /// Looks, then acts.
    ///
    /// # Errors
    /// libvirt's, if it can't be asked; nothing is acted on then.
    pub async fn run(&self) -> Result<(), AppError> {
        self.look().await?;
        self.act_on_all().await;
        Ok(())
    }

    async fn act_on(&self, id: VmId, now: BootMoment) {
        let vm_name = tracing::field::Empty;
        let span = tracing::info_span!("reconcile", vm_id = %id, vm_name);
        self.act_alone_on(id, now).instrument(span).await;
    }

    async fn act_alone_on(&self, id: VmId, now: BootMoment) {
        let Some(vm) = self.registry.known_of(id) else { return };
        // What a command began and a dead process left is still that command's.
        let origin = plan::is_unfinished(&vm.record.stage).then_some(vm.record.origin.as_ref());
        let begun = self.registry.begin(&VmRef::Id(id), origin.flatten());
        let Ok((_operation, _)) = begun else { return };
        for _ in 0..MOST_STEPS {
            // Anew, under the lock: somebody may have changed it meanwhile.
            let Some(vm) = self.registry.known_of(id) else { return };
            let Some(action) = plan(&vm, now.boot) else { break };
            if let Err(error) = self.act(&vm, &action, now).await {
                let record = &vm.record;
                if self.registry.problem(id, Some(error.to_string())) {
                    tracing::error!(vm_name = %record.name, vm_id = %id, ?action, error = cause(&error), "cannot do what has to be done about this VM; will try again");
                }
                return;
            }
        }
        self.registry.problem(id, None);
    }

    async fn look_again_for(&self, id: VmId) {
        let span = tracing::info_span!("look again", vm_id = %id);
        match undo::take_back(&self.ports, id, &Step::ALL).instrument(span).await {
            Ok(()) => {
                self.leftovers.has_ended(&id);
                self.registry.trust(id);
            }
            Err(error) => {
                if self.leftovers.is_news(id, gist(&error)) {
                    tracing::warn!(vm_id = %id, error = cause(&error), "cannot look again for what may be left of a removed VM; will try again");
                }
                self.registry.suspect(id, self.ports.clock.monotonic() + DOUBT);
            }
        }
    }
}
