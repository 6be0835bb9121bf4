//! All VMs in memory: what readers see, who may act, and what is promised.
//!
//! Invariants: one lock over records, names, requests and allocations, never held across an
//! await. Hence a name has one VM, a request makes one VM, and reserved + allocated <= total under
//! any concurrency. Readers clone an `Arc` and wait for nobody.

mod entry;
pub mod feed;
mod operation;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use crate::domain::{
    Allocation, AppError, Budget, ErrorKind, Kept, Observed, Origin, PowerState, Sighting, Taken,
    VmId, VmRecord, VmRef, VmView,
};
pub use entry::Known;
use entry::{Entry, Refreshed};
use feed::{Feed, VmChange, What};
pub(super) use operation::name_in_span;
pub use operation::{Operation, Outcome, Ticket};

/// What became of a request to create a VM.
#[derive(Debug)]
pub enum Admitted {
    /// The VM is to be made by the caller.
    New(Ticket),
    /// The same request makes it already, or has made it.
    Same(VmId, watch::Receiver<Outcome>),
}

/// When libvirt last told all that it has.
#[derive(Debug, Clone, Copy, Default)]
struct Contact {
    last: Duration,
    lost: bool,
}

/// The moment before libvirt is asked for all that it has.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    at: Duration,
    count: u64,
}

/// All VMs of the agent.
#[derive(Debug, Default)]
pub struct Registry {
    vms: RwLock<BTreeMap<VmId, Entry>>,
    ids: watch::Sender<Vec<VmId>>,
    /// Of sightings, so that none is overwritten by an older one.
    count: AtomicU64,
    contact: Mutex<Contact>,
    suspects: Mutex<BTreeMap<VmId, Duration>>,
    complete: AtomicBool,
    /// Changed under the lock of `vms` only.
    feed: Mutex<Feed>,
}

/// Where a watcher begins.
#[derive(Debug)]
pub enum Since {
    /// With these changes.
    Known(Vec<VmChange>),
    /// With all VMs: nothing is known of what it saw.
    Anew(Vec<Arc<VmView>>),
}

impl Registry {
    /// Takes the name and the resources for a new VM, or finds the VM that the same request makes.
    ///
    /// # Errors
    /// `CONFLICT` if the name or the request id belongs to another VM, `RESOURCE_LIMIT_EXCEEDED`
    /// if `budget` does not suffice beside what is promised already.
    pub fn admit(&self, record: VmRecord, budget: &Budget) -> Result<Admitted, AppError> {
        let mut vms = self.write();
        if let Some(same) = find_same_request(&vms, &record)? {
            return Ok(Admitted::Same(same.record.id, same.outcome.clone()));
        }
        if let Some(taken) = vms.values().find(|e| e.record.name == record.name) {
            return Err(name_taken(&taken.record));
        }
        budget.admit(taken(&vms), record.shape.allocation())?;
        let (outcome, receiver) = watch::channel(None);
        let entry = Entry::new(Arc::new(record), receiver);
        let operation = Operation::begin(&entry, entry.record.origin.as_ref())?;
        self.tell(&entry, What::Changed(entry.view.borrow().clone()));
        vms.insert(entry.record.id, entry);
        self.tell_ids(&vms);
        Ok(Admitted::New(Ticket { operation, outcome }))
    }

    /// The VM that the same request makes or has made, if there is one.
    ///
    /// # Errors
    /// `CONFLICT` if the request id belongs to another VM.
    pub fn made_by(
        &self,
        record: &VmRecord,
    ) -> Result<Option<(VmId, watch::Receiver<Outcome>)>, AppError> {
        let vms = self.read();
        let same = find_same_request(&vms, record)?;
        Ok(same.map(|entry| (entry.record.id, entry.outcome.clone())))
    }

    /// Takes in a VM that the ledger knows.
    pub fn adopt(&self, record: VmRecord) {
        let (_, outcome) = watch::channel(None);
        let mut vms = self.write();
        let entry = Entry::new(Arc::new(record), outcome);
        self.tell(&entry, What::Changed(entry.view.borrow().clone()));
        vms.insert(entry.record.id, entry);
        self.tell_ids(&vms);
    }

    /// The exclusive right to change a VM, for the command that is `origin` if one wants it.
    ///
    /// # Errors
    /// `NOT_FOUND`, or `CONFLICT` (busy) while somebody else has it.
    pub fn begin(
        &self,
        vm: &VmRef,
        origin: Option<&Origin>,
    ) -> Result<(Operation, Arc<VmRecord>), AppError> {
        let vms = self.read();
        let entry = find(&vms, vm)?;
        Ok((Operation::begin(entry, origin)?, Arc::clone(&entry.record)))
    }

    /// The VM as it is now.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn view(&self, vm: &VmRef) -> Result<Arc<VmView>, AppError> {
        find(&self.read(), vm).map(|entry| entry.view.borrow().clone())
    }

    /// All VMs, ordered by name.
    #[must_use]
    pub fn views(&self) -> Vec<Arc<VmView>> {
        views(&self.read())
    }

    /// Returns once the VM's power is as it is waited for, or the VM is gone.
    pub async fn until_power(&self, id: VmId, reached: impl Fn(&PowerState) -> bool) {
        self.until(id, |power| power.is_some_and(&reached)).await;
    }

    /// Returns once the VM is known not to run any more, or the VM is gone.
    pub async fn until_down(&self, id: VmId) {
        self.until(id, |power| power.is_some_and(|p| *p != PowerState::Running)).await;
    }

    async fn until(&self, id: VmId, reached: impl Fn(Option<&PowerState>) -> bool) {
        let Some(mut views) = self.read().get(&id).map(|e| e.view.subscribe()) else { return };
        while self.read().get(&id).is_some_and(|e| !reached(e.seen.power())) {
            if views.changed().await.is_err() {
                return;
            }
        }
    }

    /// What libvirt last said of the VM's power.
    #[must_use]
    pub fn power(&self, id: VmId) -> Option<PowerState> {
        self.read().get(&id).and_then(|e| e.seen.power().cloned())
    }

    /// The command that works on the VM now, if one does.
    #[must_use]
    pub fn cause(&self, id: VmId) -> Option<Arc<Origin>> {
        self.read().get(&id).and_then(|entry| entry.cause.now())
    }

    /// Shows readers a changed record; unknown VMs are ignored.
    pub fn publish(&self, record: Arc<VmRecord>) {
        self.change(record.id, |entry| entry.record = record);
    }

    /// Takes in what libvirt says of a VM's domain.
    pub fn see(&self, id: VmId, seen: Sighting) {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        self.change(id, |entry| entry.see(seen, count));
    }

    /// To be called before libvirt is asked for a full list, `now` on the monotonic clock.
    #[must_use]
    pub fn asking(&self, now: Duration) -> Asked {
        Asked { at: now, count: self.count.fetch_add(1, Ordering::Relaxed) }
    }

    /// Takes in a full list of what libvirt has: VMs that are not in it have no domain. What was seen
    /// of a VM since libvirt was asked is newer, and stays.
    pub fn resync(&self, asked: Asked, observed: &[Observed]) {
        *lock(&self.contact) = Contact { last: asked.at, lost: false };
        let ids: Vec<VmId> = self.read().keys().copied().collect();
        for id in ids {
            let found = observed.iter().find(|o| o.id == id);
            let seen = found.map_or(Sighting::NoDomain, |o| Sighting::Power(o.power.clone()));
            self.change(id, |entry| {
                if entry.seen_at <= asked.count {
                    entry.see(seen, asked.count);
                }
            });
        }
    }

    /// Takes in what libvirt keeps of the definitions.
    pub fn kept(&self, kept: &[Kept]) {
        for one in kept {
            self.change(one.id, |entry| entry.definition = one.definition);
        }
    }

    /// Notes that libvirt can't be asked: what is known gets older from now on.
    pub fn lost_contact(&self) {
        lock(&self.contact).lost = true;
    }

    /// How old what readers see is, `now` on the monotonic clock; `None` while libvirt answers.
    #[must_use]
    pub fn age(&self, now: Duration) -> Option<Duration> {
        let contact = *lock(&self.contact);
        contact.lost.then(|| now.saturating_sub(contact.last))
    }

    /// All VMs, as the planning of what has to be done about them needs them.
    #[must_use]
    pub fn known(&self) -> Vec<Known> {
        self.read().values().map(Entry::known).collect()
    }

    /// One of them.
    #[must_use]
    pub fn known_of(&self, id: VmId) -> Option<Known> {
        self.read().get(&id).map(Entry::known)
    }

    /// Notes why what has to be done about a VM can't be done, or that it can. True if that is news.
    pub fn problem(&self, id: VmId, problem: Option<String>) -> bool {
        let mut news = false;
        self.change(id, |entry| {
            news = entry.problem != problem;
            entry.problem = problem;
        });
        news
    }

    /// Notes that what was made for a VM that is gone may yet appear, and is to be looked for again
    /// at `due` on the monotonic clock.
    pub fn suspect(&self, id: VmId, due: Duration) {
        lock(&self.suspects).insert(id, due);
    }

    /// Whether something of that VM, which is gone, may yet appear.
    #[must_use]
    pub fn suspects(&self, id: VmId) -> bool {
        lock(&self.suspects).contains_key(&id)
    }

    /// Those that have to be looked for by `now`.
    #[must_use]
    pub fn due_suspects(&self, now: Duration) -> Vec<VmId> {
        let suspects = lock(&self.suspects);
        suspects.iter().filter(|(_, due)| **due <= now).map(|(id, _)| *id).collect()
    }

    /// Notes whether every domain of this agent that libvirt has belongs to a VM of here. A new process does not
    /// know: the ledger may have lost a record.
    pub fn compared(&self, complete: bool) {
        self.complete.store(complete, Ordering::Release);
    }

    /// Whether what was made for VMs belongs to these VMs, and no other's disk is on this host.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Notes that nothing of that VM is left.
    pub fn trust(&self, id: VmId) {
        lock(&self.suspects).remove(&id);
    }

    /// Takes in counters read `at` that time of the monotonic clock.
    pub fn sampled(&self, at: Duration, observed: &[Observed]) {
        for one in observed {
            self.change(one.id, |entry| entry.sampled(at, one));
        }
    }

    /// Gives the VM's name and resources back.
    pub fn forget(&self, id: VmId) {
        let mut vms = self.write();
        if let Some(gone) = vms.remove(&id) {
            self.tell(&gone, What::Deleted(id, gone.record.name.clone()));
        }
        self.tell_ids(&vms);
    }

    /// The ids of all VMs, now and after each change.
    #[must_use]
    pub fn ids(&self) -> watch::Receiver<Vec<VmId>> {
        self.ids.subscribe()
    }

    fn tell_ids(&self, vms: &BTreeMap<VmId, Entry>) {
        self.ids.send_replace(vms.keys().copied().collect());
    }

    fn tell(&self, entry: &Entry, what: What) {
        lock(&self.feed).tell(what, entry.cause.now());
    }

    /// The changes from that one on, or all VMs if it is not known any more; the number of the last one that
    /// is told by that; and what comes after.
    #[must_use]
    pub fn changes(
        &self,
        from: Option<(Uuid, u64)>,
    ) -> (u64, Since, broadcast::Receiver<VmChange>) {
        // Nothing changes while this is held.
        let vms = self.read();
        let feed = lock(&self.feed);
        let known = from.filter(|(epoch, _)| *epoch == feed.epoch);
        let since = match known.and_then(|(_, number)| feed.since(number)) {
            Some(changes) => Since::Known(changes),
            None => Since::Anew(views(&vms)),
        };
        (feed.last(), since, feed.subscribe())
    }

    /// Tells the numbers of this process's changes from those of another.
    #[must_use]
    pub fn epoch(&self) -> Uuid {
        lock(&self.feed).epoch
    }

    /// What VMs take at most, or really where that is more; and how many CPUs they use now.
    #[must_use]
    pub fn taken(&self) -> (Taken, f64) {
        let vms = self.read();
        (taken(&vms), vms.values().map(Entry::cpus_used).sum())
    }

    fn change(&self, id: VmId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.write().get_mut(&id) {
            change(entry);
            if entry.refresh() == Refreshed::Visibly {
                self.tell(entry, What::Changed(entry.view.borrow().clone()));
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<VmId, Entry>> {
        self.vms.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<VmId, Entry>> {
        self.vms.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn views(vms: &BTreeMap<VmId, Entry>) -> Vec<Arc<VmView>> {
    let mut views: Vec<_> = vms.values().map(|e| e.view.borrow().clone()).collect();
    views.sort_unstable_by(|a, b| a.record.name.cmp(&b.record.name));
    views
}

fn taken(vms: &BTreeMap<VmId, Entry>) -> Taken {
    let sum = |of: fn(&Entry) -> Allocation| {
        vms.values().map(of).fold(Allocation::default(), |sum, one| sum + one)
    };
    Taken { allocated: sum(|e| e.record.shape.allocation()), used: sum(Entry::used) }
}

fn find<'a>(vms: &'a BTreeMap<VmId, Entry>, vm: &VmRef) -> Result<&'a Entry, AppError> {
    let found = match vm {
        VmRef::Id(id) => vms.get(id),
        VmRef::Name(name) => vms.values().find(|e| e.record.name == *name),
    };
    found.ok_or_else(|| {
        AppError::new(ErrorKind::NotFound, format!("there is no VM '{vm}'"))
            .remedy("see which there are with: agentctl vm list")
            .with("vm", vm)
    })
}

fn find_same_request<'a>(
    vms: &'a BTreeMap<VmId, Entry>,
    record: &VmRecord,
) -> Result<Option<&'a Entry>, AppError> {
    let Some(request) = &record.request_id else { return Ok(None) };
    let Some(entry) = vms.values().find(|e| e.record.request_id.as_ref() == Some(request)) else {
        return Ok(None);
    };
    let old = &entry.record;
    if (&old.name, old.shape, &old.template) == (&record.name, record.shape, &record.template) {
        return Ok(Some(entry));
    }
    Err(AppError::new(
        ErrorKind::NameTaken,
        format!("request_id '{}' made VM '{}' with other parameters", request.as_str(), old.name),
    )
    .remedy("use a new request_id for a new VM")
    .with("vm_id", old.id))
}

fn name_taken(owner: &VmRecord) -> AppError {
    AppError::new(
        ErrorKind::NameTaken,
        format!("the name '{}' belongs to VM {}", owner.name, owner.id),
    )
    .remedy("choose another name, or delete that VM first")
    .with("vm_id", owner.id)
}
