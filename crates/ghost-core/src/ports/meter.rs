//! Where the use cases tell how their work went, to be counted.

use std::fmt;
use std::time::Duration;

use crate::domain::ErrorCode;

/// How something ended.
pub type Outcome = Result<(), ErrorCode>;

/// A step of a create, in the order in which they end at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CreateStep {
    /// Name and resources were taken, or refused.
    Admission,
    /// The template's image was found in the cache, or fetched.
    Image,
    /// The overlay volume was made.
    Disk,
    /// The seed was built and stored.
    Seed,
    /// The address was reserved.
    Address,
    /// The domain was defined.
    Define,
    /// The domain was started.
    Start,
    /// The guest took its address.
    Lease,
}

impl CreateStep {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Admission,
        Self::Image,
        Self::Disk,
        Self::Seed,
        Self::Address,
        Self::Define,
        Self::Start,
        Self::Lease,
    ];

    /// Its name in metrics and traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Image => "image",
            Self::Disk => "disk",
            Self::Seed => "seed",
            Self::Address => "address",
            Self::Define => "define",
            Self::Start => "start",
            Self::Lease => "lease",
        }
    }
}

/// Something that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// A create ended, everything that it took included. One that joined another is not told.
    Create {
        /// From the request to the answer.
        took: Duration,
        /// How it ended.
        outcome: Outcome,
    },
    /// A step of a create ended.
    Step {
        /// Which.
        step: CreateStep,
        /// How long it took.
        took: Duration,
        /// How it ended.
        outcome: Outcome,
    },
    /// A VM is gone, and everything that was made for it.
    Deleted,
    /// A sign of life, or a registration, was answered or not.
    Heartbeat {
        /// How long the answer took, or the failure.
        took: Duration,
        /// Whether the control plane took it.
        taken: bool,
    },
    /// The control plane has taken so many events.
    Reported {
        /// How many.
        events: u64,
    },
}

/// Counts. Never waits and never fails: it is called in the middle of work.
pub trait Meter: fmt::Debug + Send + Sync {
    /// Takes in one measurement.
    fn note(&self, measured: Measured);
}
