//! Which image a template's VMs get, and how it comes in. Invariant: a template's image is settled by one
//! task at a time, a file is fetched by one, an image is hashed by one, however many wait.

use std::path::PathBuf;
use std::sync::Arc;

use ghost_core::domain::{
    CachedImage, Checksum, FetchStage, Fetching, HeldImage, Proof, PublishedDigest, Template,
    TemplateName, Update, Verified,
};
use ghost_core::ports::Clock;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::ImageError;
use super::downloads::{Came, Downloads};
use super::fetch::Told;
use super::flights::{Flights, Outcome};
use super::origin::{Offer, Origin, Word};
use super::progress::{Board, Subject};
use super::store::{Look, Room, Store};

/// What a template's image is settled by: its name, and the catalogue's digest if that names one.
type Case = (TemplateName, Option<PublishedDigest>);

/// The work under way.
#[derive(Debug)]
pub(super) struct Desk {
    store: Store,
    origin: Arc<dyn Origin>,
    room: Room,
    board: Arc<Board>,
    cases: Flights<Case, HeldImage>,
    updates: Flights<Case, Update>,
    files: Flights<PublishedDigest, HeldImage>,
    hashes: Flights<Checksum, Verified>,
    downloads: Arc<Downloads>,
}

impl Desk {
    pub(super) fn new(
        store: Store,
        origin: Arc<dyn Origin>,
        room: Room,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (tasks, board) = (TaskTracker::new(), Arc::new(Board::new(clock)));
        let (cases, updates) = (Flights::new(&tasks), Flights::new(&tasks));
        let (files, hashes) = (Flights::new(&tasks), Flights::new(&tasks));
        let downloads = Arc::default();
        Self { store, origin, room, board, cases, updates, files, hashes, downloads }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn fetching(&self) -> watch::Receiver<Vec<Fetching>> {
        self.board.subscribe()
    }

    pub(super) fn downloads(&self) -> Arc<Downloads> {
        Arc::clone(&self.downloads)
    }

    /// The image that the template's new VMs get; a cached one without a task, a hash or the network.
    pub(super) async fn ensure_cached(self: &Arc<Self>, template: &Template) -> Outcome<HeldImage> {
        let case = case(template);
        if let Look::Usable(held) = self.store.take_current(&case.0, case.1.clone()).await? {
            return Ok(held);
        }
        let task = || settle(Arc::clone(self), template.clone());
        self.cases.join(&case, task).await
    }

    /// Asks for another version of a template that has one.
    pub(super) async fn update(self: &Arc<Self>, template: &Template) -> Outcome<Update> {
        let task = || update(Arc::clone(self), template.clone());
        self.updates.join(&case(template), task).await
    }

    /// Every image; those that were touched are hashed by and by.
    pub(super) async fn list(self: &Arc<Self>) -> Outcome<Vec<CachedImage>> {
        let (images, suspects) = self.store.list().await?;
        for suspect in suspects {
            drop(self.hash(&suspect));
        }
        Ok(images)
    }

    /// Hashes an image and quarantines it if it differs.
    pub(super) async fn verify(self: &Arc<Self>, image: &Checksum) -> Outcome<Verified> {
        self.hash(image).await
    }

    fn hash(self: &Arc<Self>, image: &Checksum) -> super::flights::Flight<Verified> {
        let (store, checksum) = (self.store.clone(), image.clone());
        self.hashes.join(image, || async move { Ok(store.verify(&checksum).await?) })
    }

    /// Settles a suspicion: the image is usable afterwards, or nothing is.
    async fn cleared(self: &Arc<Self>, look: Look) -> Outcome<Option<HeldImage>> {
        let image = match look {
            Look::Usable(held) => return Ok(Some(held)),
            Look::Absent => return Ok(None),
            Look::Suspect(image) => image,
        };
        match self.hash(&image).await {
            Err(error) if !matches!(*error, ImageError::NotCached { .. }) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        match self.store.take(&image).await? {
            Look::Usable(held) => Ok(Some(held)),
            Look::Absent | Look::Suspect(_) => Ok(None),
        }
    }

    /// By what digest the template's image is offered now; never an older offer than the present one.
    async fn offer(&self, template: &Template) -> Outcome<Offer> {
        match &template.proof {
            Proof::Pinned(digest) => {
                return Ok(Offer { digest: digest.clone(), word: Word::Catalog });
            }
            Proof::Listed(_) => {}
        }
        let (subject, url) = (Subject::Word(template.name.clone()), self.origin.shown(template));
        let _seat = self.board.join(subject, &template.name, url.clone());
        let offer = self.origin.offer(template).await;
        let offer = offer.inspect_err(|_| self.downloads.failed_before_a_file())?;
        // Before anything is fetched for it.
        self.store.ensure_no_replay(&template.name, &offer, url).await?;
        Ok(offer)
    }

    async fn cached_or_fetched(
        self: &Arc<Self>,
        template: &Template,
        digest: &PublishedDigest,
    ) -> Outcome<HeldImage> {
        let look = self.store.take_offered(digest).await?;
        if let Some(held) = self.cleared(look).await? {
            return Ok(held);
        }
        let (subject, url) = (Subject::File(digest.clone()), self.origin.shown(template));
        let _seat = self.board.join(subject, &template.name, url);
        let task = || fetch(Arc::clone(self), template.clone(), digest.clone());
        self.files.join(digest, task).await
    }
}

fn case(template: &Template) -> Case {
    let pinned = match &template.proof {
        Proof::Pinned(digest) => Some(digest.clone()),
        Proof::Listed(_) => None,
    };
    (template.name.clone(), pinned)
}

async fn settle(desk: Arc<Desk>, template: Template) -> Outcome<HeldImage> {
    let (name, pinned) = case(&template);
    let look = desk.store.take_current(&name, pinned).await?;
    if let Some(held) = desk.cleared(look).await? {
        return Ok(held);
    }
    let offer = desk.offer(&template).await?;
    let held = desk.cached_or_fetched(&template, &offer.digest).await?;
    desk.store.point(&name, &held, offer, desk.origin.shown(&template)).await?;
    Ok(held)
}

async fn update(desk: Arc<Desk>, template: Template) -> Outcome<Update> {
    if !desk.store.knows(&template.name).await {
        return Ok(Update::NotCached);
    }
    let offer = desk.offer(&template).await?;
    let held = desk.cached_or_fetched(&template, &offer.digest).await?;
    let url = desk.origin.shown(&template);
    Ok(desk.store.renew(&template.name, &held, offer, url).await?)
}

async fn fetch(desk: Arc<Desk>, template: Template, digest: PublishedDigest) -> Outcome<HeldImage> {
    // A task that has just ended may have brought it.
    if let Look::Usable(held) = desk.store.take_offered(&digest).await? {
        return Ok(held);
    }
    tracing::info!(template = %template.name, url = %desk.origin.shown(&template), "fetching a base image");
    let downloads = desk.downloads();
    let fetched = fetch_anew(desk, template, digest).await;
    downloads.ended(&fetched);
    fetched
}

async fn fetch_anew(
    desk: Arc<Desk>,
    template: Template,
    digest: PublishedDigest,
) -> Outcome<HeldImage> {
    desk.store.sweep_parts().await?;
    let subject = Subject::File(digest.clone());
    let came = Came::default();
    let told = |told| match told {
        Told::Downloading { done, total } => {
            came.reached(done, &desk.downloads);
            desk.board.tell(&subject, FetchStage::Downloading, done, total);
        }
        Told::Waiting { failed } => {
            came.interrupted();
            tracing::info!(template = %template.name, %failed, "another try begins soon");
            desk.board.tell_waiting(&subject);
        }
    };
    let parts: PathBuf = desk.store.parts();
    let proven = desk.origin.file(&template, &digest, &parts, &told).await?;
    let (origin, board, size) = (Arc::clone(&desk.origin), Arc::clone(&desk.board), proven.size);
    let unpack =
        move |compression, from: &mut dyn std::io::Read, to: &mut dyn std::io::Write, limit| {
            let mut told = |read| board.tell(&subject, FetchStage::Unpacking, read, Some(size));
            origin.unpack(compression, from, to, limit, &mut told)
        };
    let candidate = desk.store.candidate(proven, desk.room, Box::new(unpack)).await?;
    let look = desk.store.take(&candidate.checksum).await?;
    // A touched image of the same content is rather kept than replaced under those who use it.
    drop(desk.cleared(look).await?);
    Ok(desk.store.admit(candidate, &digest).await?)
}
