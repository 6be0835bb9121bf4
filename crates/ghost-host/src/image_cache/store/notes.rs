//! What the cache writes down, as JSON. Invariant: a note that can't be read is moved aside and told,
//! never lost and never believed in part.

use std::fs;
use std::io;
use std::path::Path;

use ghost_core::domain::{Bytes, Checksum, PublishedDigest};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::ImageError;
use super::file::Stamp;
use crate::atomic_file;
use crate::disk_error::DiskError;

/// Version of the layout of all notes.
const SCHEMA: u32 = 1;
/// How old a written-down use may be; every create would write otherwise.
const USE_IS_NOTED_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// `<sha256>.json`: what is known of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    #[serde(flatten)]
    pub(super) stamp: Stamp,
    pub(super) virtual_size: Bytes,
    pub(super) fetched_at: Timestamp,
    pub(super) used_at: Timestamp,
    pub(super) verified_at: Timestamp,
    /// Where it came from, as it may be shown; empty if an older agent fetched it.
    pub(super) origin: String,
    /// The digests by which publishers offer it.
    pub(super) published: Vec<PublishedDigest>,
    /// The use that is written down.
    #[serde(skip)]
    pub(super) noted_use: Option<Timestamp>,
}

impl Facts {
    /// Notes a use; true if it should be written down.
    pub(super) fn used(&mut self, now: Timestamp) -> bool {
        let noted = self.noted_use.get_or_insert(self.used_at);
        // The clock may have jumped either way.
        let due = now.duration_since(*noted).abs() >= USE_IS_NOTED_AFTER;
        if due {
            *noted = now;
        }
        self.used_at = now;
        due
    }
}

/// `templates/<name>.json`: which images a template's VMs get and got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pointer {
    /// The next VM asks the publisher again.
    pub(super) forgotten: bool,
    /// When the publisher, or the catalogue, was last asked for another.
    #[serde(default)]
    pub(super) asked_at: Option<Timestamp>,
    /// Oldest first; the last one is what new VMs get.
    pub(super) versions: Vec<Version>,
}

/// One of a template's images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) checksum: Checksum,
    /// By what digest the publisher, or the catalogue, meant it.
    pub(super) published: PublishedDigest,
    /// Where it came from, as it may be shown.
    pub(super) url: String,
    pub(super) since: Timestamp,
    /// When the newest list that named it was signed, by its publisher's clock; not known of a list
    /// without a signature, nor from an older agent.
    #[serde(default)]
    pub(super) signed_at: Option<Timestamp>,
}

impl Pointer {
    /// What new VMs get.
    pub(super) fn current(&self) -> Option<&Version> {
        self.versions.last().filter(|_| !self.forgotten)
    }

    /// Whether that image is one of those before the newest.
    pub(super) fn is_former(&self, image: &Checksum) -> bool {
        let former = self.versions.split_last().map(|(_newest, former)| former);
        former.is_some_and(|former| former.iter().any(|version| version.checksum == *image))
    }
}

/// `quarantine/<sha256>.json`: why an image was put aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Quarantined {
    pub(super) why: String,
    pub(super) since: Timestamp,
    /// What was known of it.
    pub(super) facts: Option<Facts>,
}

#[derive(Serialize, Deserialize)]
struct Note<T> {
    schema: u32,
    #[serde(flatten)]
    content: T,
}

/// Replaces a note, durably.
pub(super) fn write<T: Serialize>(path: &Path, content: &T) -> Result<(), ImageError> {
    let note = Note { schema: SCHEMA, content };
    let mut json = serde_json::to_vec_pretty(&note).map_err(ImageError::Encode)?;
    json.push(b'\n');
    Ok(atomic_file::write(path, &json)?)
}

/// The note at `path`, if there is one; one that can't be understood is moved aside.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DiskError> {
    let json = match fs::symlink_metadata(path) {
        // A pipe is never opened: it would wait for its writer.
        Ok(found) if found.is_file() => fs::read(path).map_err(DiskError::on("read", path))?,
        Ok(_) => return damaged(path, "it is not a regular file"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::on("look at", path)(error)),
    };
    match serde_json::from_slice::<Note<T>>(&json) {
        Ok(Note { schema: SCHEMA, content }) => Ok(Some(content)),
        Ok(Note { schema, .. }) => damaged(path, &format!("its schema is {schema}, not {SCHEMA}")),
        Err(error) => damaged(path, &error.to_string()),
    }
}

fn damaged<T>(path: &Path, why: &str) -> Result<Option<T>, DiskError> {
    let aside = atomic_file::set_aside(path)?;
    tracing::warn!(
        file = %path.display(), %why, kept_as = %aside.display(),
        "a note of the image cache can't be used and is treated as absent"
    );
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_no_former_one_even_if_it_was_forgotten() {
        let image = |n: u8| format!("{n:064x}").parse::<Checksum>().unwrap();
        let version = |n| Version {
            checksum: image(n),
            published: (&image(n)).into(),
            url: String::new(),
            since: Timestamp::UNIX_EPOCH,
            signed_at: None,
        };
        for forgotten in [false, true] {
            let versions = vec![version(1), version(2), version(3)];
            let pointer = Pointer { forgotten, asked_at: None, versions };
            let former: Vec<bool> = (1..=4).map(|n| pointer.is_former(&image(n))).collect();
            assert_eq!(former, [true, true, false, false]);
        }
        assert!(!Pointer::default().is_former(&image(1)));
    }
}
