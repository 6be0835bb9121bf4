//! Invariant: a file is there whole or not at all, and a private key is never readable by others,
//! not even while it is written.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::errors::{Exit, Failure};

/// What to do with files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    Keep,
    Replace,
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// 0600.
    Private,
    /// 0644.
    Public,
}

/// One file to write.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) name: &'static str,
    pub(super) secrecy: Secrecy,
    pub(super) pem: String,
}

/// Writes all of `files` into `dir`, which is made (0755) when missing.
///
/// # Errors
/// Exit 5 when one is there and `existing` says keep, before anything is written; 9 when the folder may not be
/// written to; 1 otherwise.
pub(super) fn write_all(dir: &Path, files: &[NewFile], existing: Existing) -> Result<(), Failure> {
    let there: Vec<&str> = files
        .iter()
        .map(|file| file.name)
        .filter(|name| dir.join(name).symlink_metadata().is_ok())
        .collect();
    if existing == Existing::Keep && !there.is_empty() {
        return Err(Failure::new(Exit::Conflict, format!("{} already has {}", dir.display(), there.join(", ")))
            .remedy("choose another folder, or replace them with --force: whoever trusts the old CA must then get the new one"));
    }
    write(dir, files, existing).map_err(|error| {
        let exit = if error.kind() == io::ErrorKind::PermissionDenied {
            Exit::NotPermitted
        } else {
            Exit::Failed
        };
        Failure::new(exit, format!("cannot write to {}: {error}", dir.display()))
            .remedy("choose a folder that you may write to, or use sudo")
    })
}

fn write(dir: &Path, files: &[NewFile], existing: Existing) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    // All of them are complete before the first gets its name.
    let ready = files.iter().map(|file| prepare(dir, file)).collect::<io::Result<Vec<_>>>()?;
    for (temporary, path) in ready {
        match existing {
            Existing::Replace => temporary.persist(path)?,
            Existing::Keep => temporary.persist_noclobber(path)?,
        };
    }
    std::fs::File::open(dir)?.sync_all()
}

fn prepare(dir: &Path, file: &NewFile) -> io::Result<(NamedTempFile, PathBuf)> {
    // tempfile makes it 0600.
    let mut temporary = NamedTempFile::new_in(dir)?;
    temporary.write_all(file.pem.as_bytes())?;
    if file.secrecy == Secrecy::Public {
        temporary.as_file().set_permissions(Permissions::from_mode(0o644))?;
    }
    temporary.as_file().sync_all()?;
    Ok((temporary, dir.join(file.name)))
}
