//! Waiting with an end, on the clock port.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use jiff::Timestamp;

use super::limits::Limits;
use super::registry::Registry;
use crate::domain::{AppError, ErrorKind, OffCause, PowerState, Sighting, VmId};
use crate::ports::{Clock, Lease, Ports};

/// What `work` gives, or `None` if it takes longer than `limit`; `work` is dropped then.
pub async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    match select(pin!(work), pin!(clock.sleep(limit))).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(((), _)) => None,
    }
}

/// Which lease counts as the guest's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fresh {
    /// Any: the VM is new, nobody had its Ethernet address before.
    Any,
    /// One that was given or renewed since the lease that ended then.
    RenewedSince(Timestamp),
}

impl Fresh {
    /// What counts for a guest that is about to be started while `known` is its lease.
    #[must_use]
    pub fn after(known: Option<Lease>) -> Self {
        match known {
            // Of a lease without an end no renewal can be seen.
            Some(lease) if lease.expires_at < Timestamp::MAX => {
                Self::RenewedSince(lease.expires_at)
            }
            Some(_) | None => Self::Any,
        }
    }

    fn accepts(self, lease: &Lease) -> bool {
        match self {
            Self::Any => true,
            // Not "later": the wall clock may have been set back in between.
            Self::RenewedSince(then) => lease.expires_at != then,
        }
    }
}

/// How the wait for a guest's lease ended.
#[derive(Debug)]
pub enum Awaited {
    /// The guest holds a fresh lease.
    Leased(Lease),
    /// The guest does not run any more.
    Down(PowerState),
    /// The limit has passed.
    TooLate,
    /// The network can't be asked.
    Failed(AppError),
}

/// Waits for the lease of guests.
#[derive(Debug)]
pub struct LeaseWait<'a> {
    /// Who knows the leases, and the time.
    pub ports: &'a Ports,
    /// Who knows whether the guest runs.
    pub registry: &'a Registry,
    /// How long it may take, and how often to ask.
    pub limits: &'a Limits,
}

impl LeaseWait<'_> {
    /// Asks until the guest holds a fresh lease. A libvirt that is away for a while is waited for.
    pub async fn of(&self, id: VmId, fresh: Fresh) -> Awaited {
        let race = async {
            match select(pin!(self.down(id)), pin!(self.lease(id, fresh))).await {
                Either::Left((power, _)) => Awaited::Down(power),
                Either::Right((Ok(lease), _)) => Awaited::Leased(lease),
                Either::Right((Err(error), _)) => Awaited::Failed(error),
            }
        };
        let limit = self.limits.address_timeout;
        within(&*self.ports.clock, limit, race).await.unwrap_or(Awaited::TooLate)
    }

    /// Returns once the guest is down. A sighting may be older than the start, so libvirt is asked
    /// before it is believed.
    async fn down(&self, id: VmId) -> PowerState {
        loop {
            self.registry.until_down(id).await;
            match self.ports.hypervisor.observe().await {
                Ok(all) => match all.into_iter().find(|one| one.id == id).map(|one| one.power) {
                    Some(PowerState::Running) => {
                        self.registry.see(id, Sighting::Power(PowerState::Running));
                    }
                    Some(power) => return power,
                    None => return PowerState::Off(OffCause::Unknown),
                },
                Err(_) => self.ports.clock.sleep(self.limits.lease_poll).await,
            }
        }
    }

    async fn lease(&self, id: VmId, fresh: Fresh) -> Result<Lease, AppError> {
        loop {
            match self.ports.network.lease(id).await {
                Ok(Some(lease)) if fresh.accepts(&lease) => return Ok(lease),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::HypervisorUnavailable => {}
                Err(error) => return Err(error),
            }
            self.ports.clock.sleep(self.limits.lease_poll).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(expires_at: Timestamp) -> Lease {
        Lease { address: std::net::Ipv4Addr::LOCALHOST, expires_at }
    }

    #[test]
    fn only_a_renewed_lease_tells_that_a_restarted_guest_is_up() {
        let at = |second| lease(Timestamp::from_second(second).unwrap());
        let fresh = Fresh::after(Some(at(100)));
        assert!(!fresh.accepts(&at(100)));
        assert!(fresh.accepts(&at(101)));
        // The wall clock was set back.
        assert!(fresh.accepts(&at(50)));
        assert!(Fresh::after(None).accepts(&at(1)));
    }

    #[test]
    fn a_lease_without_an_end_counts_as_it_is() {
        let endless = lease(Timestamp::MAX);
        assert!(Fresh::after(Some(endless)).accepts(&endless));
    }
}
