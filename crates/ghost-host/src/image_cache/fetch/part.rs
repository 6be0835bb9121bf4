//! A file that is not whole yet. Invariant: one process at a time writes to it, the one with its lock;
//! and its digests are those of bytes that were read from it or written to it since it was locked.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ghost_core::domain::{Bytes, HashAlgorithm, PublishedDigest};
use rustix::fs::{Mode, OFlags};

use super::ImageError;
use super::digests::Digests;
use super::partial::Origin;
use crate::atomic_file;
use crate::disk_error::DiskError;

/// Read at once when the digests are made again.
const CHUNK: usize = 1 << 20;

/// A part whose lock is ours.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    listed: HashAlgorithm,
    digests: Digests,
    length: u64,
    origin: Option<Origin>,
    made: Made,
}

/// Whether a part was put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// From one answer.
    OfOnePiece,
    /// From several, or from what lay there.
    OfPieces,
}

/// Where the next bytes belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// At the start: what is there is given up.
    Anew(Origin),
    /// Behind what is there.
    Behind,
}

/// What became of opening a part.
#[derive(Debug)]
pub(super) enum Opened {
    /// It is ours.
    Ours(Box<Part>),
    /// Somebody else writes to it, or has just moved it away.
    Elsewhere,
}

impl Part {
    /// Opens the part of `digest` in `dir`, or makes it, and reads what an earlier process left there:
    /// it may have been altered since. Blocks.
    pub(super) fn open(
        dir: &Path,
        digest: &PublishedDigest,
        most: Bytes,
    ) -> Result<Opened, ImageError> {
        let listed = digest.algorithm();
        let path = dir.join(format!("{}-{}.part", listed.as_str(), digest.hex()));
        let file = open_file(&path).map_err(DiskError::on("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Opened::Elsewhere),
            Err(TryLockError::Error(error)) => {
                return Err(DiskError::on("lock", &path)(error).into());
            }
        }
        if !is_at(&file, &path).map_err(DiskError::on("look at", &path))? {
            return Ok(Opened::Elsewhere);
        }
        let digests = Digests::new(listed);
        let mut part =
            Self { file, path, listed, digests, length: 0, origin: None, made: Made::OfOnePiece };
        part.read_again(most).map_err(DiskError::on("read", &part.path))?;
        Ok(Opened::Ours(Box::new(part)))
    }

    fn read_again(&mut self, most: Bytes) -> io::Result<()> {
        if self.file.metadata()?.len() > most.0 {
            return self.file.set_len(0);
        }
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.file.read(&mut chunk)? {
                0 => break,
                read => {
                    self.digests.update(&chunk[..read]);
                    self.length += read as u64;
                }
            }
        }
        let beside = fs::read(self.beside()).ok();
        self.origin = beside.and_then(|json| serde_json::from_slice(&json).ok());
        self.made = Made::OfPieces;
        Ok(())
    }

    /// The file that says where a part comes from.
    fn beside(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn length(&self) -> Bytes {
        Bytes(self.length)
    }

    pub(super) fn digests(&self) -> &Digests {
        &self.digests
    }

    pub(super) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    pub(super) fn made(&self) -> Made {
        self.made
    }

    /// Gets ready for bytes at `start`. Blocks.
    pub(super) fn begin(&mut self, start: Start) -> Result<(), DiskError> {
        match start {
            Start::Anew(origin) => self.restart(Some(origin)),
            Start::Behind => {
                self.made = Made::OfPieces;
                let at_end = self.file.seek(SeekFrom::Start(self.length));
                at_end.map(drop).map_err(DiskError::on("write", &self.path))
            }
        }
    }

    /// Empties it. What it comes from is forgotten before, and noted after, so that a crash between them
    /// never leaves bytes with another's origin. Blocks.
    pub(super) fn restart(&mut self, origin: Option<Origin>) -> Result<(), DiskError> {
        atomic_file::ensure_gone(&self.beside())?;
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(DiskError::on("write", &self.path))?;
        (self.digests, self.length) = (Digests::new(self.listed), 0);
        self.made = Made::OfOnePiece;
        self.origin = origin.filter(Origin::is_resumable);
        if let Some(origin) = &self.origin {
            let json = serde_json::to_vec(origin).map_err(io::Error::from);
            let json = json.map_err(DiskError::on("write", &self.path))?;
            atomic_file::write(&self.beside(), &json)?;
        }
        Ok(())
    }

    /// Blocks.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        if let Err(source) = self.file.write_all(bytes) {
            // What was written of these bytes is in no digest. If that fails too, the next open reads it.
            let _cut_off = self.file.set_len(self.length);
            return Err(self.not_written(source));
        }
        self.digests.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn not_written(&self, source: io::Error) -> ImageError {
        let error = DiskError::on("write", &self.path)(source);
        if error.takes_no_more() {
            let (path, kept) = (error.path, Bytes(self.length));
            return ImageError::DiskFull { path, kept, source: error.source };
        }
        error.into()
    }

    /// Whether the file is as long as what was counted. Blocks, briefly.
    pub(super) fn is_whole_on_disk(&self) -> Result<bool, DiskError> {
        let found = self.file.metadata().map_err(DiskError::on("look at", &self.path))?;
        Ok(found.len() == self.length)
    }

    /// Forgets where it comes from: it needs nothing more. Blocks, briefly.
    pub(super) fn close(&mut self) -> Result<(), DiskError> {
        self.origin = None;
        atomic_file::ensure_gone(&self.beside())
    }

    /// Removes it. Blocks, briefly.
    pub(super) fn discard(&mut self) -> Result<(), DiskError> {
        self.close()?;
        atomic_file::ensure_gone(&self.path)
    }
}

/// Neither follows a link nor waits for a pipe's other end.
fn open_file(path: &Path) -> io::Result<File> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
impl Part {
    /// A part that is written to `path`, whatever that is.
    pub(super) fn over(path: &Path) -> Self {
        let listed = HashAlgorithm::Sha256;
        Self {
            file: File::options().write(true).open(path).unwrap(),
            path: path.to_owned(),
            listed,
            digests: Digests::new(listed),
            length: 0,
            origin: None,
            made: Made::OfOnePiece,
        }
    }
}
