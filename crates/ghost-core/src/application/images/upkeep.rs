//! What is done for the images without anybody asking: new versions are looked for, files are compared with
//! their digests, and what nothing refers to any more goes.
//!
//! Invariant: what is due follows from what the cache recorded, not from how long this process has run, so that
//! a PC that is switched off every night is kept up as well.

use std::time::Duration;

use futures_util::future::{Either, select};
use jiff::{SignedDuration, Timestamp};

use super::ImageLibrary;
use crate::domain::{AppError, CachedImage, Update};

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// Leaves the host's start to the host's owner.
const FIRST_LOOK: Duration = Duration::from_secs(10 * 60);

/// How often (`images.update_interval`, `images.verify_interval`); `None` for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpkeepPlan {
    /// Publishers are asked for new versions.
    pub update: Option<Duration>,
    /// Whole files are compared with their digests.
    pub verify: Option<Duration>,
}

/// Keeps the images up until it is dropped.
#[derive(Debug)]
pub struct Upkeep {
    library: ImageLibrary,
    plan: UpkeepPlan,
}

impl Upkeep {
    /// Of that library.
    #[must_use]
    pub const fn new(library: ImageLibrary, plan: UpkeepPlan) -> Self {
        Self { library, plan }
    }

    /// Looks every hour, and after each fetch, for ever. `chance` gives a random number from 0 to 1: hosts
    /// that were switched on together must not ask a publisher together.
    pub async fn run(&self, chance: impl Fn() -> f64 + Send + Sync) {
        let clock = &self.library.ports.clock;
        let mut fetching = self.library.fetching();
        let mut wait = FIRST_LOOK.mul_f64(0.5 + chance());
        loop {
            let slept = std::pin::pin!(clock.sleep(wait));
            let fetched = std::pin::pin!(fetched(&mut fetching));
            match select(slept, fetched).await {
                Either::Left(_) => {
                    self.look().await;
                    wait = LOOK_EVERY.mul_f64(0.75 + chance() / 2.0);
                }
                // The wait begins anew; a cache in which images come and go needs no hourly look.
                Either::Right(_) => self.collect().await,
            }
        }
    }

    /// Does what is due now.
    pub async fn look(&self) {
        if let Err(error) = self.try_to_look().await {
            tracing::warn!(error = %error, "the cached images could not be looked after; it is tried again within the hour");
        }
        self.collect().await;
    }

    async fn collect(&self) {
        if let Err(error) = self.library.collect().await {
            tracing::warn!(error = %error, "images that nothing refers to could not be removed; it is tried again within the hour");
        }
    }

    async fn try_to_look(&self) -> Result<(), AppError> {
        let images = self.library.ports.images.list().await?;
        let now = self.library.ports.clock.now();
        for image in &images {
            if self.plan.update.is_some_and(|every| is_due(image.asked_at, every, now)) {
                self.update(image).await;
            }
            if self.plan.verify.is_some_and(|every| is_due(Some(image.verified_at), every, now)) {
                let image = super::ImageRef::Digest(image.checksum.hex().to_owned());
                self.library.verify(Some(&image)).await?;
            }
        }
        Ok(())
    }

    async fn update(&self, image: &CachedImage) {
        let known = image.current_of.iter().filter_map(|name| self.library.catalog.get(name).ok());
        for template in known {
            match self.library.ports.images.update(template).await {
                Ok(Update::New { from, to }) => {
                    tracing::info!(template = %template.name, %from, %to, "new VMs get a new image");
                }
                Ok(Update::Current(_) | Update::NotCached) => {}
                Err(error) => {
                    tracing::warn!(template = %template.name, error = %error, "no new version could be looked for; it is tried again within the hour");
                }
            }
        }
    }
}

/// A moment that lies ahead was noted by a clock that was wrong.
fn is_due(last: Option<Timestamp>, every: Duration, now: Timestamp) -> bool {
    last.is_some_and(|last| {
        let passed = now.duration_since(last);
        passed < SignedDuration::ZERO
            || passed >= SignedDuration::try_from(every).unwrap_or(SignedDuration::MAX)
    })
}

/// Ends when a fetch has ended.
async fn fetched(fetching: &mut tokio::sync::watch::Receiver<Vec<crate::domain::Fetching>>) {
    let mut under_way = fetching.borrow_and_update().len();
    while fetching.changed().await.is_ok() {
        let now = fetching.borrow_and_update().len();
        if now < under_way {
            return;
        }
        under_way = now;
    }
    std::future::pending::<()>().await;
}
