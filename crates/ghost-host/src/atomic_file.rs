//! Invariant: after a crash at any moment a file written here is either the former one or the new
//! one, whole; and a name that was taken is never overwritten by [`set_aside`].

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::disk_error::DiskError;

/// Temporary files begin and end like this; whatever does is a leftover of a crash.
const TEMP_PREFIX: &str = ".ghost-";
const TEMP_SUFFIX: &str = ".tmp";
/// Only the agent's user may read its state: it holds the callers' metadata.
const MODE: u32 = 0o600;

/// Replaces `path` by `content`, mode 0600, durably: temporary file in the same folder, fsync,
/// rename, fsync of the folder. Blocks.
///
/// # Errors
/// On any, the former file is untouched and the temporary one is gone.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), DiskError> {
    let dir = parent(path);
    let mut temp = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .suffix(TEMP_SUFFIX)
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(dir)
        .map_err(DiskError::on("create a file in", dir))?;
    temp.write_all(content)
        .and_then(|()| temp.as_file().sync_all())
        .map_err(DiskError::on("write", path))?;
    temp.persist(path).map_err(|e| DiskError::on("write", path)(e.error))?;
    sync_dir(dir)
}

/// Makes what was created, renamed or removed in `dir` durable. Blocks.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(DiskError::on("sync", dir))
}

/// Makes `dir` and the missing ones above it, with exactly `mode` whatever the umask is; one that
/// is there stays as it is. Blocks.
pub(crate) fn ensure_dir(dir: &Path, mode: u32) -> Result<(), DiskError> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        ensure_dir(above, mode)?;
    }
    match fs::create_dir(dir) {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(mode))
            .map_err(DiskError::on("protect", dir)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(DiskError::on("create", dir)(error)),
    }
}

/// Removes a file, if it is there. Blocks, briefly.
pub(crate) fn ensure_gone(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DiskError::on("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// True for the name of a temporary file of [`write()`].
pub(crate) fn is_temp(name: &str) -> bool {
    name.starts_with(TEMP_PREFIX) && name.ends_with(TEMP_SUFFIX)
}

/// Removes the temporary files of [`write()`] from `dir`. Blocks. The caller holds the state folder's
/// lock, so that nobody is writing one.
pub(crate) fn remove_leftovers(dir: &Path) -> Result<(), DiskError> {
    for entry in fs::read_dir(dir).map_err(DiskError::on("read", dir))? {
        let path = entry.map_err(DiskError::on("read", dir))?.path();
        if path.file_name().is_some_and(|name| is_temp(&name.to_string_lossy())) && path.is_file() {
            fs::remove_file(&path).map_err(DiskError::on("remove", &path))?;
        }
    }
    Ok(())
}

/// True for a name that [`set_aside`] has given.
pub(crate) fn is_set_aside(name: &str) -> bool {
    name.rsplit_once(".damaged-").is_some_and(|(_, n)| n.parse::<u32>().is_ok())
}

/// Renames `path` to `<path>.damaged-<n>` with the first free `n` from 1, durably, and gives the
/// new name. Blocks. The caller holds the state folder's lock, so that no one takes the name in
/// between.
pub(crate) fn set_aside(path: &Path) -> Result<PathBuf, DiskError> {
    let name = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{n}"));
        PathBuf::from(name)
    };
    let free = (1..=u32::MAX).map(name).find(|aside| fs::symlink_metadata(aside).is_err());
    let aside = free.unwrap_or_else(|| name(0));
    fs::rename(path, &aside).map_err(DiskError::on("set aside", path))?;
    sync_dir(parent(path))?;
    Ok(aside)
}

/// The folder of a file.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_private_and_without_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write(&path, b"a much longer former content").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("it is a folder"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn setting_aside_never_overwrites_what_was_set_aside_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        for content in ["first", "second"] {
            fs::write(&path, content).unwrap();
            let aside = set_aside(&path).unwrap();
            assert!(is_set_aside(aside.file_name().unwrap().to_str().unwrap()));
            assert_eq!(fs::read_to_string(aside).unwrap(), content);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
