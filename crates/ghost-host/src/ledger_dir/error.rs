//! Why the ledger could not be opened, read or written.

use std::path::{Path, PathBuf};

use ghost_core::domain::{AppError, ErrorKind};
use serde::Deserialize;

use super::SCHEMA;
use crate::disk_error::DiskError;

/// A failure of the state folder. `Display` is one line, cause then remedy.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process holds the folder.
    #[error(
        "another ghost-agent uses this state directory ({} is locked); stop it (systemctl stop ghost-agent), \
         or set agent.state_dir to a folder of its own",
        lock.display()
    )]
    InUse {
        /// The lock file.
        lock: PathBuf,
    },
    /// A newer agent wrote the file.
    #[error(
        "{} has schema {schema}, this ghost-agent knows up to {SCHEMA}; run the newer ghost-agent that wrote \
         it, or restore the folder from before the upgrade",
        path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: u64,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A record could not be turned into JSON.
    #[error("cannot encode a record as JSON; report it as a fault of the agent")]
    Encode(#[source] serde_json::Error),
    /// The write was cut short because the agent is going down.
    #[error("the agent is shutting down; start it again")]
    ShuttingDown(#[source] tokio::task::JoinError),
}

impl LedgerError {
    /// Fails if `bytes`, the content of `path`, is JSON with a schema above [`SCHEMA`], whatever
    /// else it holds.
    pub(crate) fn refuse_newer(path: &Path, bytes: &[u8]) -> Result<(), Self> {
        #[derive(Deserialize)]
        struct Header {
            schema: u64,
        }
        match serde_json::from_slice(bytes) {
            Ok(Header { schema }) if schema > u64::from(SCHEMA) => {
                Err(Self::TooNew { path: path.to_owned(), schema })
            }
            Ok(Header { .. }) | Err(_) => Ok(()),
        }
    }
}

impl From<LedgerError> for AppError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Disk(error) => error.into(),
            LedgerError::InUse { .. } => Self::new(ErrorKind::Busy, error.to_string()),
            LedgerError::TooNew { .. } => Self::new(ErrorKind::Internal, error.to_string()),
            LedgerError::Encode(source) => {
                Self::new(ErrorKind::Internal, "cannot encode a record as JSON")
                    .remedy("report it as a fault of the agent")
                    .because(source)
            }
            LedgerError::ShuttingDown(source) => {
                Self::new(ErrorKind::ShuttingDown, "the agent is shutting down").because(source)
            }
        }
    }
}

/// Runs `work` where blocking is allowed. It runs to its end even if the caller goes away.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, LedgerError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, LedgerError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(LedgerError::ShuttingDown)?
}
