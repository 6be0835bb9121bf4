//! The right to change one VM. Invariant: while it lasts, its cause is that of every change of the VM that is told;
//! what comes after it has none.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, watch};

use super::entry::Entry;
use crate::domain::{AppError, ErrorKind, Origin, VmId, VmName};

/// How a create ended, for those who joined it.
pub type Outcome = Option<Result<(), Arc<AppError>>>;

/// The command that a VM is being changed by, if any.
#[derive(Debug, Clone, Default)]
pub(super) struct Cause(Arc<Mutex<Option<Arc<Origin>>>>);

impl Cause {
    pub(super) fn now(&self) -> Option<Arc<Origin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, origin: Option<Arc<Origin>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = origin;
    }
}

/// The right to change one VM; others get `Busy` until it is dropped.
#[derive(Debug)]
pub struct Operation {
    /// The VM.
    pub id: VmId,
    cause: Cause,
    _lock: OwnedMutexGuard<()>,
}

impl Operation {
    pub(super) fn begin(entry: &Entry, origin: Option<&Origin>) -> Result<Self, AppError> {
        let (id, name) = (entry.record.id, &entry.record.name);
        name_in_span(id, name);
        let lock = Arc::clone(&entry.lock).try_lock_owned().map_err(|_| {
            AppError::new(ErrorKind::Busy, format!("another operation on VM '{name}' is under way"))
                .remedy("try again when it has ended")
                .with("vm_id", id)
        })?;
        entry.cause.set(origin.cloned().map(Arc::new));
        Ok(Self { id, cause: entry.cause.clone(), _lock: lock })
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // Before the lock is given back: the next one's cause is not to be taken away.
        self.cause.set(None);
    }
}

/// Makes the VM part of the span that is entered, if that has a place for it.
pub(crate) fn name_in_span(id: VmId, name: &VmName) {
    let span = tracing::Span::current();
    span.record("vm_id", tracing::field::display(id));
    span.record("vm_name", tracing::field::display(name));
}

/// The right to make a VM, and the way to tell how it ended.
#[derive(Debug)]
pub struct Ticket {
    /// The right to change the new VM.
    pub operation: Operation,
    pub(super) outcome: watch::Sender<Outcome>,
}

impl Ticket {
    /// Tells those who joined how it ended.
    pub fn announce(&self, result: Result<(), Arc<AppError>>) {
        self.outcome.send_replace(Some(result));
    }
}
