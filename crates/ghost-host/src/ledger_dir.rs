//! The ledger as files: `<state_dir>/vms/<uuid>.json`, one per VM.
//!
//! Invariant: a record that was saved is on the disk, whole, whatever dies and whenever; a file
//! that can't be read as a record is never lost and never stops the agent. One process at a time
//! holds the state folder, by a lock on `<state_dir>/lock`.

mod error;
mod found;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use ghost_core::domain::{VmId, VmRecord};
use ghost_core::ports::{PortResult, VmLedger};
use serde::Serialize;
use tokio::sync::Mutex;

pub use error::LedgerError;
pub(crate) use error::blocking;
use found::Found;

use crate::atomic_file;
use crate::disk_error::DiskError;

/// Version of the layout of all files in the state folder.
pub(crate) const SCHEMA: u32 = 1;
/// Writes of one VM are kept in order by one of these; different VMs rarely share one.
const STRIPES: usize = 16;

/// The ledger in a folder. The lock is held as long as the value lives.
#[derive(Debug)]
pub struct LedgerDir {
    state_dir: PathBuf,
    vms: PathBuf,
    /// A write whose caller went away still runs to its end; holding its stripe until then keeps
    /// a later write of the same VM from being overtaken by it.
    order: [Arc<Mutex<()>>; STRIPES],
    _lock: File,
}

#[derive(Serialize)]
struct Entry<'a> {
    schema: u32,
    #[serde(flatten)]
    record: &'a VmRecord,
}

impl LedgerDir {
    /// Takes possession of `state_dir`, making it (mode 0711) if there is none. The records' own folder
    /// has the mode 0700. Blocks, briefly.
    ///
    /// # Errors
    /// [`LedgerError::InUse`] while another process holds it; [`LedgerError::Disk`].
    pub fn open(state_dir: &Path) -> Result<Self, LedgerError> {
        let vms = state_dir.join("vms");
        // Images may lie below it, which QEMU's user must reach; it need not list the folder.
        atomic_file::ensure_dir(state_dir, 0o711)?;
        let lock = lock(&state_dir.join("lock"))?;
        atomic_file::ensure_dir(&vms, 0o700)?;
        fs::set_permissions(&vms, Permissions::from_mode(0o700))
            .map_err(DiskError::on("protect", &vms))?;
        atomic_file::sync_dir(state_dir)?;
        let order = std::array::from_fn(|_| Arc::default());
        Ok(Self { state_dir: state_dir.to_owned(), vms, order, _lock: lock })
    }

    /// The folder that is held.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    fn path(&self, id: VmId) -> PathBuf {
        self.vms.join(format!("{id}.json"))
    }

    /// Runs `write` after every earlier write of the same VM.
    async fn in_order<F>(&self, id: VmId, write: F) -> PortResult<()>
    where
        F: FnOnce() -> Result<(), LedgerError> + Send + 'static,
    {
        let stripe = usize::from(id.as_uuid().as_bytes()[15]) % STRIPES;
        let turn = Arc::clone(&self.order[stripe]).lock_owned().await;
        let write = move || {
            let result = write();
            drop(turn);
            result
        };
        Ok(blocking(write).await?)
    }
}

fn lock(path: &Path) -> Result<File, LedgerError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(DiskError::on("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::InUse { lock: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(DiskError::on("lock", path)(error).into()),
    }
}

#[async_trait]
impl VmLedger for LedgerDir {
    async fn load(&self) -> PortResult<Vec<VmRecord>> {
        let vms = self.vms.clone();
        Ok(blocking(move || load(&vms)).await?)
    }

    async fn save(&self, record: &VmRecord) -> PortResult<()> {
        let entry = Entry { schema: SCHEMA, record };
        let mut json = serde_json::to_vec_pretty(&entry).map_err(LedgerError::Encode)?;
        json.push(b'\n');
        let path = self.path(record.id);
        self.in_order(record.id, move || Ok(atomic_file::write(&path, &json)?)).await
    }

    async fn ensure_removed(&self, id: VmId) -> PortResult<()> {
        let (vms, path) = (self.vms.clone(), self.path(id));
        self.in_order(id, move || remove(&vms, &path)).await
    }
}

/// Looks at every file before it changes any, so that a newer agent's state stays as it is.
fn load(vms: &Path) -> Result<Vec<VmRecord>, LedgerError> {
    let found = found::survey(vms)?;
    let mut records = Vec::with_capacity(found.len());
    for (path, found) in found {
        match found {
            Found::Record(record) => records.push(*record),
            Found::Damaged(why) => set_aside(&path, &why)?,
            Found::Leftover => remove(vms, &path)?,
            Found::Ignored => {}
        }
    }
    Ok(records)
}

fn set_aside(path: &Path, why: &str) -> Result<(), LedgerError> {
    let aside = atomic_file::set_aside(path)?;
    tracing::error!(
        file = %path.display(), kept_as = %aside.display(), why,
        "a VM's record can't be read and is set aside; it is made anew if libvirt has the VM's domain; if the \
         next lines don't say so, restore the file from a backup, or remove the VM's volumes by hand"
    );
    Ok(())
}

fn remove(dir: &Path, path: &Path) -> Result<(), LedgerError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(atomic_file::sync_dir(dir)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DiskError::on("remove", path)(error).into()),
    }
}
