//! The authority's folder. Invariant: no key is ever readable by others, not even while it is written;
//! nothing that is there is overwritten.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::issue::{Made, Pair};

/// The authority's certificate and key.
pub const CA: (&str, &str) = ("ca.crt", "ca.key");
/// What agents see.
pub const SERVER: (&str, &str) = ("server.crt", "server.key");
/// What agents are commanded with.
pub const CONTROL_PLANE: (&str, &str) = ("control-plane.crt", "control-plane.key");
/// For agentctl; named as it wants them.
pub const OPERATOR: (&str, &str) = ("operator.crt", "operator.key");

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Something of that name is there.
    #[error("{} is there already and is not overwritten: every agent that was enrolled with it would be lost; choose another folder with --dir", .0.display())]
    Exists(PathBuf),
    /// The system refuses.
    #[error("cannot write to {}; choose a folder that you may write to with --dir, or use sudo", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Writes all that `init` made into a folder, which is made (0700) when missing.
///
/// # Errors
/// See [`FilesError`]; nothing is written if a file is there.
pub fn write(folder: &Path, made: &Made) -> Result<Vec<&'static str>, FilesError> {
    write_pairs(
        folder,
        &[
            (SERVER, &made.server),
            (CONTROL_PLANE, &made.control_plane),
            (OPERATOR, &made.operator),
            (CA, &made.ca),
        ],
    )
}

/// Writes an operator's identity and the authority's certificate into a folder, which is made (0700) when missing.
///
/// # Errors
/// See [`FilesError`]; nothing is written if a file is there.
pub fn write_operator(
    folder: &Path,
    pair: &Pair,
    ca_pem: &str,
) -> Result<Vec<&'static str>, FilesError> {
    let mut written = write_pairs(folder, &[(OPERATOR, pair)])?;
    let ca = folder.join(CA.0);
    if std::fs::read_to_string(&ca).is_ok_and(|there| there == ca_pem) {
        return Ok(written);
    }
    let io = |source| FilesError::Io { path: folder.to_owned(), source };
    let temporary = prepare(folder, ca_pem, 0o644).map_err(io)?;
    persist(temporary, &ca)?;
    written.push(CA.0);
    Ok(written)
}

type Named<'a> = ((&'static str, &'static str), &'a Pair);

fn write_pairs(folder: &Path, pairs: &[Named<'_>]) -> Result<Vec<&'static str>, FilesError> {
    let all = pairs.iter().flat_map(|((certificate, key), pair)| {
        [(*certificate, &pair.certificate, 0o644), (*key, &pair.key, 0o600)]
    });
    let all: Vec<_> = all.collect();
    let io = |source| FilesError::Io { path: folder.to_owned(), source };
    for (name, ..) in &all {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(FilesError::Exists(path));
        }
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    // All of them are complete before the first gets its name.
    let ready =
        all.iter().map(|(name, pem, mode)| Ok((folder.join(name), prepare(folder, pem, *mode)?)));
    for (path, temporary) in ready.collect::<io::Result<Vec<_>>>().map_err(io)? {
        persist(temporary, &path)?;
    }
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok(all.iter().map(|(name, ..)| *name).collect())
}

fn prepare(folder: &Path, pem: &str, mode: u32) -> io::Result<NamedTempFile> {
    // tempfile makes it 0600.
    let mut temporary = NamedTempFile::new_in(folder)?;
    temporary.write_all(pem.as_bytes())?;
    temporary.as_file().set_permissions(Permissions::from_mode(mode))?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

fn persist(temporary: NamedTempFile, path: &Path) -> Result<(), FilesError> {
    temporary.persist_noclobber(path).map(drop).map_err(|refused| match refused.error.kind() {
        io::ErrorKind::AlreadyExists => FilesError::Exists(path.to_owned()),
        _ => FilesError::Io { path: path.to_owned(), source: refused.error },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_their_owners_alone_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api");
        let made = || super::super::make(&["localhost".to_owned()], Timestamp::now()).unwrap();
        let written = write(&path, &made()).unwrap();
        assert_eq!(written.len(), 8);
        assert_eq!(mode(&path), 0o700);
        for name in written {
            let expected = if name.ends_with(".key") { 0o600 } else { 0o644 };
            assert_eq!(mode(&path.join(name)), expected, "{name}");
        }
        let before = std::fs::read(path.join("ca.key")).unwrap();
        assert!(matches!(write(&path, &made()), Err(FilesError::Exists(_))));
        assert_eq!(std::fs::read(path.join("ca.key")).unwrap(), before);
        let left = std::fs::read_dir(&path).unwrap().count();
        assert_eq!(left, 8, "temporary files are left");
    }
}
