//! The embedded store: one file, one writer at a time, each commit on the disk before it is answered
//! (redb's immediate durability). Values are JSON, so that fields can be added.
//!
//! Invariants: a second process cannot open it; after a full disk it works again without a restart.

mod agents;
mod journal;
mod tables;
mod tokens;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

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
    path: Arc<PathBuf>,
    /// `None` while it can't be opened anew.
    database: Arc<RwLock<Option<Database>>>,
    /// Something failed: after one failed write redb refuses everything until the file is opened anew.
    failed: Arc<AtomicBool>,
}

impl RedbStore {
    /// Opens the file, and makes it if it is not there.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let database = open(path)?;
        Ok(Self {
            path: Arc::new(path.to_owned()),
            database: Arc::new(RwLock::new(Some(database))),
            failed: Arc::default(),
        })
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
        off_the_runtime(doing, move || store.with(|database| work(&database.begin_read()?))).await
    }

    fn write_now<T>(&self, work: impl FnOnce(&WriteTransaction) -> Attempt<T>) -> Attempt<T> {
        self.with(|database| write(database, work))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Attempt<T>) -> Attempt<T> {
        self.mend()?;
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let done = work(database.as_ref().ok_or("the file is closed")?);
        if done.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        done
    }

    /// Whether the file has to be opened anew.
    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Opens the file anew if something failed before.
    fn mend(&self) -> Attempt<()> {
        if !self.has_failed() {
            return Ok(());
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if self.has_failed() {
            // The former one holds the file's lock.
            *database = None;
            *database = Some(open(&self.path)?);
            self.failed.store(false, Ordering::Release);
            tracing::info!(store = %self.path.display(), "opened the store anew after a failure");
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<Database, OpenError> {
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
    let database = match Database::builder().set_cache_size(CACHE).create_with_backend(backend) {
        Ok(database) => database,
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => return Err(OpenError::InUse(shown)),
        Err(source) => return Err(other(source)),
    };
    match write(&database, tables::make) {
        Ok(()) => Ok(database),
        Err(source) => Err(OpenError::Tables { path: shown, source }),
    }
}

fn write<T>(database: &Database, work: impl FnOnce(&WriteTransaction) -> Attempt<T>) -> Attempt<T> {
    let transaction = database.begin_write()?;
    // Dropped without a commit it is undone.
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
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
