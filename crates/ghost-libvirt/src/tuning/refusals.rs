//! What the host could not do for its owner. Invariant: each kind is told once, however many VMs it
//! concerns.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ghost_core::domain::{AppError, cause};

use super::Measure;
use crate::failure::Failure;
use crate::sys::LibvirtError;
use crate::vitals::Enforcement;

/// The kinds of measures that were tried, and whether one was ever refused.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<Discriminant<Measure>, Enforcement>>);

impl Refusals {
    /// Tells what the owner loses, and what would cure it.
    pub(super) fn tell(&self, measure: Measure, error: &LibvirtError) {
        if self.is_news(measure) {
            let error = AppError::from(Failure::Call(error.clone()));
            tracing::warn!(error = cause(&error), "{}", loss(measure));
        }
    }

    /// Notes that a guest is held to it.
    pub(super) fn held(&self, measure: Measure) {
        self.tried().entry(discriminant(&measure)).or_insert(Enforcement::Enforced);
    }

    /// Whether guests are held to that kind; `None` if no guest was to be yet.
    pub(super) fn of(&self, measure: Measure) -> Option<Enforcement> {
        self.tried().get(&discriminant(&measure)).copied()
    }

    fn is_news(&self, measure: Measure) -> bool {
        let before = self.tried().insert(discriminant(&measure), Enforcement::Refused);
        before != Some(Enforcement::Refused)
    }

    fn tried(&self) -> MutexGuard<'_, HashMap<Discriminant<Measure>, Enforcement>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn loss(measure: Measure) -> &'static str {
    match measure {
        Measure::CpuShares(_) => {
            "guests compete with the owner's processes for CPU time as equals: libvirt can't set their weight; \
             give it the cgroup controller cpu"
        }
        Measure::IoWeight(_) => {
            "guests compete with the owner's processes for the disks as equals: libvirt can't set their weight; \
             give it the cgroup controller io (blkio), and the disks the scheduler bfq"
        }
        Measure::MemoryLimit(_) => {
            "nothing bounds what QEMU takes of the owner's memory beyond its guest's RAM: libvirt can't set the \
             limit; give it the cgroup controller memory"
        }
        Measure::NetIn(_) => {
            "nothing bounds what guests receive: libvirt can't set the limit; give the kernel the modules sch_htb, \
             sch_sfq and cls_fw"
        }
        Measure::NetOut(_) => {
            "nothing bounds what guests send: libvirt can't set the limit; give the kernel the modules sch_ingress, \
             cls_u32 and act_police"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_news_once_for_each_kind_and_whatever_the_value() {
        let refusals = Refusals::default();
        assert!(refusals.is_news(Measure::CpuShares(2)));
        assert!(refusals.is_news(Measure::IoWeight(2)));
        assert!(!refusals.is_news(Measure::CpuShares(3)));
        // A later guest that is held to it makes the first no less free.
        refusals.held(Measure::CpuShares(3));
        assert_eq!(refusals.of(Measure::CpuShares(3)), Some(Enforcement::Refused));
    }
}
