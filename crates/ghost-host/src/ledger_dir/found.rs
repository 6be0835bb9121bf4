//! What lies in the ledger's folder. Invariant: looking changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use ghost_core::domain::VmRecord;
use serde::Deserialize;

use super::{LedgerError, SCHEMA};
use crate::atomic_file;
use crate::disk_error::DiskError;

/// What a file of the folder turned out to be.
#[derive(Debug)]
pub(super) enum Found {
    /// A VM's record.
    Record(Box<VmRecord>),
    /// Not a record, or a torn one; the text says why.
    Damaged(String),
    /// A temporary file that a crash left behind.
    Leftover,
    /// A folder, or what was set aside earlier.
    Ignored,
}

#[derive(Deserialize)]
struct Entry {
    schema: u32,
    #[serde(flatten)]
    record: VmRecord,
}

/// Looks at every file of `dir`, in the order of their names.
///
/// # Errors
/// [`LedgerError::TooNew`] if any file is of a newer agent; [`LedgerError::Disk`] if one can't be
/// read at all, which says nothing about what it holds.
pub(super) fn survey(dir: &Path) -> Result<Vec<(PathBuf, Found)>, LedgerError> {
    let entries = fs::read_dir(dir).map_err(DiskError::on("read", dir))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(DiskError::on("read", dir))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(DiskError::on("read", &path))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let what = if kind.is_dir() || atomic_file::is_set_aside(&name) {
            Found::Ignored
        } else if !kind.is_file() {
            Found::Damaged("is not a regular file".to_owned())
        } else if atomic_file::is_temp(&name) {
            Found::Leftover
        } else {
            let bytes = fs::read(&path).map_err(DiskError::on("read", &path))?;
            LedgerError::refuse_newer(&path, &bytes)?;
            classify(&name, &bytes)
        };
        found.push((path, what));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// What a regular file with this name and content is.
fn classify(name: &str, bytes: &[u8]) -> Found {
    let entry = match serde_json::from_slice::<Entry>(bytes) {
        Ok(entry) => entry,
        Err(_) if bytes.is_empty() => return Found::Damaged("is empty".to_owned()),
        Err(error) => return Found::Damaged(format!("is not a VM's record: {error}")),
    };
    if entry.schema != SCHEMA {
        Found::Damaged(format!("has schema {}, which never existed", entry.schema))
    } else if name != format!("{}.json", entry.record.id) {
        Found::Damaged(format!("is named differently from its VM, {}", entry.record.id))
    } else {
        Found::Record(Box::new(entry.record))
    }
}
