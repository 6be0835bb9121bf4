//! Waiting with an end, on the clock port.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use jiff::Timestamp;

use crate::domain::{AppError, VmId};
use crate::ports::{Clock, Lease, Network};

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
            Self::RenewedSince(then) => lease.expires_at > then,
        }
    }
}

/// Asks every `poll` until the guest holds a fresh lease. A failure to ask ends the wait.
pub async fn lease(
    clock: &dyn Clock,
    network: &dyn Network,
    id: VmId,
    fresh: Fresh,
    poll: Duration,
) -> Result<Lease, AppError> {
    loop {
        match network.lease(id).await? {
            Some(lease) if fresh.accepts(&lease) => return Ok(lease),
            _ => clock.sleep(poll).await,
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
        assert!(Fresh::after(None).accepts(&at(1)));
    }

    #[test]
    fn a_lease_without_an_end_counts_as_it_is() {
        let endless = lease(Timestamp::MAX);
        assert!(Fresh::after(Some(endless)).accepts(&endless));
    }
}
