//! The VMs. Invariant: at most [`MOST_VMS`] of them have series of their own, the first by name; all are counted.

use std::fmt;
use std::sync::Arc;

use ghost_core::domain::{Traffic, VmStage, VmStatus, VmView};

use super::super::catalog as m;
use super::super::catalog::Metric;
use super::super::page::{Page, number};

/// Ten times of what an agent is made for: 16 series each.
const MOST_VMS: usize = 256;

const STAGES: [&str; 3] = ["creating", "ready", "deleting"];

pub(super) fn encode(vms: &[Arc<VmView>], page: &mut Page<'_>) -> fmt::Result {
    let of = |status| number(vms.iter().filter(|vm| vm.status == status).count());
    page.each(&m::VMS, VmStatus::ALL.map(|status| ([status.as_str()], of(status))))?;
    page.one(&m::VMS_RUNNING, of(VmStatus::Running))?;
    let at = |stage| number(vms.iter().filter(|vm| stage_of(vm) == stage).count());
    page.each(&m::LEDGER_RECORDS, STAGES.map(|stage| ([stage], at(stage))))?;
    let shown: Vec<Shown<'_>> = vms.iter().take(MOST_VMS).map(|vm| Shown::of(vm)).collect();
    let info = shown.iter().map(|vm| (vm.info(), 1.0));
    page.each(&m::VM_INFO, info)?;
    for (metric, of) in MEASURES {
        let sampled = shown.iter().filter(|vm| vm.is_sampled());
        page.each(metric, sampled.map(|vm| (vm.names(), of(vm.view))))?;
    }
    Ok(())
}

type Measure = fn(&VmView) -> f64;

const MEASURES: [(&Metric, Measure); 8] = [
    (&m::VM_CPU, |vm| f64::from(vm.cpu_percent) / 100.0),
    (&m::VM_MEMORY, |vm| f64::from(vm.ram_percent) / 100.0),
    (&m::VM_HOST_MEMORY, |vm| number(vm.traffic.host_ram)),
    (&m::VM_DISK_USED, |vm| number(vm.traffic.disk_used)),
    (&m::VM_RECEIVED, |vm| number(vm.traffic.net_rx)),
    (&m::VM_SENT, |vm| number(vm.traffic.net_tx)),
    (&m::VM_READ, |vm| number(vm.traffic.disk_read)),
    (&m::VM_WRITTEN, |vm| number(vm.traffic.disk_written)),
];

fn stage_of(vm: &VmView) -> &'static str {
    match vm.record.stage {
        VmStage::Creating { .. } => "creating",
        VmStage::Ready { .. } => "ready",
        VmStage::Deleting => "deleting",
    }
}

/// A VM with series of its own.
struct Shown<'a> {
    id: String,
    view: &'a VmView,
}

impl<'a> Shown<'a> {
    fn of(view: &'a VmView) -> Self {
        Self { id: view.record.id.to_string(), view }
    }

    fn names(&self) -> [&str; 2] {
        [&self.id, self.view.record.name.as_str()]
    }

    fn info(&self) -> [&str; 4] {
        let [id, name] = self.names();
        [id, name, self.view.record.template.as_str(), self.view.status.as_str()]
    }

    /// Of a guest that does not run, or has not been looked at yet, nothing is known.
    fn is_sampled(&self) -> bool {
        self.view.status == VmStatus::Running && self.view.traffic != Traffic::default()
    }
}
