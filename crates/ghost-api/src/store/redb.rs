//! The embedded store: one file, one writer at a time, each commit on the disk before it is answered
//! (redb's immediate durability). Values are JSON, so that fields can be added.
//!
//! Invariant: a second process cannot open it.

mod agents;
mod journal;
mod tables;
mod tokens;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Database, ReadTransaction, ReadableDatabase as _, WriteTransaction};

use super::StoreError;

/// Memory for pages of the file, in bytes: a thousand agents and their newest events.
const CACHE: usize = 16 << 20;

/// What goes wrong inside.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;
type Attempt<T> = Result<T, Failure>;

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody has it.
    #[error("another ghost-api has {0} open; stop it first")]
    InUse(String),
    /// Anything else.
    #[error("cannot open {path}; it must be a file that ghost-api made and may write to")]
    Other {
        /// The file.
        path: String,
        /// What redb said.
        #[source]
        source: redb::DatabaseError,
    },
    /// The tables can't be made.
    #[error("cannot write to {path}; look for a full or read-only disk")]
    Tables {
        /// The file.
        path: String,
        /// What redb said.
        #[source]
        source: Failure,
    },
}

/// The store.
#[derive(Debug, Clone)]
pub struct RedbStore {
    database: Arc<Database>,
}

impl RedbStore {
    /// Opens the file, and makes it if it is not there.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let shown = path.display().to_string();
        let other = |source| OpenError::Other { path: shown.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // What is in it is nobody else's business: names, addresses, who did what.
            .mode(0o600)
            .open(path)
            .map_err(|error| other(redb::DatabaseError::Storage(redb::StorageError::Io(error))))?;
        let backend = match FileBackend::new(file) {
            Ok(backend) => backend,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(OpenError::InUse(shown)),
            Err(source) => return Err(other(source)),
        };
        let database = match Database::builder().set_cache_size(CACHE).create_with_backend(backend)
        {
            Ok(database) => database,
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(OpenError::InUse(shown)),
            Err(source) => return Err(other(source)),
        };
        let store = Self { database: Arc::new(database) };
        match store.write_now(tables::make) {
            Ok(()) => Ok(store),
            Err(source) => Err(OpenError::Tables { path: shown, source }),
        }
    }

    /// A transaction that changes something; all of it, or nothing if `work` fails.
    async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&WriteTransaction) -> Attempt<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        off_the_runtime(doing, move || store.write_now(work)).await
    }

    /// A look at one moment.
    async fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&ReadTransaction) -> Attempt<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        off_the_runtime(doing, move || work(&store.database.begin_read()?)).await
    }

    fn write_now<T>(&self, work: impl FnOnce(&WriteTransaction) -> Attempt<T>) -> Attempt<T> {
        let transaction = self.database.begin_write()?;
        // Dropped without a commit it is undone.
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

/// The disk is waited for on a thread of its own.
async fn off_the_runtime<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Attempt<T> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|source| StoreError { doing, source }),
        Err(died) => Err(StoreError { doing, source: died.into() }),
    }
}
