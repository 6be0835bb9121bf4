//! Invariant: a file is there whole or not at all, and a private key is never readable by others,
//! not even while it is written; only the agent's may be readable by the group its folder was
//! given to.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
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
    /// 0640 with the folder's group, if the folder was given to a group that is not ours: it is
    /// the group of who is to use the key (`make install` gives the folder to `ghost`). Else 0600.
    FolderGroup,
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
    match file.secrecy {
        Secrecy::Private => {}
        Secrecy::Public => {
            temporary.as_file().set_permissions(Permissions::from_mode(0o644))?;
        }
        Secrecy::FolderGroup => {
            let group = std::fs::metadata(dir)?.gid();
            if group != rustix::process::getegid().as_raw() {
                std::os::unix::fs::fchown(temporary.as_file(), None, Some(group))?;
                temporary.as_file().set_permissions(Permissions::from_mode(0o640))?;
            }
        }
    }
    temporary.as_file().sync_all()?;
    Ok((temporary, dir.join(file.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_and_group(path: &Path) -> (u32, u32) {
        let metadata = std::fs::metadata(path).unwrap();
        (metadata.permissions().mode() & 0o777, metadata.gid())
    }

    fn key(name: &'static str, secrecy: Secrecy) -> NewFile {
        NewFile { name, secrecy, pem: "key".to_owned() }
    }

    #[test]
    fn in_ones_own_folder_every_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path(), &[key("agent.key", Secrecy::FolderGroup)], Existing::Keep).unwrap();
        assert_eq!(mode_and_group(&dir.path().join("agent.key")).0, 0o600);
    }

    #[test]
    fn in_a_folder_of_another_group_that_group_may_read_the_agents_key_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let other = rustix::process::getegid().as_raw() + 1;
        if std::os::unix::fs::chown(dir.path(), None, Some(other)).is_err() {
            assert!(!rustix::process::geteuid().is_root(), "root may give folders away");
            return;
        }
        let files = [key("agent.key", Secrecy::FolderGroup), key("ca.key", Secrecy::Private)];
        write_all(dir.path(), &files, Existing::Keep).unwrap();
        assert_eq!(mode_and_group(&dir.path().join("agent.key")), (0o640, other));
        assert_eq!(mode_and_group(&dir.path().join("ca.key")).0, 0o600);
    }
}
