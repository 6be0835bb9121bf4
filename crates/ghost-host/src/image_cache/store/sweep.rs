//! What a start finds. Invariant: nothing is removed but what a crash left; the caller holds the lock,
//! so nobody is writing any of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ghost_core::domain::{Checksum, TemplateName};
use jiff::{SignedDuration, Timestamp};

use super::folder::{Folder, names_facts, names_pointer};
use super::notes::{self, Facts, Pointer};
use crate::atomic_file;
pub(super) use crate::atomic_file::ensure_gone as remove;
use crate::disk_error::DiskError;

/// Ends the names of files that are being unpacked.
pub(super) const UNPACKED: &str = ".unpacked";
/// Ended the names of downloads in the folder itself, in the layout without `parts/`.
const FORMER_PART: &str = ".part";
/// How long a download may be taken up again.
const RESUMABLE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Removes what broken work left.
pub(super) fn remove_leftovers(folder: &Folder, now: Timestamp) -> Result<(), DiskError> {
    for dir in [folder.dir(), &folder.templates(), &folder.parts(), &folder.quarantine()] {
        atomic_file::remove_leftovers(dir)?;
    }
    for (path, name) in entries(folder.dir())? {
        // An agent of the former layout that still runs keeps its own locked.
        if name.ends_with(FORMER_PART)
            && is_file(&path)
            && File::open(&path).is_ok_and(|file| file.try_lock().is_ok())
        {
            remove(&path)?;
        }
    }
    for (path, name) in entries(&folder.parts())? {
        if is_file(&path) && name.ends_with(UNPACKED) {
            remove(&path)?;
        }
    }
    remove_old_parts(folder, now)
}

/// Removes downloads that are too old to be taken up again. What is coming in or being unpacked is new, or locked.
pub(super) fn remove_old_parts(folder: &Folder, now: Timestamp) -> Result<(), DiskError> {
    for (path, name) in entries(&folder.parts())? {
        let is_left = || File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
        if is_file(&path) && !name.ends_with(UNPACKED) && is_old(&path, now) && is_left() {
            remove(&path)?;
        }
    }
    Ok(())
}

/// The facts of the images that are there; those of others are removed.
pub(super) fn facts(folder: &Folder) -> Result<BTreeMap<Checksum, Facts>, DiskError> {
    let mut all = BTreeMap::new();
    for (path, name) in entries(folder.dir())? {
        let Some(checksum) = names_facts(&name) else { continue };
        let Some(facts) = notes::read(&path)? else { continue };
        if fs::symlink_metadata(folder.image(&checksum)).is_ok() {
            all.insert(checksum, facts);
        } else {
            remove(&path)?;
        }
    }
    Ok(all)
}

/// The templates' pointers.
pub(super) fn pointers(folder: &Folder) -> Result<BTreeMap<TemplateName, Pointer>, DiskError> {
    let mut all = BTreeMap::new();
    for (path, name) in entries(&folder.templates())? {
        let Some(template) = names_pointer(&name) else { continue };
        if let Some(pointer) = notes::read(&path)? {
            all.insert(template, pointer);
        }
    }
    Ok(all)
}

/// What lies in a folder, with its names as text.
pub(super) fn entries(dir: &Path) -> Result<Vec<(PathBuf, String)>, DiskError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(DiskError::on("read", dir))? {
        let entry = entry.map_err(DiskError::on("read", dir))?;
        all.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
    }
    all.sort();
    Ok(all)
}

fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
}

/// A file from the future is not old: the clock was wrong, then or now.
fn is_old(path: &Path, now: Timestamp) -> bool {
    let written = fs::symlink_metadata(path).and_then(|found| found.modified());
    let written = written.ok().and_then(|written| Timestamp::try_from(written).ok());
    let limit = SignedDuration::try_from(RESUMABLE).unwrap_or(SignedDuration::MAX);
    written.is_some_and(|written| now.duration_since(written) > limit)
}
