//! Which image a template's new VMs get. Invariant: what is in memory is what is on the disk: a pointer
//! that could not be written did not move.

use ghost_core::domain::{AppError, Checksum, PublishedDigest, TemplateName, cause};
use jiff::Timestamp;

use super::super::ImageError;
use super::super::origin::{Offer, Word};
use super::books::{Books, Look};
use super::notes::{self, Pointer, Version};
use super::sweep;

impl Books {
    /// The image that the template's new VMs get, looked at; absent too if the catalogue means another
    /// one by now.
    pub(super) fn take_current(
        &mut self,
        template: &TemplateName,
        pinned: Option<&PublishedDigest>,
        now: Timestamp,
    ) -> Result<Look, ImageError> {
        let current = self.pointers.get(template).and_then(Pointer::current);
        let meant = current.filter(|version| pinned.is_none_or(|p| *p == version.published));
        match meant.map(|version| version.checksum.clone()) {
            Some(image) => self.take(&image, now),
            None => Ok(Look::Absent),
        }
    }

    /// Fails if the offer is of an older list than the present image: whoever stands between us and the
    /// publisher may give again whatever the publisher once signed. Only the publisher's own two times are
    /// compared, so that no wrong clock here matters. `url` is where the image would come from.
    pub(super) fn ensure_no_replay(
        &self,
        template: &TemplateName,
        offer: &Offer,
        url: &str,
    ) -> Result<(), ImageError> {
        let Some(current) = self.pointers.get(template).and_then(Pointer::current) else {
            return Ok(());
        };
        let is_same = current.published == offer.digest
            || self.image_of(&offer.digest).is_some_and(|image| image == current.checksum);
        match (offer.word.signed_at(), current.signed_at) {
            (Some(signed), Some(present)) if signed < present && !is_same => {
                Err(ImageError::Replayed { url: url.to_owned(), signed, present })
            }
            (_, _) => Ok(()),
        }
    }

    /// Lets the template's new VMs get `image`, which was offered and asked for just now; `url` is where it
    /// came from.
    pub(super) fn point(
        &mut self,
        template: &TemplateName,
        image: &Checksum,
        offer: Offer,
        url: String,
        now: Timestamp,
    ) -> Result<(), ImageError> {
        // Another task may have pointed it to a newer one meanwhile.
        self.ensure_no_replay(template, &offer, &url)?;
        let mut pointer = self.pointers.get(template).cloned().unwrap_or_default();
        pointer.asked_at = Some(now);
        let same = pointer.current().filter(|current| current.checksum == *image);
        let since = same.filter(|v| v.published == offer.digest).map_or(now, |v| v.since);
        // An older list that names the same image does not open the door to those in between.
        let signed_at = same.and_then(|v| v.signed_at).max(offer.word.signed_at());
        if same.is_none() && offer.word == Word::Unsigned && pointer.is_former(image) {
            tracing::warn!(%template, %image, %url, "the publisher's list, which is not signed, names a former image again: he may have taken the newer one back, or the list is an old one; compare it with the publisher's own");
        }
        pointer.forgotten = false;
        pointer.versions.retain(|former| former.checksum != *image);
        let (checksum, published) = (image.clone(), offer.digest);
        pointer.versions.push(Version { checksum, published, url, since, signed_at });
        self.write_pointer(template, pointer)
    }

    /// Forgets what the template's new VMs get; its former versions stay known.
    pub(super) fn forget(&mut self, template: &TemplateName) -> Result<(), ImageError> {
        let pointer = self.pointers.get(template).filter(|pointer| !pointer.forgotten);
        let Some(mut pointer) = pointer.cloned() else { return Ok(()) };
        pointer.forgotten = true;
        match self.write_pointer(template, pointer) {
            // Images are removed because the disk is full, too. Then the former versions are forgotten as well.
            Err(ImageError::Disk(full)) if full.takes_no_more() => {
                let full = AppError::from(full);
                tracing::warn!(%template, error = cause(&full), "its images are forgotten for want of room");
                sweep::remove(&self.folder.pointer(template))?;
                self.pointers.remove(template);
                Ok(())
            }
            written => written,
        }
    }

    /// Lets those templates get an image again that were made to forget it.
    pub(super) fn remember(&mut self, image: &Checksum) -> Result<(), ImageError> {
        let forgot = |pointer: &Pointer| {
            pointer.forgotten && pointer.versions.last().is_some_and(|v| v.checksum == *image)
        };
        let all = self.pointers.iter().filter(|(_, pointer)| forgot(pointer));
        let all: Vec<_> = all.map(|(name, pointer)| (name.clone(), pointer.clone())).collect();
        for (template, pointer) in all {
            self.write_pointer(&template, Pointer { forgotten: false, ..pointer })?;
        }
        Ok(())
    }

    /// Takes an image that is gone from all templates' versions.
    pub(super) fn drop_version(&mut self, image: &Checksum) -> Result<(), ImageError> {
        let had = |pointer: &Pointer| pointer.versions.iter().any(|v| v.checksum == *image);
        let changed: Vec<(TemplateName, Pointer)> = self
            .pointers
            .iter()
            .filter(|(_, pointer)| had(pointer))
            .map(|(template, pointer)| (template.clone(), pointer.clone()))
            .collect();
        for (template, mut pointer) in changed {
            pointer.versions.retain(|version| version.checksum != *image);
            self.write_pointer(&template, pointer)?;
        }
        Ok(())
    }

    fn write_pointer(
        &mut self,
        template: &TemplateName,
        pointer: Pointer,
    ) -> Result<(), ImageError> {
        let path = self.folder.pointer(template);
        if pointer.versions.is_empty() {
            sweep::remove(&path)?;
            self.pointers.remove(template);
        } else {
            notes::write(&path, &pointer)?;
            self.pointers.insert(template.clone(), pointer);
        }
        Ok(())
    }
}
