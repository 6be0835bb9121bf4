//! Which image a template's new VMs get. Invariant: what is in memory is what is on the disk: a pointer
//! that could not be written did not move.

use ghost_core::domain::{Checksum, PublishedDigest, TemplateName};
use jiff::Timestamp;

use super::super::ImageError;
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

    /// Lets the template's new VMs get `version`, which was asked for just now.
    pub(super) fn point(
        &mut self,
        template: &TemplateName,
        version: Version,
    ) -> Result<(), ImageError> {
        let mut pointer = self.pointers.get(template).cloned().unwrap_or_default();
        pointer.asked_at = Some(version.since);
        let same = |current: &Version| {
            current.checksum == version.checksum && current.published == version.published
        };
        if !pointer.current().is_some_and(same) {
            pointer.forgotten = false;
            pointer.versions.retain(|former| former.checksum != version.checksum);
            pointer.versions.push(version);
        }
        self.write_pointer(template, pointer)
    }

    /// Forgets what the template's new VMs get; its former versions stay known.
    pub(super) fn forget(&mut self, template: &TemplateName) -> Result<(), ImageError> {
        let pointer = self.pointers.get(template).filter(|pointer| !pointer.forgotten);
        let Some(mut pointer) = pointer.cloned() else { return Ok(()) };
        pointer.forgotten = true;
        self.write_pointer(template, pointer)
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
