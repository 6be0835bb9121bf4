//! What is cached, for people and for what collects it.

use std::collections::BTreeSet;

use ghost_core::domain::{Bytes, CachedImage, Checksum, Condition, TemplateName};

use super::super::ImageError;
use super::books::{Books, adopted};
use super::file::{self, Found, Opened};
use super::folder::names_image;
use super::notes::{self, Facts, Quarantined};
use super::sweep::entries;

/// 0 for a header that can't be read: on a disk that fails one must be able to see, and remove, what is there.
fn shown_size(opened: &mut Opened) -> Bytes {
    opened.virtual_size().ok().and_then(Result::ok).unwrap_or_default()
}

/// What [`Books::list`] found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// By digest.
    pub(super) images: Vec<CachedImage>,
    /// Those whose files were touched since they were proven.
    pub(super) suspects: Vec<Checksum>,
}

impl Books {
    /// Every image in the folder and in quarantine. Changes nothing.
    pub(super) fn list(&self) -> Result<Listing, ImageError> {
        let mut all = BTreeSet::new();
        for dir in [self.folder.dir(), &self.folder.quarantine()] {
            all.extend(entries(dir)?.iter().filter_map(|(_, name)| names_image(name)));
        }
        let mut listing = Listing::default();
        for image in all {
            if !self.list_cached(&image, &mut listing)? {
                self.list_quarantined(&image, &mut listing)?;
            }
        }
        Ok(listing)
    }

    /// False if there is no such file.
    fn list_cached(&self, image: &Checksum, listing: &mut Listing) -> Result<bool, ImageError> {
        let path = self.folder.image(image);
        let Found::Regular(mut opened) = file::look(&path)? else { return Ok(false) };
        let facts = match self.facts.get(image) {
            Some(facts) => {
                if !opened.is_untouched(&facts.stamp) {
                    listing.suspects.push(image.clone());
                }
                facts.clone()
            }
            None => adopted(opened.stamp, shown_size(&mut opened)),
        };
        listing.images.push(self.describe(image, opened.takes, &facts, Condition::Proven));
        Ok(true)
    }

    fn list_quarantined(&self, image: &Checksum, listing: &mut Listing) -> Result<(), ImageError> {
        let path = self.folder.quarantined(image);
        let Found::Regular(mut opened) = file::look(&path)? else { return Ok(()) };
        let note: Option<Quarantined> = notes::read(&self.folder.quarantine_note(image))?;
        let (why, facts) = match note {
            Some(note) => (note.why, note.facts),
            None => ("it is not known why it was put aside".to_owned(), None),
        };
        let facts = facts.unwrap_or_else(|| adopted(opened.stamp, Bytes::default()));
        let facts = Facts { virtual_size: shown_size(&mut opened), ..facts };
        let condition = Condition::Quarantined { why };
        listing.images.push(self.describe(image, opened.takes, &facts, condition));
        Ok(())
    }

    fn describe(
        &self,
        image: &Checksum,
        size: Bytes,
        facts: &Facts,
        condition: Condition,
    ) -> CachedImage {
        let (mut current_of, mut former_of): (Vec<TemplateName>, _) = (Vec::new(), Vec::new());
        let mut asked_at = None;
        for (name, pointer) in &self.pointers {
            let age = pointer.versions.iter().rev().position(|v| v.checksum == *image);
            match (age, pointer.current()) {
                (Some(0), Some(_)) => {
                    current_of.push(name.clone());
                    asked_at = [asked_at, pointer.asked_at].into_iter().flatten().min();
                }
                (Some(age), _) => former_of.push((name.clone(), age)),
                (None, _) => {}
            }
        }
        CachedImage {
            checksum: image.clone(),
            size,
            virtual_size: facts.virtual_size,
            current_of,
            former_of,
            fetched_at: facts.fetched_at,
            used_at: facts.used_at,
            asked_at,
            verified_at: facts.verified_at,
            condition,
        }
    }
}
