//! Which domains are ours, remembered, so that statistics and events need no look at each
//! domain's XML. Invariant: what is remembered was read from the domain's mark; it is forgotten when
//! the domain is defined anew by anyone, and all of it when the connection is lost.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::mark;
use crate::sys::{Conn, LibvirtError};

/// The memory of marks.
#[derive(Debug, Default)]
pub(crate) struct Ours(Mutex<HashMap<Uuid, bool>>);

impl Ours {
    /// Whether the domain is ours; asks libvirt if that is not known.
    pub(crate) fn is_ours(&self, conn: &Conn, uuid: Uuid) -> Result<bool, LibvirtError> {
        if let Some(known) = self.map().get(&uuid).copied() {
            return Ok(known);
        }
        let ours = match conn.domain(&uuid).and_then(|domain| mark::is_ours(&domain)) {
            Ok(ours) => ours,
            Err(error) if error.is_missing() => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(*self.map().entry(uuid).or_insert(ours))
    }

    /// The domain was just defined by us.
    pub(crate) fn remember(&self, uuid: Uuid) {
        self.map().insert(uuid, true);
    }

    /// The domain changed or went; gives what was known of it.
    pub(crate) fn forget(&self, uuid: Uuid) -> Option<bool> {
        self.map().remove(&uuid)
    }

    /// Anything may have changed: learns anew of all domains.
    pub(crate) fn relearn(&self, conn: &Conn) -> Result<(), LibvirtError> {
        self.map().clear();
        conn.domains()?.iter().try_for_each(|domain| self.is_ours(conn, domain.uuid()?).map(drop))
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Uuid, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
