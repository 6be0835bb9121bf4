//! What becomes of an image after its hash. Invariant: only what fits its digest and is fit to back a disk
//! has an image's name afterwards; a disk that cannot read it proves as little as a wrong digest.

use std::fs;
use std::io;
use std::path::PathBuf;

use ghost_core::domain::{Bytes, Checksum, Condition, Hold};
use jiff::Timestamp;
use rustix::io::Errno;

use super::super::ImageError;
use super::books::{Books, Look, adopted};
use super::file::{self, Found, Opened};
use super::notes::{self, Facts, Quarantined};
use super::sweep;
use crate::atomic_file;
use crate::disk_error::DiskError;

/// An image that is to be hashed, kept from being removed meanwhile.
#[derive(Debug)]
pub(super) struct Suspected {
    opened: Opened,
    path: PathBuf,
    place: Place,
    _hold: Hold,
}

/// Where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Under its name, where new disks get it.
    Cache,
    /// Put aside before.
    Quarantine,
}

/// What its hash came to.
#[derive(Debug)]
pub(super) enum Hashed {
    /// The whole of it was read.
    Whole(Checksum, Bytes),
    /// The disk did not give it.
    Unreadable(io::Error),
}

impl Hashed {
    /// How much was read, as far as that means anything.
    pub(super) const fn read(&self) -> Bytes {
        match self {
            Self::Whole(_, read) => *read,
            Self::Unreadable(_) => Bytes(0),
        }
    }
}

impl Suspected {
    /// Reads the whole of it. Blocks, for as long as that takes.
    ///
    /// # Errors
    /// If it could not be read for a reason that is not the disk's.
    pub(super) fn hash(&mut self) -> Result<Hashed, DiskError> {
        match self.opened.sha256() {
            Ok((got, read)) => Ok(Hashed::Whole(got, read)),
            Err(error) if is_of_the_disk(&error) => Ok(Hashed::Unreadable(error)),
            Err(error) => Err(DiskError::on("read", &self.path)(error)),
        }
    }

    /// Why it is no image, or the size of the disk that it holds.
    fn verdict(
        &mut self,
        image: &Checksum,
        hashed: Hashed,
    ) -> Result<Result<Bytes, String>, DiskError> {
        let got = match hashed {
            Hashed::Whole(got, _) => got,
            Hashed::Unreadable(error) => return Ok(Err(unreadable(&error))),
        };
        if got != *image {
            return Ok(Err(format!("it was altered: its SHA-256 is now {}", got.hex())));
        }
        match self.opened.virtual_size() {
            Ok(size) => Ok(size.map_err(|why| format!("it {why}"))),
            Err(error) if is_of_the_disk(&error) => Ok(Err(unreadable(&error))),
            Err(error) => Err(DiskError::on("read", &self.path)(error)),
        }
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("it cannot be read: {error}")
}

/// Whether the disk, or the file system's own checksums, say that the data is lost (`EIO`; `EBADMSG` and
/// `EUCLEAN` from XFS and ext4; `ENODATA`, `EREMOTEIO` and `EILSEQ` from the block layer): another try
/// soon brings nothing. Want of memory, say, is another matter.
fn is_of_the_disk(error: &io::Error) -> bool {
    let lost =
        [Errno::IO, Errno::BADMSG, Errno::UCLEAN, Errno::NODATA, Errno::REMOTEIO, Errno::ILSEQ];
    Errno::from_io_error(error).is_some_and(|errno| lost.contains(&errno))
}

impl Books {
    /// Opens an image for its hash, else the one in quarantine; nobody may write to it from now on.
    pub(super) fn suspect(&mut self, image: &Checksum) -> Result<Option<Suspected>, ImageError> {
        let aside = self.folder.quarantined(image);
        let (mut opened, place, path) = match (self.open(image)?, file::look(&aside)?) {
            (Some(opened), _) => (opened, Place::Cache, self.folder.image(image)),
            (None, Found::Regular(opened)) => (opened, Place::Quarantine, aside),
            (None, Found::Nothing | Found::Foreign(_)) => return Ok(None),
        };
        opened.protect().map_err(DiskError::on("protect", &path))?;
        Ok(Some(Suspected { opened, path, place, _hold: self.hold(image) }))
    }

    /// Decides by the hash of an image what becomes of it.
    pub(super) fn judge(
        &mut self,
        image: &Checksum,
        suspected: &mut Suspected,
        hashed: Hashed,
        now: Timestamp,
    ) -> Result<Condition, ImageError> {
        match (suspected.place, suspected.verdict(image, hashed)?) {
            (Place::Cache, Ok(virtual_size)) => {
                let known = self.facts.get(image).cloned();
                self.prove(image, &suspected.opened, virtual_size, known, now)
            }
            (Place::Cache, Err(why)) => {
                self.quarantine(image, &why, now)?;
                Ok(Condition::Quarantined { why })
            }
            (Place::Quarantine, Ok(virtual_size)) => {
                self.bring_back(image, &suspected.opened, virtual_size, now)
            }
            // What was first found says more about its cause.
            (Place::Quarantine, Err(found)) => {
                let why = self.quarantine_note(image)?.map_or(found, |note| note.why);
                Ok(Condition::Quarantined { why })
            }
        }
    }

    fn prove(
        &mut self,
        image: &Checksum,
        opened: &Opened,
        virtual_size: Bytes,
        known: Option<Facts>,
        now: Timestamp,
    ) -> Result<Condition, ImageError> {
        let stamp = opened.stamp;
        let known = known.unwrap_or_else(|| adopted(stamp, virtual_size));
        self.note(image, Facts { stamp, virtual_size, verified_at: now, ..known })?;
        Ok(Condition::Proven)
    }

    /// Gives an image from quarantine its name again. A proven one that came meanwhile stays, and this one
    /// goes; one that only its hash can tell stays as well, and is hashed the next time.
    fn bring_back(
        &mut self,
        image: &Checksum,
        opened: &Opened,
        virtual_size: Bytes,
        now: Timestamp,
    ) -> Result<Condition, ImageError> {
        let note = self.quarantine_note(image)?;
        let aside = self.folder.quarantined(image);
        match self.take(image, now)? {
            Look::Absent => {}
            Look::Usable(_held) => {
                sweep::remove(&aside)?;
                sweep::remove(&self.folder.quarantine_note(image))?;
                return Ok(Condition::Proven);
            }
            Look::Suspect(_) => {
                let why = note.map_or_else(|| "another file has its name".to_owned(), |n| n.why);
                return Ok(Condition::Quarantined { why });
            }
        }
        tracing::warn!(%image, "an image in quarantine fits its digest after all and is used again");
        fs::rename(&aside, self.folder.image(image))
            .map_err(DiskError::on("bring back", &aside))?;
        atomic_file::sync_dir(self.folder.dir())?;
        let proven = self.prove(image, opened, virtual_size, note.and_then(|n| n.facts), now)?;
        sweep::remove(&self.folder.quarantine_note(image))?;
        atomic_file::sync_dir(&self.folder.quarantine())?;
        Ok(proven)
    }

    fn quarantine_note(&self, image: &Checksum) -> Result<Option<Quarantined>, ImageError> {
        Ok(notes::read(&self.folder.quarantine_note(image))?)
    }
}

#[cfg(test)]
mod tests;
