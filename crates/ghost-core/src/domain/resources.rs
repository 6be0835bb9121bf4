//! Amounts of CPU, memory and disk. Invariant: reserved + allocated <= total, decided by
//! [`Budget::admit`] and held under one lock by `application::registry`.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::error::{AppError, ErrorKind};
use super::validation::Invalid;

/// An amount of memory or storage in bytes.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = Gib::in_bytes(*self);
        if (1..Gib::BYTES / 10).contains(&self.0) {
            return write!(f, "{} MiB", self.0.div_ceil(1 << 20));
        }
        if self.0.is_multiple_of(Gib::BYTES) {
            write!(f, "{gib} GiB")
        } else {
            let tenths = self.0 / (Gib::BYTES / 10) % 10;
            write!(f, "{gib}.{tenths} GiB")
        }
    }
}

/// An amount of memory or storage in whole GiB, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gib(NonZeroU32);

impl Gib {
    /// Bytes in a GiB.
    pub const BYTES: u64 = 1 << 30;

    /// Reads a whole number of GiB within `range`.
    ///
    /// # Errors
    /// `must be LOW to HIGH GiB`.
    pub fn within(range: std::ops::RangeInclusive<u32>, gib: i64) -> Result<Self, Invalid> {
        u32::try_from(gib)
            .ok()
            .filter(|gib| range.contains(gib))
            .and_then(NonZeroU32::new)
            .map(Self)
            .ok_or_else(|| {
                Invalid::new(format!("must be {} to {} GiB, not {gib}", range.start(), range.end()))
            })
    }

    /// The number of GiB.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The same amount in bytes.
    #[must_use]
    pub fn bytes(self) -> Bytes {
        Bytes(u64::from(self.get()) * Self::BYTES)
    }

    /// How many whole GiB fit into `bytes`.
    #[must_use]
    pub const fn in_bytes(bytes: Bytes) -> u64 {
        bytes.0 / Self::BYTES
    }
}

impl fmt::Display for Gib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} GiB", self.get())
    }
}

/// What the host has: logical CPUs, memory, and the file system of the storage pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Logical CPUs that are online.
    pub cpus: u32,
    /// Physical memory.
    pub ram: Bytes,
    /// Size of the pool's file system.
    pub disk: Bytes,
}

/// What the owner keeps for himself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Logical CPUs.
    pub cpus: u32,
    /// Memory.
    pub ram: Bytes,
    /// Space in the pool's file system.
    pub disk: Bytes,
}

/// How much of one resource the owner keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// A quarter of what the host has, rounded up to a whole unit.
    Quarter,
    /// So many units, whatever the host has.
    Exactly(u32),
}

impl Reserve {
    /// What is kept of `total` units.
    #[must_use]
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Quarter => total.div_ceil(4),
            Self::Exactly(units) => u64::from(units),
        }
    }

    fn of_bytes(self, total: Bytes) -> Bytes {
        Bytes(self.of(Gib::in_bytes(total)).saturating_mul(Gib::BYTES))
    }
}

/// What the owner wants to keep, whatever the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservationRule {
    /// Of the logical CPUs.
    pub cpus: Reserve,
    /// Of the memory, in GiB.
    pub ram: Reserve,
    /// Of the pool's file system, in GiB.
    pub disk: Reserve,
}

impl ReservationRule {
    /// Nothing is kept.
    pub const NOTHING: Self =
        Self { cpus: Reserve::Exactly(0), ram: Reserve::Exactly(0), disk: Reserve::Exactly(0) };

    /// What is kept of `capacity`.
    #[must_use]
    pub fn of(&self, capacity: &Capacity) -> Reservation {
        let cpus = self.cpus.of(u64::from(capacity.cpus));
        Reservation {
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            ram: self.ram.of_bytes(capacity.ram),
            disk: self.disk.of_bytes(capacity.disk),
        }
    }
}

/// What one VM, or all of them, may take at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub ram: Bytes,
    /// Virtual size of the disks.
    pub disk: Bytes,
}

impl std::ops::Add for Allocation {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus + other.vcpus,
            ram: Bytes(self.ram.0 + other.ram.0),
            disk: Bytes(self.disk.0 + other.disk.0),
        }
    }
}

/// What all VMs take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// What they may take at most.
    pub allocated: Allocation,
    /// What they really take of memory and disk; their CPUs are no more than allocated.
    pub used: Allocation,
}

/// One resource of the host: a number of CPUs, or bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResourceInfo {
    /// What the host has.
    pub total: f64,
    /// What the owner keeps.
    pub reserved: f64,
    /// What VMs may take at most.
    pub allocated: f64,
    /// What they take now.
    pub used: f64,
    /// What a new VM can have.
    pub available: f64,
    /// What is promised beyond what may be.
    pub deficit: f64,
    /// How often each unit may be promised.
    pub overcommit: f64,
}

/// The host's resources.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeResources {
    /// Logical CPUs.
    pub cpu: ResourceInfo,
    /// Memory, in bytes.
    pub ram: ResourceInfo,
    /// The file system of the pool, in bytes.
    pub disk: ResourceInfo,
}

/// How often a CPU, and a byte of disk, may be promised; 1.0 promises each once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overcommit {
    /// Virtual CPUs per unreserved logical CPU.
    pub cpu: f64,
    /// Virtual bytes per unreserved byte of the pool.
    pub disk: f64,
}

impl Default for Overcommit {
    fn default() -> Self {
        Self { cpu: 1.0, disk: 1.0 }
    }
}

/// The rule of admission: what there is, what is kept back, and how often the rest may be promised.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// What the host has.
    pub capacity: Capacity,
    /// What the owner keeps.
    pub reserved: Reservation,
    /// How often the rest may be promised.
    pub overcommit: Overcommit,
}

impl Budget {
    /// Whether `asked` fits beside `allocated`.
    ///
    /// # Errors
    /// `RESOURCE_LIMIT_EXCEEDED`, naming for each resource that does not suffice what was asked,
    /// what is available, and how that came about.
    pub fn admit(&self, taken: Taken, asked: Allocation) -> Result<(), AppError> {
        let [cpu, ram, disk] = self.available(taken);
        let lacks: Vec<String> = [
            (u64::from(asked.vcpus) > cpu.left).then(|| {
                format!("asked {} vCPU, {} available ({})", asked.vcpus, cpu.left, cpu.how)
            }),
            (asked.ram.0 > ram.left).then(|| {
                format!("asked {} RAM, {} available ({})", asked.ram, Bytes(ram.left), ram.how)
            }),
            (asked.disk.0 > disk.left).then(|| {
                format!("asked {} disk, {} available ({})", asked.disk, Bytes(disk.left), disk.how)
            }),
        ]
        .into_iter()
        .flatten()
        .collect();
        if lacks.is_empty() {
            return Ok(());
        }
        Err(AppError::new(ErrorKind::ResourceLimit, lacks.join("; ")).remedy(
            "ask for less, delete a VM, or lower the owner's reservation in the agent's config",
        ))
    }

    /// All of it, for whoever looks; `cpus_used` is what VMs use of the CPUs now.
    #[must_use]
    pub fn node(&self, taken: Taken, cpus_used: f64) -> NodeResources {
        let [cpu, ram, disk] = self.resources(taken);
        let cpu = ResourceInfo { used: cpus_used, ..cpu.info() };
        NodeResources { cpu, ram: ram.info(), disk: disk.info() }
    }

    fn resources(&self, taken: Taken) -> [Resource; 3] {
        let Self { capacity, reserved, overcommit } = self;
        let Taken { allocated, used } = taken;
        [
            Resource {
                total: capacity.cpus.into(),
                reserved: reserved.cpus.into(),
                ratio: overcommit.cpu,
                allocated: allocated.vcpus.into(),
                used: used.vcpus.into(),
            },
            Resource {
                total: capacity.ram.0,
                reserved: reserved.ram.0,
                ratio: 1.0,
                allocated: allocated.ram.0,
                used: used.ram.0,
            },
            Resource {
                total: capacity.disk.0,
                reserved: reserved.disk.0,
                ratio: overcommit.disk,
                allocated: allocated.disk.0,
                used: used.disk.0,
            },
        ]
    }

    fn available(&self, taken: Taken) -> [Available; 3] {
        let [cpu, ram, disk] = self.resources(taken);
        let bytes = |n: u64| Bytes(n).to_string();
        [
            Available::of(&cpu, |n| n.to_string()),
            Available::of(&ram, bytes),
            Available::of(&disk, bytes),
        ]
    }
}

/// One resource in whole units.
struct Resource {
    total: u64,
    reserved: u64,
    ratio: f64,
    allocated: u64,
    used: u64,
}

impl Resource {
    /// What may be promised to VMs.
    fn promisable(&self) -> u64 {
        scaled(self.total.saturating_sub(self.reserved), self.ratio)
    }

    /// What is gone: promised, or really taken where that is more.
    fn gone(&self) -> u64 {
        self.allocated.max(self.used)
    }

    #[expect(clippy::cast_precision_loss, reason = "amounts are below 2^53")]
    fn info(&self) -> ResourceInfo {
        ResourceInfo {
            total: self.total as f64,
            reserved: self.reserved as f64,
            allocated: self.allocated as f64,
            used: self.used as f64,
            available: self.promisable().saturating_sub(self.gone()) as f64,
            deficit: self.gone().saturating_sub(self.promisable()) as f64,
            overcommit: self.ratio,
        }
    }
}

struct Available {
    left: u64,
    how: String,
}

impl Available {
    fn of(resource: &Resource, show: impl Fn(u64) -> String) -> Self {
        let Resource { total, reserved, ratio, allocated, used } = *resource;
        let (gone, word) =
            if used > allocated { (used, "used by VMs") } else { (allocated, "allocated") };
        let promised = resource.promisable();
        let ratio = if (ratio - 1.0).abs() > f64::EPSILON {
            format!(", times {ratio}")
        } else {
            String::new()
        };
        Self {
            left: promised.saturating_sub(gone),
            how: format!(
                "{} − {} reserved{ratio} − {} {word}",
                show(total),
                show(reserved),
                show(gone)
            ),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "ratios are positive, amounts are below 2^53, and the cast saturates"
)]
fn scaled(amount: u64, ratio: f64) -> u64 {
    (amount as f64 * ratio).floor() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn promised(allocated: Allocation) -> Taken {
        Taken { allocated, used: Allocation::default() }
    }

    fn gib(n: u64) -> Bytes {
        Bytes(n * Gib::BYTES)
    }

    fn budget() -> Budget {
        Budget {
            capacity: Capacity { cpus: 8, ram: gib(16), disk: gib(500) },
            reserved: Reservation { cpus: 2, ram: gib(4), disk: gib(50) },
            overcommit: Overcommit::default(),
        }
    }

    #[test]
    fn a_refusal_says_asked_available_and_why() {
        let allocated = Allocation { vcpus: 2, ram: gib(7), disk: gib(20) };
        let asked = Allocation { vcpus: 1, ram: gib(8), disk: gib(10) };
        let refusal = budget().admit(promised(allocated), asked).unwrap_err();
        assert!(
            refusal.to_string().starts_with(
                "asked 8 GiB RAM, 5 GiB available (16 GiB − 4 GiB reserved − 7 GiB allocated)"
            ),
            "{refusal}"
        );
    }

    #[test]
    fn a_quarter_is_rounded_up_in_the_owners_favour() {
        let rule = ReservationRule {
            cpus: Reserve::Quarter,
            ram: Reserve::Quarter,
            disk: Reserve::Exactly(50),
        };
        let capacity = Capacity { cpus: 2, ram: gib(23), disk: gib(100) };
        assert_eq!(rule.of(&capacity), Reservation { cpus: 1, ram: gib(6), disk: gib(50) });
    }

    #[test]
    fn a_reservation_larger_than_the_host_leaves_nothing_and_does_not_wrap() {
        let mut budget = budget();
        budget.reserved.cpus = 99;
        assert!(
            budget.admit(Taken::default(), Allocation { vcpus: 1, ..Default::default() }).is_err()
        );
    }

    #[test]
    fn what_vms_really_take_counts_where_it_is_more_than_promised() {
        let gib = |n| Bytes(n * Gib::BYTES);
        let allocated = Allocation { vcpus: 1, ram: gib(7), disk: gib(0) };
        let used = Allocation { vcpus: 0, ram: gib(9), disk: gib(0) };
        let asked = Allocation { vcpus: 1, ram: gib(4), disk: gib(0) };
        let refusal = budget().admit(Taken { allocated, used }, asked).unwrap_err();
        assert!(refusal.to_string().contains("− 9 GiB used by VMs)"), "{refusal}");
    }

    #[test]
    fn a_reservation_that_was_raised_over_what_is_promised_is_a_deficit() {
        let gib = |n| Bytes(n * Gib::BYTES);
        let mut budget = budget();
        budget.reserved.ram = gib(12);
        let allocated = Allocation { vcpus: 1, ram: gib(7), disk: gib(0) };
        let ram = budget.node(promised(allocated), 0.5).ram;
        assert_eq!((ram.available, ram.deficit), (0.0, 3.0 * 1024.0 * 1024.0 * 1024.0));
        assert_eq!(budget.node(promised(allocated), 0.5).cpu.used, 0.5);
        let asked = Allocation { vcpus: 1, ram: gib(1), disk: gib(0) };
        assert!(budget.admit(promised(allocated), asked).is_err());
    }

    proptest! {
        #[test]
        fn what_is_admitted_never_touches_the_reservation(
            asks in proptest::collection::vec((1u32..33, 1u64..129, 10u64..1001), 0..40)
        ) {
            let budget = budget();
            let mut total = Allocation::default();
            for (vcpus, ram, disk) in asks {
                let ask = Allocation { vcpus, ram: gib(ram), disk: gib(disk) };
                if budget.admit(promised(total), ask).is_ok() {
                    total = total + ask;
                }
            }
            prop_assert!(total.vcpus <= 6 && total.ram <= gib(12) && total.disk <= gib(450));
        }
    }
}
