//! What holds guests back for the owner's sake.
//!
//! Invariant: a guest's threads never run on a CPU that guests may not use: that is in the domain's
//! definition, needs no cgroups, and a start that can't keep it fails. So are the limits of its disk, which
//! QEMU keeps itself. All else needs help of the host's that it may lack (cgroups, a scheduler of disks that
//! knows weights, the kernel's traffic control): it is set after the start, and a refusal costs the owner
//! that one limit, and is told once, but never costs the guest its start.

mod refusals;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

use ghost_core::domain::{Bytes, MacAddr, VmId, cause};

use crate::failure::Failure;
use crate::sys::{Conn, CpuMap, Direction, Domain, LibvirtError, Tuned};
use crate::vitals::{Enforcement, Policy};
use crate::xml::Element;
pub(crate) use refusals::Refusals;

/// What each VM is held to; the default holds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuning {
    /// The host's CPUs that guests may use, by the kernel's numbers; all of QEMU's threads are tied to
    /// them. Empty: any, and domains that were tied to some stay so.
    pub cpus: Vec<u32>,
    /// A VM's weight where CPU time is short; 1024 is everybody else's (`cpu.shares` of cgroups v1, 2 to
    /// 262144; for v2 it is converted to `cpu.weight`, where 100 is everybody else's). It counts beside
    /// the other cgroups of the same parent, which is libvirt's `machine` or `machine.slice`.
    pub cpu_weight: Option<NonZeroU32>,
    /// A VM's weight where the disks are busy, 1 to 1000; 100 is everybody else's (BFQ's
    /// `blkio.bfq.weight` of cgroups v1, `io.weight` of v2). It counts beside the same cgroups, and only
    /// on disks with a scheduler that knows weights.
    pub io_weight: Option<NonZeroU32>,
    /// What QEMU may take of the host's memory beyond its guest's RAM. One that takes more is killed by
    /// the kernel: under TCG the cache of translated code alone is up to 1 GiB.
    pub memory_overhead: Option<Bytes>,
    /// What a VM may read from its disk, in bytes a second.
    pub disk_read_bytes_per_s: Option<NonZeroU64>,
    /// What a VM may write to its disk, in bytes a second.
    pub disk_write_bytes_per_s: Option<NonZeroU64>,
    /// Reads and writes of its disk, together, a second.
    pub disk_iops: Option<NonZeroU64>,
    /// What a VM may receive, in 1000 bytes a second.
    pub net_in_kbytes_per_s: Option<NonZeroU32>,
    /// What a VM may send, in 1000 bytes a second.
    pub net_out_kbytes_per_s: Option<NonZeroU32>,
}

/// What is set once a domain runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// In the unit of the host's cgroups.
    CpuShares(u64),
    IoWeight(u32),
    /// In KiB.
    MemoryLimit(u64),
    /// In 1000 bytes a second.
    NetIn(u32),
    /// In 1000 bytes a second.
    NetOut(u32),
}

/// Which generation of cgroups holds the host's CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cgroups {
    V1,
    V2,
}

impl Cgroups {
    /// The file is there only where version 2 has all controllers (cgroups(7)); libvirt hands a domain's
    /// `cpu_shares` on to either as they are.
    pub(crate) fn of_host() -> Self {
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        if unified { Self::V2 } else { Self::V1 }
    }

    /// `weight` in 1024 parts of everybody else's. Version 2 counts in 100 parts, from 1 to 10000.
    fn shares(self, weight: NonZeroU32) -> u64 {
        let weight = u64::from(weight.get());
        match self {
            Self::V1 => weight.clamp(2, 262_144),
            Self::V2 => (weight * 100 / 1024).clamp(1, 10_000),
        }
    }
}

impl Tuning {
    /// The CPUs as a definition names them; `None` if any will do.
    pub(crate) fn cpuset(&self) -> Option<String> {
        let cpus: Vec<_> = self.cpus.iter().map(u32::to_string).collect();
        (!cpus.is_empty()).then(|| cpus.join(","))
    }

    /// The limits of a disk; `None` if there are none.
    pub(crate) fn iotune(&self) -> Option<Element> {
        let limits = [
            ("total_iops_sec", self.disk_iops),
            ("read_bytes_sec", self.disk_read_bytes_per_s),
            ("write_bytes_sec", self.disk_write_bytes_per_s),
        ];
        let limits = limits.into_iter().filter_map(|(name, limit)| Some((name, limit?)));
        let limits: Vec<_> = limits.map(|(name, limit)| Element::new(name).text(limit)).collect();
        (!limits.is_empty()).then(|| Element::new("iotune").children(limits))
    }

    /// What is to be set for a running guest that has so much RAM, in KiB.
    fn measures(&self, ram: u64, cgroups: Cgroups) -> Vec<Measure> {
        let limit = |overhead: Bytes| ram.saturating_add(overhead.0.div_ceil(1024));
        let all = [
            self.cpu_weight.map(|weight| Measure::CpuShares(cgroups.shares(weight))),
            self.io_weight.map(|weight| Measure::IoWeight(weight.get())),
            self.memory_overhead.map(|overhead| Measure::MemoryLimit(limit(overhead))),
            self.net_in_kbytes_per_s.map(|limit| Measure::NetIn(limit.get())),
            self.net_out_kbytes_per_s.map(|limit| Measure::NetOut(limit.get())),
        ];
        all.into_iter().flatten().collect()
    }

    /// What is asked for, and whether the host can do it, where that was tried. What a definition keeps is enforced wherever
    /// a VM runs at all.
    pub(crate) fn policies(&self, refusals: &Refusals) -> Vec<(Policy, Enforcement)> {
        let of_definition = [
            (Policy::CpuPinning, self.cpuset().is_some()),
            (Policy::DiskLimit, self.iotune().is_some()),
        ];
        let mut held: Vec<_> = of_definition
            .into_iter()
            .filter(|(_, wanted)| *wanted)
            .map(|(policy, _)| (policy, Enforcement::Enforced))
            .collect();
        for measure in self.measures(0, Cgroups::V2) {
            let Some(state) = refusals.of(measure) else { continue };
            let policy = measure.policy();
            match held.iter_mut().find(|(known, _)| *known == policy) {
                // Both directions have to be held.
                Some((_, known)) if state == Enforcement::Refused => *known = state,
                Some(_) => {}
                None => held.push((policy, state)),
            }
        }
        held
    }

    /// Ties what runs, or its definition, to the CPUs that guests may use: a definition may be older than
    /// the owner's reservation.
    pub(crate) fn ensure_pinned(
        &self,
        conn: &Conn,
        domain: &Domain,
        of: Tuned,
    ) -> Result<(), Failure> {
        if self.cpus.is_empty() {
            return Ok(());
        }
        let cpus = CpuMap::of(&self.cpus, conn.cpus()?);
        if !domain.is_pinned(&cpus, of)? {
            domain.pin(&cpus, of)?;
        }
        Ok(())
    }

    /// After a start: as far as the host can. The refusals are told.
    pub(crate) fn hold(&self, domain: &Domain, id: VmId, cgroups: Cgroups, refusals: &Refusals) {
        if self.measures(0, cgroups).is_empty() {
            return;
        }
        let ram = match domain.memory() {
            Ok(ram) => ram,
            Err(error) => return went_away(id, &error),
        };
        for measure in self.measures(ram, cgroups) {
            match measure.set(domain, id) {
                Ok(()) => refusals.held(measure),
                Err(error) if error.is_of_the_connection() || error.is_missing() => {
                    return went_away(id, &error);
                }
                // It went off in between.
                Err(error) if error.is_of_state() && !domain.is_active().unwrap_or(false) => return,
                Err(error) => refusals.tell(measure, &error),
            }
        }
    }
}

/// The domain, or libvirt, is gone, which others tell of.
fn went_away(id: VmId, error: &LibvirtError) {
    tracing::debug!(vm_id = %id, error = cause(error), "the domain can't be held to its limits any more");
}

impl Measure {
    const fn policy(self) -> Policy {
        match self {
            Self::CpuShares(_) => Policy::CpuWeight,
            Self::IoWeight(_) => Policy::IoWeight,
            Self::MemoryLimit(_) => Policy::MemoryLimit,
            Self::NetIn(_) | Self::NetOut(_) => Policy::NetworkLimit,
        }
    }

    fn set(self, domain: &Domain, id: VmId) -> Result<(), LibvirtError> {
        let net =
            |direction, limit| domain.set_bandwidth(&MacAddr::of(id).to_string(), direction, limit);
        match self {
            Self::CpuShares(shares) => domain.set_cpu_shares(shares),
            Self::IoWeight(weight) => domain.set_io_weight(weight),
            Self::MemoryLimit(kib) => domain.set_memory_limit(kib),
            Self::NetIn(limit) => net(Direction::In, limit),
            Self::NetOut(limit) => net(Direction::Out, limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Tuning {
        Tuning {
            cpus: vec![1, 3],
            cpu_weight: NonZeroU32::new(512),
            io_weight: NonZeroU32::new(50),
            memory_overhead: Some(Bytes(1025)),
            disk_read_bytes_per_s: NonZeroU64::new(10),
            disk_write_bytes_per_s: NonZeroU64::new(20),
            disk_iops: NonZeroU64::new(30),
            net_in_kbytes_per_s: NonZeroU32::new(40),
            net_out_kbytes_per_s: NonZeroU32::new(60),
        }
    }

    #[test]
    fn by_default_nothing_is_held() {
        let none = Tuning::default();
        assert!(none.measures(1000, Cgroups::V1).is_empty());
        assert!(none.cpuset().is_none() && none.iotune().is_none());
    }

    #[test]
    fn each_limit_becomes_one_measure_in_libvirts_unit() {
        let expected = [
            Measure::CpuShares(512),
            Measure::IoWeight(50),
            Measure::MemoryLimit(1002),
            Measure::NetIn(40),
            Measure::NetOut(60),
        ];
        assert_eq!(all().measures(1000, Cgroups::V1), expected);
    }

    #[test]
    fn a_weight_means_the_same_share_under_both_generations_of_cgroups() {
        let cases = [(1024, 1024, 100), (512, 512, 50), (1, 2, 1), (u32::MAX, 262_144, 10_000)];
        for (weight, v1, v2) in cases {
            let weight = NonZeroU32::new(weight).unwrap();
            assert_eq!((Cgroups::V1.shares(weight), Cgroups::V2.shares(weight)), (v1, v2));
        }
    }

    #[test]
    fn each_policy_that_is_asked_for_is_told_and_one_that_was_refused_is_not_enforced() {
        assert_eq!(Tuning::default().policies(&Refusals::default()), []);
        let refusals = Refusals::default();
        let told = |refusals: &Refusals| {
            let told = all().policies(refusals).into_iter();
            told.partition::<Vec<_>, _>(|(_, state)| *state == Enforcement::Enforced)
        };
        let of_definition = [Policy::CpuPinning, Policy::DiskLimit];
        assert_eq!(told(&refusals).0, of_definition.map(|policy| (policy, Enforcement::Enforced)));
        for measure in all().measures(0, Cgroups::V2) {
            refusals.held(measure);
        }
        assert_eq!(told(&refusals).0.len(), Policy::ALL.len() - 1, "all but the filter");
        let no = LibvirtError::own(virt_sys::VIR_ERR_INTERNAL_ERROR, "no such controller");
        refusals.tell(Measure::NetOut(7), &no);
        refusals.tell(Measure::IoWeight(7), &no);
        let refused = [Policy::IoWeight, Policy::NetworkLimit];
        assert_eq!(told(&refusals).1, refused.map(|policy| (policy, Enforcement::Refused)));
    }

    #[test]
    fn a_disk_has_only_the_limits_that_are_set() {
        let one = Tuning { disk_iops: NonZeroU64::new(30), ..Tuning::default() };
        let xml = one.iotune().unwrap().render().unwrap();
        assert_eq!(xml, "<iotune>\n  <total_iops_sec>30</total_iops_sec>\n</iotune>");
    }
}
