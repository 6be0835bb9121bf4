//! A proven file becomes an image. Invariant: what gets an image's name has its digest, is durable, may
//! be written by nobody, and reads no other file; what is not fit is deleted at once.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ghost_core::domain::{AppError, BaseImage, Bytes, Checksum, HeldImage, PublishedDigest, cause};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use super::super::ImageError;
use super::super::origin::Unpack;
use super::super::proven::ProvenFile;
use super::books::{Books, Look};
use super::ensure_space;
use super::file::{self, Found, Opened};
use super::notes::Facts;
use super::sweep::{self, UNPACKED};
use crate::atomic_file;
use crate::disk_error::DiskError;
use crate::publisher::Compression;

/// A file that is fit to be an image, and durable; it only wants its name.
#[derive(Debug)]
pub(in super::super) struct Candidate {
    pub(in super::super) checksum: Checksum,
    opened: Opened,
    virtual_size: Bytes,
    proven: ProvenFile,
    /// If the proven file was packed; removed when dropped.
    unpacked: Option<TempPath>,
}

/// What an unpacked file may take.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Room {
    /// Its size at most.
    pub(in super::super) limit: Bytes,
    /// What is left of the disk at least.
    pub(in super::super) keep_free: Bytes,
}

/// How much is unpacked between two looks at the disk.
const LOOK_EVERY: u64 = 64 << 20;

/// Unpacks and inspects a proven file. Blocks, for as long as unpacking takes.
///
/// # Errors
/// If it is not fit; then it is deleted. If the disk fails it stays, for the next try.
pub(super) fn candidate(
    proven: ProvenFile,
    room: Room,
    unpack: &Unpack<'_>,
) -> Result<Candidate, ImageError> {
    let path = proven.path.clone();
    let unfit =
        |error: &ImageError| !matches!(error, ImageError::Disk(_) | ImageError::NoSpace { .. });
    prepare(proven, room, unpack).inspect_err(|error| {
        if unfit(error)
            && let Err(error) = sweep::remove(&path)
        {
            let error = AppError::from(error);
            tracing::warn!(error = cause(&error), "a file that is not fit to be an image stays");
        }
    })
}

fn prepare(proven: ProvenFile, room: Room, unpack: &Unpack<'_>) -> Result<Candidate, ImageError> {
    let unreadable = || DiskError::on("read", &proven.path);
    let mut opened = regular(&proven.path)?;
    let start = opened.start(8).map_err(unreadable())?;
    let (mut checksum, mut unpacked) = (proven.sha256.clone(), None);
    let compression = Compression::of_start(&start);
    if compression != Compression::None {
        let (path, digest) = unpacked_beside(&proven, &mut opened, compression, room, unpack)?;
        opened = regular(&path)?;
        (checksum, unpacked) = (digest, Some(path));
    }
    let path: &Path = unpacked.as_deref().unwrap_or(&proven.path);
    let virtual_size = opened
        .virtual_size()
        .map_err(DiskError::on("read", path))?
        .map_err(|why| ImageError::Unfit { url: proven.shown.clone(), why })?;
    opened.sync().map_err(DiskError::on("write", path))?;
    Ok(Candidate { checksum, opened, virtual_size, proven, unpacked })
}

fn regular(path: &Path) -> Result<Opened, ImageError> {
    match file::look(path)? {
        Found::Regular(opened) => Ok(opened),
        Found::Nothing => Err(DiskError::on("read", path)(io::ErrorKind::NotFound.into()).into()),
        Found::Foreign(_) => {
            Err(DiskError::on("read", path)(io::ErrorKind::InvalidInput.into()).into())
        }
    }
}

fn unpacked_beside(
    proven: &ProvenFile,
    opened: &mut Opened,
    compression: Compression,
    room: Room,
    unpack: &Unpack<'_>,
) -> Result<(TempPath, Checksum), ImageError> {
    let dir = atomic_file::parent(&proven.path);
    // It hardly gets smaller.
    ensure_space(dir, Bytes(proven.size.0.saturating_add(room.keep_free.0)))?;
    let temp = tempfile::Builder::new()
        .prefix(&format!("{}.", proven.sha256.hex()))
        .suffix(UNPACKED)
        .tempfile_in(dir)
        .map_err(DiskError::on("create a file in", dir))?;
    let (file, path) = temp.into_parts();
    let look = || ensure_space(dir, room.keep_free);
    let mut to =
        Hashing { to: file, hash: Sha256::new(), look: &look, until_look: LOOK_EVERY, full: None };
    let from = opened.rewound().map_err(DiskError::on("read", &proven.path))?;
    if let Err(failed) = unpack(compression, from, &mut to, room.limit) {
        return Err(to.full.unwrap_or_else(|| failed.on(proven, &path)));
    }
    let checksum = file::checksum(to.hash).map_err(DiskError::on("write", &path))?;
    Ok((path, checksum))
}

/// Hashes what is written, as long as there is room.
struct Hashing<'a> {
    to: fs::File,
    hash: Sha256,
    look: &'a dyn Fn() -> Result<(), ImageError>,
    until_look: u64,
    /// Why the last write failed, if that was for want of room.
    full: Option<ImageError>,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.until_look == 0 {
            if let Err(full) = (self.look)() {
                self.full = Some(full);
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.until_look = LOOK_EVERY;
        }
        self.until_look = self.until_look.saturating_sub(bytes.len() as u64);
        let written = self.to.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl Candidate {
    /// For when the image is there already.
    pub(super) fn discard(self) -> Result<(), DiskError> {
        sweep::remove(&self.proven.path)
    }

    fn path(&self) -> PathBuf {
        self.unpacked.as_deref().unwrap_or(&self.proven.path).to_owned()
    }
}

impl Books {
    /// Gives a candidate its name, unless a usable image has it.
    pub(super) fn admit(
        &mut self,
        mut candidate: Candidate,
        published: &PublishedDigest,
        now: Timestamp,
    ) -> Result<HeldImage, ImageError> {
        let image = candidate.checksum.clone();
        match self.take(&image, now)? {
            Look::Usable(held) => {
                candidate.discard()?;
                self.offer(&image, published)?;
                return Ok(held);
            }
            Look::Suspect(_) => {
                self.quarantine(&image, "it was altered while it was being fetched", now)?;
            }
            Look::Absent => {}
        }
        let path = self.folder.image(&image);
        fs::rename(candidate.path(), &path).map_err(DiskError::on("write", &path))?;
        // Not before: a part that nobody may write to could not be taken up again.
        candidate.opened.seal().map_err(DiskError::on("protect", &path))?;
        atomic_file::sync_dir(self.folder.dir())?;
        let facts = Facts {
            stamp: candidate.opened.stamp,
            virtual_size: candidate.virtual_size,
            fetched_at: now,
            used_at: now,
            verified_at: now,
            origin: candidate.proven.shown.clone(),
            published: vec![published.clone()],
            noted_use: None,
        };
        self.note(&image, facts)?;
        sweep::remove(&candidate.proven.path)?;
        for former in [self.folder.quarantined(&image), self.folder.quarantine_note(&image)] {
            if let Found::Regular(_) = file::look(&former)? {
                sweep::remove(&former)?;
            }
        }
        let hold = self.hold(&image);
        let virtual_size = candidate.virtual_size;
        Ok(HeldImage { image: BaseImage { path, checksum: image, virtual_size }, hold })
    }

    /// Notes that an image is offered by that digest too.
    pub(super) fn offer(
        &mut self,
        image: &Checksum,
        published: &PublishedDigest,
    ) -> Result<(), ImageError> {
        match self.facts.get(image).cloned() {
            Some(mut facts) if !facts.published.contains(published) => {
                facts.published.push(published.clone());
                self.note(image, facts)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Why a packed file could not be unpacked.
#[derive(Debug)]
pub(in super::super) enum Unpacking {
    /// The unpacked file could not be written, or the packed one not read.
    Disk(io::Error),
    /// More comes out than may.
    TooLarge(Bytes),
    /// It is damaged; says how.
    Damaged(String),
}

impl Unpacking {
    fn on(self, proven: &ProvenFile, to: &Path) -> ImageError {
        let url = proven.shown.clone();
        match self {
            Self::Disk(error) => DiskError::on("write", to)(error).into(),
            Self::TooLarge(limit) => ImageError::TooLarge { url, limit },
            Self::Damaged(why) => ImageError::Damaged { url, why },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_unpacked_stops_growing_when_the_disk_runs_full() {
        let full = || {
            let (needed, free) = (Bytes(2), Bytes(1));
            Err(ImageError::NoSpace { dir: "/images".into(), needed, free })
        };
        let (to, hash) = (tempfile::tempfile().unwrap(), Sha256::new());
        let mut to = Hashing { to, hash, look: &full, until_look: 4, full: None };
        to.write_all(b"1234").unwrap();
        assert_eq!(to.write_all(b"5").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(matches!(to.full, Some(ImageError::NoSpace { .. })));
        assert_eq!(to.to.metadata().unwrap().len(), 4);
    }
}
