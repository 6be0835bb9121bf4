//! Connections to one URI: opened when they are needed, used again while they stand.
//!
//! Invariant: a connection that is handed out stood when it was last looked at, and nobody else uses
//! it. The one that was given back last is used first: a libvirtd that hangs is then found out by
//! keepalive on a connection that stands, and not only at the deadline of opening a new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::{Conn, LibvirtError};

/// Seconds between libvirt's probes of a silent connection.
const KEEPALIVE_INTERVAL: i32 = 1;
/// Probes without an answer that end it. A call to a stopped libvirtd fails after
/// `interval * (count + 1)` seconds.
const KEEPALIVE_COUNT: u32 = 2;

/// Connections to one URI.
#[derive(Debug)]
pub(crate) struct Connections {
    uri: String,
    sharing: Sharing,
    idle: Mutex<Vec<Arc<Conn>>>,
}

/// libvirt's test driver keeps its whole world in the connection, so there is one for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    EachItsOwn,
    OneForAll,
}

impl Connections {
    pub(crate) fn new(uri: &str) -> Self {
        let sharing =
            if uri.starts_with("test:") { Sharing::OneForAll } else { Sharing::EachItsOwn };
        Self { uri: uri.to_owned(), sharing, idle: Mutex::default() }
    }

    /// A connection, to be given back.
    pub(crate) fn take(&self) -> Result<Arc<Conn>, LibvirtError> {
        let mut idle = self.idle();
        if self.sharing == Sharing::OneForAll {
            if idle.is_empty() {
                idle.push(self.open()?);
            }
            return idle.first().cloned().ok_or_else(LibvirtError::last);
        }
        idle.retain(|conn| conn.is_alive());
        if let Some(conn) = idle.pop() {
            return Ok(conn);
        }
        drop(idle);
        self.open()
    }

    /// Keeps a connection for the next one who needs it.
    pub(crate) fn give_back(&self, conn: Arc<Conn>) {
        if self.sharing == Sharing::EachItsOwn && conn.is_alive() {
            self.idle().push(conn);
        }
    }

    /// Closes those that nobody uses.
    pub(crate) fn close_idle(&self) {
        // Closing asks libvirtd: not under the lock.
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    fn open(&self) -> Result<Arc<Conn>, LibvirtError> {
        let conn = Conn::open(&self.uri)?;
        conn.set_keepalive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)?;
        Ok(Arc::new(conn))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Arc<Conn>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
