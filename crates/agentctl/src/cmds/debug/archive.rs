//! The bundle as a file. Invariant: it is there whole or not at all, its owner alone may read it, and it takes no other file's place.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ghost_scrub::Scrubbed;
use tempfile::NamedTempFile;

use super::names::Name;
use crate::errors::{Exit, Failure};

/// Where the bundle goes.
#[derive(Debug)]
pub(super) enum Place {
    Stdout,
    File(PathBuf),
}

impl Place {
    /// `-` is standard output; checked before anything is collected.
    ///
    /// # Errors
    /// Exit 5 when the file is there, 2 when standard output is a terminal.
    pub(super) fn choose(file: PathBuf) -> Result<Self, Failure> {
        if file == Path::new("-") {
            if io::stdout().is_terminal() {
                return Err(Failure::usage("a bundle is not for a terminal")
                    .remedy("send it into a file or a pipe, or give --file a name"));
            }
            return Ok(Self::Stdout);
        }
        match file.symlink_metadata() {
            Ok(_) => Err(there(&file)),
            Err(_) => Ok(Self::File(file)),
        }
    }

    /// Writes the files as one archive, below a folder of this name; returns its size in bytes.
    ///
    /// # Errors
    /// Exit 5 when the file has come to be; 9 when the folder may not be written to; 1 otherwise.
    pub(super) fn write(&self, folder: &str, files: &[(Name, Scrubbed)]) -> Result<u64, Failure> {
        match self {
            Self::Stdout => to_stdout(folder, files).map_err(|error| {
                Failure::local(format!("cannot write to standard output: {error}"))
                    .remedy("free space where it leads to, or keep the reader alive")
            }),
            Self::File(path) => to_file(path, folder, files).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => there(path),
                _ => cannot_write(path, &error),
            }),
        }
    }
}

fn there(path: &Path) -> Failure {
    Failure::new(Exit::Conflict, format!("{} is there already", path.display()))
        .remedy("move it away, or give another --file")
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let (exit, remedy) = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            (Exit::NotPermitted, "choose a folder that you may write to with --file")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Exit::Failed, "free space there, or choose another disk with --file")
        }
        io::ErrorKind::NotFound => (Exit::Failed, "make its folder, or choose another with --file"),
        _ => (Exit::Failed, "choose another place with --file"),
    };
    Failure::new(exit, format!("cannot write {}: {error}", path.display())).remedy(remedy)
}

fn to_stdout(folder: &str, files: &[(Name, Scrubbed)]) -> io::Result<u64> {
    let mut counted = Counted { inner: io::stdout().lock(), bytes: 0 };
    pack(&mut counted, folder, files)?;
    counted.inner.flush()?;
    Ok(counted.bytes)
}

fn to_file(path: &Path, folder: &str, files: &[(Name, Scrubbed)]) -> io::Result<u64> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    // 0600, and gone again if this fails.
    let mut temporary =
        NamedTempFile::with_prefix_in(".ghost-debug-", parent.unwrap_or(Path::new(".")))?;
    pack(temporary.as_file_mut(), folder, files)?;
    temporary.as_file().sync_all()?;
    let file: File = temporary.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(file.metadata()?.len())
}

fn pack(to: &mut impl Write, folder: &str, files: &[(Name, Scrubbed)]) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(to, Compression::default()));
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
    for (name, text) in files {
        let bytes = text.as_str().as_bytes();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(now);
        header.set_size(bytes.len().try_into().map_err(io::Error::other)?);
        archive.append_data(&mut header, format!("{folder}/{}", name.as_str()), bytes)?;
    }
    archive.into_inner()?.finish()?.flush()
}

/// Counts what goes through.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes = self.bytes.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
