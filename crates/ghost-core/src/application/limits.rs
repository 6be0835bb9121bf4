//! How long things may take, and what happens when they take longer.

use std::time::Duration;

use crate::domain::{Overcommit, ReservationRule};

/// What becomes of a new VM whose guest took no address in time (`vm.keep_failed`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAddressTimeout {
    /// Everything that was made is taken back.
    Undo,
    /// The VM is kept with status `error`, so that somebody can look into it.
    Keep,
}

/// The limits of the use cases, from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a guest may take to get its address (`vm.address_timeout`).
    pub address_timeout: Duration,
    /// How long a guest may take to power off (`vm.stop_timeout`).
    pub stop_timeout: Duration,
    /// How often the DHCP server is asked for the guest's lease while it is awaited.
    pub lease_poll: Duration,
    /// What becomes of a VM without an address.
    pub on_address_timeout: OnAddressTimeout,
    /// What the owner keeps.
    pub reserved: ReservationRule,
    /// How often the rest may be promised.
    pub overcommit: Overcommit,
}

impl Default for Limits {
    /// FR1.1's 2 minutes, FR1.4's 30 seconds, nothing reserved.
    fn default() -> Self {
        Self {
            address_timeout: Duration::from_secs(120),
            stop_timeout: Duration::from_secs(30),
            lease_poll: Duration::from_millis(50),
            on_address_timeout: OnAddressTimeout::Undo,
            reserved: ReservationRule::NOTHING,
            overcommit: Overcommit::default(),
        }
    }
}
