//! One VM in memory, and what readers see of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::operation::{Cause, Outcome};
use crate::domain::{
    Allocation, Bytes, Definition, Observed, PowerState, Sighting, Traffic, VmRecord, VmStatus,
    VmView, sighting,
};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Arc<VmRecord>,
    pub(super) seen: Sighting,
    /// When it was seen so, on the registry's own count.
    pub(super) seen_at: u64,
    pub(super) definition: Definition,
    /// Why what has to be done about it can't be done.
    pub(super) problem: Option<String>,
    pub(super) sample: Option<Sample>,
    pub(super) view: watch::Sender<Arc<VmView>>,
    pub(super) lock: Arc<tokio::sync::Mutex<()>>,
    pub(super) cause: Cause,
    pub(super) outcome: watch::Receiver<Outcome>,
}

/// Whether a watcher sees what was refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refreshed {
    Visibly,
    Silently,
}

/// The last reading of a VM's counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    at: Duration,
    cpu_time: Duration,
    cpu_percent: f32,
    ram_percent: f32,
    traffic: Traffic,
}

impl Entry {
    pub(super) fn new(record: Arc<VmRecord>, outcome: watch::Receiver<Outcome>) -> Self {
        let first = VmView {
            record: Arc::clone(&record),
            status: VmStatus::of(&record.stage, &Sighting::Never),
            cpu_percent: 0.0,
            ram_percent: 0.0,
            traffic: Traffic::default(),
            reason: None,
        };
        Self {
            record,
            seen: Sighting::Never,
            seen_at: 0,
            definition: Definition::Persistent,
            problem: None,
            sample: None,
            view: watch::Sender::new(Arc::new(first)),
            lock: Arc::default(),
            cause: Cause::default(),
            outcome,
        }
    }

    pub(super) fn see(&mut self, seen: Sighting, at: u64) {
        if seen != Sighting::Power(PowerState::Running) {
            self.sample = None;
        }
        (self.seen, self.seen_at) = (seen, at);
    }

    pub(super) fn sampled(&mut self, at: Duration, now: &Observed) {
        if self.seen.power() == Some(&PowerState::Running) {
            self.sample = Some(next_sample(self, at, now));
        }
    }

    pub(super) fn known(&self) -> Known {
        Known {
            record: Arc::clone(&self.record),
            seen: self.seen.clone(),
            definition: self.definition,
        }
    }

    /// Shows readers what is known now; whether a watcher would see a difference.
    pub(super) fn refresh(&self) -> Refreshed {
        let problem = self.problem.clone();
        let now = Arc::new(VmView {
            record: Arc::clone(&self.record),
            status: VmStatus::of(&self.record.stage, &self.seen),
            cpu_percent: self.sample.map_or(0.0, |s| s.cpu_percent),
            ram_percent: self.sample.map_or(0.0, |s| s.ram_percent),
            traffic: self.sample.map_or_else(Traffic::default, |s| s.traffic),
            reason: problem.or_else(|| sighting::reason(&self.record, &self.seen)),
        });
        // Told even if the view is the same: who waits for a sighting looks behind the view.
        let before = self.view.send_replace(Arc::clone(&now));
        let visible = |view: &VmView| (view.status, view.record.address, view.reason.clone());
        match visible(&before) == visible(&now) {
            true => Refreshed::Silently,
            false => Refreshed::Visibly,
        }
    }

    /// What it really takes, as far as that is known.
    pub(super) fn used(&self) -> Allocation {
        let traffic = self.sample.map_or_else(Traffic::default, |s| s.traffic);
        Allocation { vcpus: 0, ram: Bytes(traffic.host_ram), disk: Bytes(traffic.disk_used) }
    }

    /// How many CPUs it uses now.
    pub(super) fn cpus_used(&self) -> f64 {
        let percent = self.sample.map_or(0.0, |s| f64::from(s.cpu_percent));
        percent / 100.0 * f64::from(self.record.shape.vcpus)
    }
}

/// A VM as the planning of what has to be done about it needs it.
#[derive(Debug, Clone)]
pub struct Known {
    /// What is recorded.
    pub record: Arc<VmRecord>,
    /// What libvirt said of its domain.
    pub seen: Sighting,
    /// Whether libvirt keeps its definition.
    pub definition: Definition,
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
        traffic: now.traffic,
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
