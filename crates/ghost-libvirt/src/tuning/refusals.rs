//! What the host could not do for its owner. Invariant: each kind is told once, however many VMs it
//! concerns.

use crate::failure::Failure;
use ghost_core::domain::{AppError, cause};
use std::collections::HashSet;
use std::mem::{Discriminant, discriminant};
use std::sync::{Mutex, PoisonError};

use super::Measure;
use crate::sys::LibvirtError;
use crate::vitals::Enforcement;

/// The kinds of measures that were refused.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashSet<Discriminant<Measure>>>);

impl Refusals {
    /// Tells what the owner loses, and what would cure it.
    pub(super) fn tell(&self, measure: Measure, error: &LibvirtError) {
        if self.is_news(measure) {
            let error = AppError::from(Failure::Call(error.clone()));
            tracing::warn!(error = cause(&error), "{}", loss(measure));
        }
    }

    /// Whether that kind was ever refused.
    pub(super) fn of(&self, measure: Measure) -> Enforcement {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.contains(&discriminant(&measure)) {
            true => Enforcement::Refused,
            false => Enforcement::Enforced,
        }
    }

    fn is_news(&self, measure: Measure) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(discriminant(&measure))
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
    }
}
