//! What is known of the folder. Invariant: whoever has the books alone decides: a hold is given in the
//! same breath in which the image is seen to be there, and nothing is removed or renamed without them.
//!
//! ```text
//!            ┌── untouched ──▶ usable
//! look ──────┼── touched ────▶ suspect ──hash──┬─ equal ──▶ usable, facts made anew ◀─ equal ─┐
//!            │                                 └─ other ──▶ quarantine/, absent ──── verify ─┘
//!            └── no file ────▶ absent (a folder, a link, a pipe is moved aside)
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::Arc;

use ghost_core::domain::{
    BaseImage, Bytes, Checksum, HeldImage, Hold, PublishedDigest, TemplateName, cause,
};
use jiff::Timestamp;

use super::super::ImageError;
use super::super::error::of_image;
use super::file::{self, Found, Opened};
use super::folder::Folder;
use super::notes::{self, Facts, Pointer, Quarantined};
use super::sweep;
use crate::atomic_file;
use crate::disk_error::DiskError;

/// The folder, and what was written down in it.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) folder: Folder,
    pub(super) facts: BTreeMap<Checksum, Facts>,
    pub(super) pointers: BTreeMap<TemplateName, Pointer>,
    /// A token that somebody else has too is a hold.
    tokens: HashMap<Checksum, Arc<()>>,
}

/// How an image looks.
#[derive(Debug)]
pub(in super::super) enum Look {
    /// There is none.
    Absent,
    /// It is what it was when it was proven.
    Usable(HeldImage),
    /// Only its digest can tell.
    Suspect(Checksum),
}

impl Books {
    /// Reads what was written down.
    pub(super) fn read(folder: Folder) -> Result<Self, DiskError> {
        let facts = sweep::facts(&folder)?;
        let pointers = sweep::pointers(&folder)?;
        Ok(Self { folder, facts, pointers, tokens: HashMap::new() })
    }

    /// Looks at an image that is about to be used; reads no more of it than its header.
    pub(super) fn take(&mut self, image: &Checksum, now: Timestamp) -> Result<Look, ImageError> {
        let Some(mut opened) = self.open(image)? else { return Ok(Look::Absent) };
        let path = self.folder.image(image);
        let Some(facts) = self.facts.get_mut(image).filter(|f| opened.is_untouched(&f.stamp))
        else {
            return Ok(Look::Suspect(image.clone()));
        };
        // A header that the disk does not give is the hash's to judge.
        let Ok(Ok(virtual_size)) = opened.virtual_size() else {
            return Ok(Look::Suspect(image.clone()));
        };
        if facts.used(now)
            && let Err(error) = notes::write(&self.folder.facts(image), facts)
        {
            let error = of_image(Arc::new(error));
            tracing::warn!(%image, error = cause(&error), "cannot note that an image is used");
        }
        let image = BaseImage { path, checksum: image.clone(), virtual_size };
        Ok(Look::Usable(HeldImage { hold: self.hold(&image.checksum), image }))
    }

    /// Opens an image; what can't be one is moved out of its way.
    pub(super) fn open(&self, image: &Checksum) -> Result<Option<Opened>, ImageError> {
        let path = self.folder.image(image);
        match file::look(&path)? {
            Found::Regular(opened) => Ok(Some(opened)),
            Found::Nothing => Ok(None),
            Found::Foreign(what) => {
                let aside = atomic_file::set_aside(&path)?;
                tracing::error!(%image, kept_as = %aside.display(), "{what} stood where an image should be");
                Ok(None)
            }
        }
    }

    /// Moves an image aside, so that no new disk gets it.
    pub(super) fn quarantine(
        &mut self,
        image: &Checksum,
        why: &str,
        now: Timestamp,
    ) -> Result<(), ImageError> {
        tracing::error!(%image, %why, "a cached image is quarantined");
        let (from, to) = (self.folder.image(image), self.folder.quarantined(image));
        if let Found::Foreign(_) = file::look(&to)? {
            atomic_file::set_aside(&to)?;
        }
        let note = Quarantined { why: why.to_owned(), since: now, facts: self.facts.remove(image) };
        notes::write(&self.folder.quarantine_note(image), &note)?;
        fs::rename(&from, &to).map_err(DiskError::on("quarantine", &from))?;
        sweep::remove(&self.folder.facts(image))?;
        atomic_file::sync_dir(&self.folder.quarantine())?;
        Ok(atomic_file::sync_dir(self.folder.dir())?)
    }

    /// Writes down what is known of an image.
    pub(super) fn note(&mut self, image: &Checksum, facts: Facts) -> Result<(), ImageError> {
        notes::write(&self.folder.facts(image), &facts)?;
        self.facts.insert(image.clone(), facts);
        Ok(())
    }

    /// The image that a publisher offers by that digest, if it was ever cached.
    pub(super) fn image_of(&self, digest: &PublishedDigest) -> Option<Checksum> {
        let by_name = || {
            let checksum: Checksum = digest.hex().parse().ok()?;
            fs::symlink_metadata(self.folder.image(&checksum)).is_ok().then_some(checksum)
        };
        let by_facts = || {
            let offered = |facts: &Facts| facts.published.contains(digest);
            self.facts.iter().find(|(_, facts)| offered(facts)).map(|(image, _)| image.clone())
        };
        let by_pointer = || {
            let mut versions = self.pointers.values().flat_map(|pointer| &pointer.versions);
            versions.find(|version| version.published == *digest).map(|v| v.checksum.clone())
        };
        by_name().or_else(by_facts).or_else(by_pointer)
    }

    /// One more hold on an image.
    pub(super) fn hold(&mut self, image: &Checksum) -> Hold {
        Hold::on(self.tokens.entry(image.clone()).or_default())
    }

    /// Fails if an image may not be removed.
    pub(super) fn ensure_unused(
        &mut self,
        image: &Checksum,
        users: &ghost_core::domain::ImageUsers,
    ) -> Result<(), ImageError> {
        let of = |(name, pointer): (&TemplateName, &Pointer)| {
            let current = pointer.current().is_some_and(|version| version.checksum == *image);
            current.then(|| name.clone())
        };
        let templates: Vec<TemplateName> = self.pointers.iter().filter_map(of).collect();
        if !templates.is_empty() {
            return Err(ImageError::Current { checksum: image.clone(), templates });
        }
        if self.tokens.get(image).is_some_and(|token| Arc::strong_count(token) > 1) {
            return Err(ImageError::Held { checksum: image.clone() });
        }
        if users(image) {
            return Err(ImageError::InUse { checksum: image.clone() });
        }
        Ok(())
    }

    /// Removes an image that nobody uses, and gives what it took.
    pub(super) fn remove(&mut self, image: &Checksum) -> Result<Bytes, ImageError> {
        let mut taken = 0;
        for path in [self.folder.image(image), self.folder.quarantined(image)] {
            if let Found::Regular(opened) = file::look(&path)? {
                sweep::remove(&path)?;
                taken += opened.takes.0;
            }
        }
        sweep::remove(&self.folder.facts(image))?;
        sweep::remove(&self.folder.quarantine_note(image))?;
        self.facts.remove(image);
        self.tokens.remove(image);
        self.drop_version(image)?;
        atomic_file::sync_dir(self.folder.dir())?;
        Ok(Bytes(taken))
    }
}

/// The facts of an image of which none are written down: it was proven when it was written.
pub(super) fn adopted(stamp: file::Stamp, virtual_size: Bytes) -> Facts {
    let written = stamp.written_at();
    Facts {
        stamp,
        virtual_size,
        fetched_at: written,
        used_at: written,
        verified_at: written,
        origin: String::new(),
        published: Vec::new(),
        noted_use: None,
    }
}
