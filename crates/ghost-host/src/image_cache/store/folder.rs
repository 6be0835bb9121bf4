//! Where everything lies. Invariant: only images have names that QEMU is told, and nobody but the agent
//! need look into the folders below.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use ghost_core::domain::{Checksum, TemplateName};

use super::super::error::OpenError;
use crate::atomic_file;
use crate::disk_error::DiskError;

const IMAGE: &str = ".qcow2";
const NOTE: &str = ".json";

/// The cache's folder, by its absolute path.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Makes the folder and those below it, where they are missing.
    pub(super) fn ensure(dir: &Path) -> Result<Self, DiskError> {
        let dir = std::path::absolute(dir).map_err(DiskError::on("resolve", dir))?;
        // QEMU's user must pass it to the images.
        atomic_file::ensure_dir(&dir, 0o755)?;
        let folder = Self { dir };
        for below in [folder.templates(), folder.parts(), folder.quarantine()] {
            atomic_file::ensure_dir(&below, 0o700)?;
        }
        Ok(folder)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn templates(&self) -> PathBuf {
        self.dir.join("templates")
    }

    pub(super) fn parts(&self) -> PathBuf {
        self.dir.join("parts")
    }

    pub(super) fn quarantine(&self) -> PathBuf {
        self.dir.join("quarantine")
    }

    pub(super) fn image(&self, checksum: &Checksum) -> PathBuf {
        self.dir.join(checksum.hex().to_owned() + IMAGE)
    }

    pub(super) fn facts(&self, checksum: &Checksum) -> PathBuf {
        self.dir.join(checksum.hex().to_owned() + NOTE)
    }

    pub(super) fn pointer(&self, template: &TemplateName) -> PathBuf {
        self.templates().join(format!("{template}{NOTE}"))
    }

    pub(super) fn quarantined(&self, checksum: &Checksum) -> PathBuf {
        self.quarantine().join(checksum.hex().to_owned() + IMAGE)
    }

    pub(super) fn quarantine_note(&self, checksum: &Checksum) -> PathBuf {
        self.quarantine().join(checksum.hex().to_owned() + NOTE)
    }
}

/// What an image's file is called after.
pub(super) fn names_image(name: &str) -> Option<Checksum> {
    named(name.strip_suffix(IMAGE)?)
}

/// What a file of facts is called after.
pub(super) fn names_facts(name: &str) -> Option<Checksum> {
    named(name.strip_suffix(NOTE)?)
}

/// What a pointer's file is called after.
pub(super) fn names_pointer(name: &str) -> Option<TemplateName> {
    name.strip_suffix(NOTE)?.parse().ok()
}

/// A checksum has several spellings, a file's name has one.
fn named(stem: &str) -> Option<Checksum> {
    stem.parse::<Checksum>().ok().filter(|checksum| checksum.hex() == stem)
}

/// Takes the folder for as long as the file lives, waiting `patience` for another agent to end: one
/// that is being restarted may overlap with its successor for a moment.
pub(super) fn lock(folder: &Folder, patience: Duration) -> Result<File, OpenError> {
    let path = folder.dir.join(".lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = open.map_err(DiskError::on("open", &path))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(DiskError::on("lock", &path)(error).into()),
    }
    tracing::info!(dir = %folder.dir.display(), "another agent holds the image cache, waiting for it");
    // A lock can't be waited for with a deadline, a channel can. If nobody waits any more, the file is
    // closed, and with it the lock is gone.
    let (taken, wait) = channel();
    thread::spawn(move || {
        let locked = file.lock().map(|()| file);
        drop(taken.send(locked));
    });
    match wait.recv_timeout(patience) {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(error)) => Err(DiskError::on("lock", &path)(error).into()),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(OpenError::InUse { dir: folder.dir.clone() })
        }
    }
}
