//! All VMs in memory: what readers see, who may act, and what is promised.
//!
//! Invariants: one lock over records, names, requests and allocations, never held across an
//! await. Hence a name has one VM, a request makes one VM, and reserved + allocated <= total under
//! any concurrency. Readers clone an `Arc` and wait for nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::domain::{
    Allocation, AppError, Budget, ErrorKind, Observed, PowerState, Sighting, VmId, VmRecord, VmRef,
    VmStatus, VmView,
};

/// How a create ended, for those who joined it.
pub type Outcome = Option<Result<(), Arc<AppError>>>;

/// The right to change one VM; others get `Busy` until it is dropped.
#[derive(Debug)]
pub struct Operation {
    /// The VM.
    pub id: VmId,
    _lock: OwnedMutexGuard<()>,
}

/// The right to make a VM, and the way to tell how it ended.
#[derive(Debug)]
pub struct Ticket {
    /// The right to change the new VM.
    pub operation: Operation,
    outcome: watch::Sender<Outcome>,
}

impl Ticket {
    /// Tells those who joined how it ended.
    pub fn announce(&self, result: Result<(), Arc<AppError>>) {
        self.outcome.send_replace(Some(result));
    }
}

/// What became of a request to create a VM.
#[derive(Debug)]
pub enum Admitted {
    /// The VM is to be made by the caller.
    New(Ticket),
    /// The same request makes it already, or has made it.
    Same(VmId, watch::Receiver<Outcome>),
}

#[derive(Debug)]
struct Entry {
    record: Arc<VmRecord>,
    seen: Sighting,
    sample: Option<Sample>,
    view: watch::Sender<Arc<VmView>>,
    lock: Arc<Mutex<()>>,
    outcome: watch::Receiver<Outcome>,
}

/// The last reading of a VM's counters.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    cpu_time: Duration,
    cpu_percent: f32,
    ram_percent: f32,
}

impl Entry {
    fn new(record: Arc<VmRecord>, outcome: watch::Receiver<Outcome>) -> Self {
        let view = watch::Sender::new(Arc::new(view_of(&record, &Sighting::Never, None)));
        Self { record, seen: Sighting::Never, sample: None, view, lock: Arc::default(), outcome }
    }

    fn refresh(&self) {
        // Told even if the view is the same: who waits for a sighting looks behind the view.
        let view = view_of(&self.record, &self.seen, self.sample.as_ref());
        self.view.send_replace(Arc::new(view));
    }
}

fn view_of(record: &Arc<VmRecord>, seen: &Sighting, sample: Option<&Sample>) -> VmView {
    VmView {
        record: Arc::clone(record),
        status: VmStatus::of(&record.stage, seen),
        cpu_percent: sample.map_or(0.0, |s| s.cpu_percent),
        ram_percent: sample.map_or(0.0, |s| s.ram_percent),
    }
}

/// All VMs of the agent.
#[derive(Debug, Default)]
pub struct Registry {
    vms: RwLock<BTreeMap<VmId, Entry>>,
    ids: watch::Sender<Vec<VmId>>,
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
        let promised = vms.values().map(|e| e.record.shape.allocation());
        let promised = promised.fold(Allocation::default(), |sum, one| sum + one);
        budget.admit(promised, record.shape.allocation())?;
        let (outcome, receiver) = watch::channel(None);
        let entry = Entry::new(Arc::new(record), receiver);
        let operation = operation(&entry)?;
        vms.insert(entry.record.id, entry);
        self.tell_ids(&vms);
        Ok(Admitted::New(Ticket { operation, outcome }))
    }

    /// Takes in a VM that the ledger knows, at start-up.
    pub fn adopt(&self, record: VmRecord) {
        let (_, outcome) = watch::channel(None);
        let mut vms = self.write();
        vms.insert(record.id, Entry::new(Arc::new(record), outcome));
        self.tell_ids(&vms);
    }

    /// The exclusive right to change a VM.
    ///
    /// # Errors
    /// `NOT_FOUND`, or `CONFLICT` (busy) while somebody else has it.
    pub fn begin(&self, vm: &VmRef) -> Result<(Operation, Arc<VmRecord>), AppError> {
        let vms = self.read();
        let entry = find(&vms, vm)?;
        Ok((operation(entry)?, Arc::clone(&entry.record)))
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
        let mut views: Vec<_> = self.read().values().map(|e| e.view.borrow().clone()).collect();
        views.sort_unstable_by(|a, b| a.record.name.cmp(&b.record.name));
        views
    }

    /// Returns once the VM's power is `wanted`, or the VM is gone.
    pub async fn until_power(&self, id: VmId, wanted: &PowerState) {
        self.until(id, |power| power == Some(wanted)).await;
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

    /// Shows readers a changed record; unknown VMs are ignored.
    pub fn publish(&self, record: Arc<VmRecord>) {
        self.change(record.id, |entry| entry.record = record);
    }

    /// Takes in what libvirt says of a VM's domain.
    pub fn see(&self, id: VmId, seen: Sighting) {
        self.change(id, |entry| {
            if seen != Sighting::Power(PowerState::Running) {
                entry.sample = None;
            }
            entry.seen = seen;
        });
    }

    /// Takes in a full list of what libvirt has: VMs that are not in it have no domain.
    pub fn resync(&self, observed: &[Observed]) {
        let ids: Vec<VmId> = self.read().keys().copied().collect();
        for id in ids {
            let found = observed.iter().find(|o| o.id == id);
            self.see(id, found.map_or(Sighting::NoDomain, |o| Sighting::Power(o.power.clone())));
        }
    }

    /// Takes in counters read `at` that time of the monotonic clock.
    pub fn sampled(&self, at: Duration, observed: &[Observed]) {
        for one in observed {
            self.change(one.id, |entry| {
                if entry.seen.power() == Some(&PowerState::Running) {
                    entry.sample = Some(next_sample(entry, at, one));
                }
            });
        }
    }

    /// Gives the VM's name and resources back.
    pub fn forget(&self, id: VmId) {
        let mut vms = self.write();
        vms.remove(&id);
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

    fn change(&self, id: VmId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.write().get_mut(&id) {
            change(entry);
            entry.refresh();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<VmId, Entry>> {
        self.vms.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<VmId, Entry>> {
        self.vms.write().unwrap_or_else(PoisonError::into_inner)
    }
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

fn operation(entry: &Entry) -> Result<Operation, AppError> {
    let id = entry.record.id;
    let lock = Arc::clone(&entry.lock).try_lock_owned().map_err(|_| {
        AppError::new(
            ErrorKind::Busy,
            format!("another operation on VM '{}' is under way", entry.record.name),
        )
        .remedy("try again when it has ended")
        .with("vm_id", id)
    })?;
    Ok(Operation { id, _lock: lock })
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

fn next_sample(entry: &Entry, at: Duration, now: &Observed) -> Sample {
    let shape = entry.record.shape;
    let cpu_percent = entry.sample.map_or(0.0, |last| {
        let passed = at.saturating_sub(last.at).as_secs_f32() * shape_f32(shape.vcpus);
        let used = now.cpu_time.saturating_sub(last.cpu_time).as_secs_f32();
        if passed > 0.0 { (100.0 * used / passed).clamp(0.0, 100.0) } else { last.cpu_percent }
    });
    Sample {
        at,
        cpu_time: now.cpu_time,
        cpu_percent,
        ram_percent: ram_percent(now, shape.ram.bytes().0),
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most 32")]
fn shape_f32(vcpus: u32) -> f32 {
    vcpus as f32
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a percentage needs no more than seven digits"
)]
fn ram_percent(now: &Observed, total: u64) -> f32 {
    now.ram_used.map_or(0.0, |used| (100.0 * used as f64 / total as f64).clamp(0.0, 100.0) as f32)
}
