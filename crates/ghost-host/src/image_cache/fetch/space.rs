//! Invariant: a download never takes the last of the disk, unless others fill it meanwhile.

use std::path::Path;

use ghost_core::domain::Bytes;

use super::ImageError;
use crate::disk_error::DiskError;

/// How often it is looked at while writing.
const EVERY: u64 = 64 << 20;

/// The free space of a disk, watched while a file grows.
#[derive(Debug)]
pub(super) struct Space {
    keep: Bytes,
    remaining: u64,
    until_next_look: u64,
}

impl Space {
    /// For `remaining` bytes, as far as that is known; leaving `keep`.
    pub(super) fn new(remaining: Option<Bytes>, keep: Bytes) -> Self {
        Self { keep, remaining: remaining.map_or(0, |bytes| bytes.0), until_next_look: 0 }
    }

    /// Before `bytes` more are written into `dir`. Blocks, briefly.
    pub(super) fn ensure(&mut self, dir: &Path, bytes: usize) -> Result<(), ImageError> {
        let bytes = bytes as u64;
        if self.until_next_look == 0 {
            let (needed, free) = (Bytes(self.remaining.saturating_add(self.keep.0)), free(dir)?);
            if needed > free {
                return Err(ImageError::NoSpace { dir: dir.to_owned(), needed, free });
            }
            self.until_next_look = EVERY;
        }
        self.until_next_look = self.until_next_look.saturating_sub(bytes);
        self.remaining = self.remaining.saturating_sub(bytes);
        Ok(())
    }
}

fn free(dir: &Path) -> Result<Bytes, DiskError> {
    let space = rustix::fs::statvfs(dir)
        .map_err(|error| DiskError::on("look at the free space of", dir)(error.into()))?;
    Ok(Bytes(space.f_bavail.saturating_mul(space.f_frsize)))
}
