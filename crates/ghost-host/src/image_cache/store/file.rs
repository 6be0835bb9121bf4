//! Looking at an image's file. Invariant: nothing is followed, nothing is waited for: what is not a
//! regular file is never read.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Seek};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ghost_core::domain::{Bytes, Checksum};
use jiff::Timestamp;
use rustix::fs::{Advice, OFlags, fadvise};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::qcow2::{self, HEADER, Qcow2Error};
use crate::disk_error::DiskError;

const READ_ONLY: u32 = 0o444;
const ANY_WRITE: u32 = 0o222;
/// Read at once; what was read is given back to the kernel after it was hashed.
const STEP: usize = 1 << 20;

/// What tells without reading a file that it was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// The file's length in bytes.
    pub(super) size: u64,
    /// When it was last written to: seconds since 1970.
    mtime: i64,
    /// And nanoseconds.
    mtime_ns: i64,
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self { size: found.len(), mtime: found.mtime(), mtime_ns: found.mtime_nsec() }
    }

    /// When the file was last written to; the begin of 1970 for a time beyond belief.
    pub(super) fn written_at(&self) -> Timestamp {
        Timestamp::from_second(self.mtime).unwrap_or_default()
    }
}

/// A regular file where an image should be.
#[derive(Debug)]
pub(super) struct Opened {
    file: File,
    pub(super) stamp: Stamp,
    /// What it takes on the disk.
    pub(super) takes: Bytes,
    writable: bool,
}

/// What lies where an image should be.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    /// Something else than a regular file; says what.
    Foreign(&'static str),
    Regular(Opened),
}

/// Looks at `path`. Blocks, briefly.
pub(super) fn look(path: &Path) -> Result<Found, DiskError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(DiskError::on("look at", path)(error)),
    };
    if let Some(what) = foreign(&found) {
        return Ok(Found::Foreign(what));
    }
    // It may have become something else since.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(DiskError::on("read", path))?;
    let found = file.metadata().map_err(DiskError::on("look at", path))?;
    if let Some(what) = foreign(&found) {
        return Ok(Found::Foreign(what));
    }
    let writable = found.permissions().mode() & ANY_WRITE != 0;
    let takes = Bytes(found.blocks().saturating_mul(512));
    Ok(Found::Regular(Opened { file, stamp: Stamp::of(&found), takes, writable }))
}

fn foreign(found: &Metadata) -> Option<&'static str> {
    let kind = found.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a folder"),
        () if kind.is_symlink() => Some("a symbolic link"),
        () if kind.is_fifo() => Some("a pipe"),
        () => Some("a device or a socket"),
    }
}

impl Opened {
    /// True if it is as it was when `stamp` was taken, and nobody may write to it.
    pub(super) fn is_untouched(&self, stamp: &Stamp) -> bool {
        !self.writable && self.stamp == *stamp
    }

    /// Size of the disk that it holds, if it may back one.
    pub(super) fn virtual_size(&mut self) -> io::Result<Result<Bytes, Qcow2Error>> {
        let start = self.start(HEADER)?;
        Ok(qcow2::virtual_size(&start, Bytes(self.stamp.size)))
    }

    /// Up to `length` bytes from its begin.
    pub(super) fn start(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut start = Vec::with_capacity(length);
        self.file.rewind()?;
        (&mut self.file).take(length as u64).read_to_end(&mut start)?;
        Ok(start)
    }

    /// The whole of it, from its begin.
    pub(super) fn rewound(&mut self) -> io::Result<&mut File> {
        self.file.rewind()?;
        Ok(&mut self.file)
    }

    /// Takes everybody's right to write.
    pub(super) fn protect(&mut self) -> io::Result<()> {
        if self.writable {
            self.file.set_permissions(Permissions::from_mode(READ_ONLY))?;
            self.writable = false;
        }
        Ok(())
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Makes it read-only for all, QEMU's user among them, durably.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(READ_ONLY))?;
        self.writable = false;
        self.file.sync_all()
    }

    /// Reads the whole file for its SHA-256. What the owner's programs had in the page cache stays
    /// there: what is read here is dropped from it.
    pub(super) fn sha256(&mut self) -> io::Result<(Checksum, Bytes)> {
        self.file.rewind()?;
        advise(&self.file, 0, None, Advice::Sequential);
        let (mut hash, mut step, mut read) = (Sha256::new(), vec![0; STEP], 0);
        loop {
            let n = match self.file.read(&mut step) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hash.update(step.get(..n).unwrap_or_default());
            advise(&self.file, read, NonZeroU64::new(n as u64), Advice::DontNeed);
            read += n as u64;
        }
        Ok((checksum(hash)?, Bytes(read)))
    }
}

/// It is only advice.
fn advise(file: &File, offset: u64, length: Option<NonZeroU64>, advice: Advice) {
    let _refused = fadvise(file, offset, length, advice);
}

/// The digest that names an image.
pub(super) fn checksum(hash: Sha256) -> io::Result<Checksum> {
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex.parse().map_err(io::Error::other)
}
