//! The cache's folder. Invariant: nothing gets an image's name before it is proven, nothing that has one
//! is written to, and one agent at a time has the folder.
//!
//! ```text
//! .lock                     held for the agent's life
//! <sha256>.qcow2            an image, 0444, named by the SHA-256 of what QEMU reads
//! <sha256>.json             what is known of it
//! templates/<name>.json     which images a template's VMs get and got
//! parts/                    downloads, taken up again for 7 days, and files being unpacked
//! quarantine/<sha256>.*     images that were altered, and why they are there
//! ```
//!
//! Killed at any moment, the agent leaves a part that is taken up again or an image that is whole: an
//! image without facts is hashed before its first use.

mod admit;
mod books;
mod file;
mod folder;
mod judge;
mod listing;
mod notes;
mod pointers;
mod sweep;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::{
    Bytes, CachedImage, Checksum, HeldImage, ImageUsers, PublishedDigest, TemplateName, Update,
    Verified,
};
use ghost_core::ports::Clock;
use jiff::Timestamp;
use tokio::sync::Mutex;

pub(super) use admit::{Candidate, Room, Unpacking};
use books::Books;
pub(super) use books::Look;
use folder::Folder;
use judge::Suspected;
use notes::Pointer;

use super::ImageError;
use super::error::OpenError;
use super::origin::{Offer, Unpack};
use super::proven::ProvenFile;
use crate::disk_error::DiskError;

/// The folder, and what is known of it. Clones are the same store.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: Folder,
    books: Arc<Mutex<Books>>,
    clock: Arc<dyn Clock>,
    _lock: Arc<File>,
}

impl Store {
    /// Takes the folder, which is made if there is none, and removes what broken work left. Waits up to
    /// `patience` for another agent to let go of it. Blocks.
    pub(super) fn open(
        dir: &Path,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Result<Self, OpenError> {
        let folder = Folder::ensure(dir)?;
        let lock = Arc::new(folder::lock(&folder, patience)?);
        sweep::remove_leftovers(&folder, clock.now())?;
        let books = Arc::new(Mutex::new(Books::read(folder.clone())?));
        Ok(Self { folder, books, clock, _lock: lock })
    }

    /// Removes downloads that nobody took up again for long. An agent may run for years.
    pub(super) async fn sweep_parts(&self) -> Result<(), ImageError> {
        let (folder, now) = (self.folder.clone(), self.clock.now());
        blocking(move || Ok(sweep::remove_old_parts(&folder, now)?)).await
    }

    /// Where files on their way lie.
    pub(super) fn parts(&self) -> PathBuf {
        self.folder.parts()
    }

    /// Does `work` with the books. It runs to its end even if the caller leaves.
    async fn with<T, F>(&self, work: F) -> Result<T, ImageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Books, Timestamp) -> Result<T, ImageError> + Send + 'static,
    {
        let mut books = Arc::clone(&self.books).lock_owned().await;
        let now = self.clock.now();
        blocking(move || work(&mut books, now)).await
    }

    /// The image that the template's new VMs get, held if it is usable. `pinned` is what the catalogue
    /// says now, where it is the catalogue that says so.
    pub(super) async fn take_current(
        &self,
        template: &TemplateName,
        pinned: Option<PublishedDigest>,
    ) -> Result<Look, ImageError> {
        let template = template.clone();
        self.with(move |books, now| books.take_current(&template, pinned.as_ref(), now)).await
    }

    /// An image, held if it is usable.
    pub(super) async fn take(&self, image: &Checksum) -> Result<Look, ImageError> {
        let image = image.clone();
        self.with(move |books, now| books.take(&image, now)).await
    }

    /// The image that a publisher offers by that digest, held if it is usable.
    pub(super) async fn take_offered(&self, digest: &PublishedDigest) -> Result<Look, ImageError> {
        let digest = digest.clone();
        self.with(move |books, now| match books.image_of(&digest) {
            Some(image) => books.take(&image, now),
            None => Ok(Look::Absent),
        })
        .await
    }

    /// Hashes an image and decides what becomes of it; one in quarantine comes back if it fits.
    ///
    /// # Errors
    /// [`ImageError::NotCached`].
    pub(super) async fn verify(&self, image: &Checksum) -> Result<Verified, ImageError> {
        let checksum = image.clone();
        match self.with(move |books, _now| books.suspect(&checksum)).await? {
            Some(suspected) => self.judged(image, suspected).await,
            None => Err(ImageError::NotCached { checksum: image.clone() }),
        }
    }

    async fn judged(
        &self,
        image: &Checksum,
        mut suspected: Suspected,
    ) -> Result<Verified, ImageError> {
        // Not with the books: it takes as long as the disk does.
        let hash = move || {
            let got = suspected.hash()?;
            Ok((suspected, got))
        };
        let (mut suspected, got) = blocking(hash).await?;
        let read = got.read();
        let checksum = image.clone();
        let judge = move |books: &mut Books, now| books.judge(&checksum, &mut suspected, got, now);
        let condition = self.with(judge).await?;
        Ok(Verified { checksum: image.clone(), read, condition })
    }

    /// Unpacks and inspects a proven file, before it gets its name.
    ///
    /// # Errors
    /// If it is not fit to be an image; then it is deleted.
    pub(super) async fn candidate(
        &self,
        proven: ProvenFile,
        room: Room,
        unpack: Box<Unpack<'static>>,
    ) -> Result<Candidate, ImageError> {
        blocking(move || admit::candidate(proven, room, &unpack)).await
    }

    /// Gives a candidate its name, unless a usable image has it.
    pub(super) async fn admit(
        &self,
        candidate: Candidate,
        published: &PublishedDigest,
    ) -> Result<HeldImage, ImageError> {
        let published = published.clone();
        self.with(move |books, now| books.admit(candidate, &published, now)).await
    }

    /// Lets the template's new VMs get an image, which somebody holds; `url` is where it came from.
    pub(super) async fn point(
        &self,
        template: &TemplateName,
        held: &HeldImage,
        offer: Offer,
        url: String,
    ) -> Result<(), ImageError> {
        let (template, image) = (template.clone(), held.image.checksum.clone());
        self.with(move |books, now| books.point(&template, &image, offer, url, now)).await
    }

    /// Fails if the offer is of an older list than the template's present image.
    ///
    /// # Errors
    /// [`ImageError::Replayed`].
    pub(super) async fn ensure_no_replay(
        &self,
        template: &TemplateName,
        offer: &Offer,
        url: String,
    ) -> Result<(), ImageError> {
        let (template, offer) = (template.clone(), offer.clone());
        self.with(move |books, _now| books.ensure_no_replay(&template, &offer, &url)).await
    }

    /// As [`Store::point`], for a template that has an image; says what changed.
    pub(super) async fn renew(
        &self,
        template: &TemplateName,
        held: &HeldImage,
        offer: Offer,
        url: String,
    ) -> Result<Update, ImageError> {
        let (template, to) = (template.clone(), held.image.checksum.clone());
        self.with(move |books, now| {
            // It may have been forgotten while the publisher was asked.
            let current = books.pointers.get(&template).and_then(Pointer::current);
            let Some(from) = current.map(|version| version.checksum.clone()) else {
                return Ok(Update::NotCached);
            };
            books.point(&template, &to, offer, url, now)?;
            Ok(if from == to { Update::Current(to) } else { Update::New { from, to } })
        })
        .await
    }

    /// Whether the template's new VMs get an image that was fetched once.
    pub(super) async fn knows(&self, template: &TemplateName) -> bool {
        let books = self.books.lock().await;
        books.pointers.get(template).is_some_and(|pointer| pointer.current().is_some())
    }

    /// Forgets what the template's new VMs get.
    pub(super) async fn forget(&self, template: &TemplateName) -> Result<(), ImageError> {
        let template = template.clone();
        self.with(move |books, _now| books.forget(&template)).await
    }

    /// Every image by digest, and those that should be hashed.
    pub(super) async fn list(&self) -> Result<(Vec<CachedImage>, Vec<Checksum>), ImageError> {
        let listing = self.with(|books, _now| books.list()).await?;
        Ok((listing.images, listing.suspects))
    }

    /// Removes an image that nobody uses, and gives what it took. The templates that were made to forget one
    /// that stays get it again.
    pub(super) async fn remove(
        &self,
        image: &Checksum,
        users: &ImageUsers,
    ) -> Result<Bytes, ImageError> {
        let mut books = Arc::clone(&self.books).lock_owned().await;
        let allowed = books.ensure_unused(image, users);
        let image = image.clone();
        blocking(move || match allowed {
            Ok(()) => books.remove(&image),
            Err(refused) => {
                books.remember(&image)?;
                Err(refused)
            }
        })
        .await
    }
}

/// Fails if the disk of `dir` has less than `needed` free.
pub(super) fn ensure_space(dir: &Path, needed: Bytes) -> Result<(), ImageError> {
    let space = rustix::fs::statvfs(dir)
        .map_err(|error| DiskError::on("look at the free space of", dir)(error.into()))?;
    let free = Bytes(space.f_bavail.saturating_mul(space.f_frsize));
    if needed > free {
        return Err(ImageError::NoSpace { dir: dir.to_owned(), needed, free });
    }
    Ok(())
}

async fn blocking<T, F>(work: F) -> Result<T, ImageError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ImageError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(ImageError::Interrupted)?
}
