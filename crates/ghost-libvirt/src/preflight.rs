//! What must be there before the first VM: looked at when the agent starts, and by its health.

use std::sync::atomic::{AtomicU8, Ordering};

use ghost_core::domain::AppError;

use crate::domain_xml::NWFILTER;
use crate::failure::Failure;
use crate::nat_network;
use crate::storage_pool::volumes;
use crate::sys::Conn;
use crate::vitals::Enforcement;

/// The fact of a finding that tells what it is of: `network`, `storage_pool` or `network_filter`.
pub const PART: &str = "part";

/// The [`PART`] of the network filter.
const FILTER: &str = "network_filter";

/// Everything that is missing, each with its remedy.
pub(crate) fn findings(conn: &Conn, network: &str, pool: &str) -> Result<Vec<AppError>, Failure> {
    let mut found = Vec::new();
    let mut note = |part: &str, result: Result<(), Failure>| match result {
        // Without a connection nothing else can be said.
        Err(Failure::Call(error)) if error.is_of_the_connection() => Err(Failure::Call(error)),
        Err(error) => {
            found.push(AppError::from(error).with(PART, part));
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    let pool = volumes::active_pool(conn, pool).and_then(|pool| volumes::path(&pool));
    note("network", nat_network::ready(conn, network).map(drop))?;
    note("storage_pool", pool.map(drop))?;
    note(FILTER, nwfilter(conn))?;
    Ok(found)
}

fn nwfilter(conn: &Conn) -> Result<(), Failure> {
    match conn.has_nwfilter(NWFILTER) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::NoFilter(NWFILTER)),
        Err(error) if error.is_unsupported() => Err(Failure::NoFilter(NWFILTER)),
        Err(error) => Err(error.into()),
    }
}

/// Whether the network filter was there at the last look.
#[derive(Debug, Default)]
pub(crate) struct FilterSeen(AtomicU8);

impl FilterSeen {
    const THERE: u8 = 1;
    const MISSING: u8 = 2;

    /// Takes in what a look found. A filter that could not be looked for, such as where libvirt has no driver for it, is not
    /// there.
    pub(crate) fn note(&self, findings: &[AppError]) {
        let is_filter = |finding: &AppError| {
            finding.context().iter().any(|(key, part)| *key == PART && part == FILTER)
        };
        let seen = if findings.iter().any(is_filter) { Self::MISSING } else { Self::THERE };
        self.0.store(seen, Ordering::Relaxed);
    }

    /// `None` before the first look that libvirt answered.
    pub(crate) fn enforcement(&self) -> Option<Enforcement> {
        match self.0.load(Ordering::Relaxed) {
            Self::THERE => Some(Enforcement::Enforced),
            Self::MISSING => Some(Enforcement::Refused),
            _never => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::LibvirtError;

    #[test]
    fn the_filter_is_known_once_it_was_looked_for_and_follows_each_look() {
        let seen = FilterSeen::default();
        assert_eq!(seen.enforcement(), None);
        let network =
            || AppError::from(Failure::NoNetwork("default".to_owned())).with(PART, "network");
        let filter = |failure: Failure| AppError::from(failure).with(PART, FILTER);
        seen.note(&[network(), filter(Failure::NoFilter(NWFILTER))]);
        assert_eq!(seen.enforcement(), Some(Enforcement::Refused));
        seen.note(&[network()]);
        assert_eq!(seen.enforcement(), Some(Enforcement::Enforced));
        let unsupported = LibvirtError::own(virt_sys::VIR_ERR_NO_SUPPORT, "no such driver");
        seen.note(&[filter(Failure::Call(unsupported))]);
        assert_eq!(seen.enforcement(), Some(Enforcement::Refused), "not known to be there");
    }
}
