//! What is done for the images without anybody asking: new versions are looked for, files are compared with
//! their digests, and what nothing refers to any more goes.
//!
//! Invariant: what is due follows from what the cache recorded, not from how long this process has run, so that
//! a PC that is switched off every night is kept up as well.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use jiff::{SignedDuration, Timestamp};

use tokio::sync::watch;

use super::ImageLibrary;
use crate::domain::{
    AppError, CachedImage, Condition, ErrorKind, Fetching, Template, TemplateName, Update, cause,
};

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// Leaves the host's start to the host's owner.
const FIRST_LOOK: Duration = Duration::from_secs(10 * 60);
/// After the first failure the next look asks again; each further one doubles the pause.
const FIRST_PAUSE: Duration = Duration::from_secs(30 * 60);
/// Each try may be a whole image that turns out to be unfit.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);

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
    failing: Mutex<BTreeMap<TemplateName, Failing>>,
}

/// A template whose publisher could not be asked.
#[derive(Debug, Clone, Copy, Default)]
struct Failing {
    times: u32,
    /// By the monotonic clock.
    not_before: Duration,
}

impl Upkeep {
    /// Of that library.
    #[must_use]
    pub const fn new(library: ImageLibrary, plan: UpkeepPlan) -> Self {
        Self { library, plan, failing: Mutex::new(BTreeMap::new()) }
    }

    /// Looks every hour, and after each fetch, for ever. `chance` gives a random number from 0 to 1: hosts
    /// that were switched on together must not ask a publisher together.
    pub async fn run(&self, chance: impl Fn() -> f64 + Send + Sync) {
        let clock = &self.library.ports.clock;
        let mut fetching = self.library.fetching();
        let mut next = clock.monotonic() + FIRST_LOOK.mul_f64(0.5 + chance());
        loop {
            let slept = std::pin::pin!(clock.sleep(next.saturating_sub(clock.monotonic())));
            let fetched = std::pin::pin!(a_fetch_ended(&mut fetching));
            match select(slept, fetched).await {
                Either::Left(_) => {
                    self.look().await;
                    next = clock.monotonic() + LOOK_EVERY.mul_f64(0.75 + chance() / 2.0);
                }
                Either::Right(_) => self.collect().await,
            }
        }
    }

    /// Does what is due now.
    pub async fn look(&self) {
        if let Err(error) = self.try_to_look().await {
            tracing::warn!(
                error = cause(&error),
                "the cached images could not be looked after; it is tried again within the hour"
            );
        }
        self.collect().await;
    }

    async fn collect(&self) {
        if let Err(error) = self.library.collect().await {
            tracing::warn!(
                error = cause(&error),
                "images that nothing refers to could not be removed; it is tried again within the hour"
            );
        }
    }

    async fn try_to_look(&self) -> Result<(), AppError> {
        let images = self.library.ports.images.list().await?;
        let now = self.library.ports.clock.now();
        for image in &images {
            if self.plan.update.is_some_and(|every| is_due(image.asked_at, every, now)) {
                self.update(image).await;
            }
            // What is in quarantine is known not to be what it was.
            if image.condition == Condition::Proven
                && self.plan.verify.is_some_and(|every| is_due(Some(image.verified_at), every, now))
            {
                self.verify(image).await;
            }
        }
        Ok(())
    }

    /// One that can't be read must not keep the others from being looked after.
    async fn verify(&self, image: &CachedImage) {
        let wanted = super::ImageRef::Digest(image.checksum.hex().to_owned());
        match self.library.verify(Some(&wanted)).await {
            Ok(_) => {}
            // It went meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(image = %image.checksum, error = cause(&error), "a cached image could not be compared with its digest; it is tried again within the hour");
            }
        }
    }

    async fn update(&self, image: &CachedImage) {
        let known = image.current_of.iter().filter_map(|name| self.library.catalog.get(name).ok());
        for template in known.filter(|template| self.may_ask(template)) {
            match self.library.ports.images.update(template).await {
                Ok(update) => {
                    self.failing().remove(&template.name);
                    if let Update::New { from, to } = update {
                        tracing::info!(template = %template.name, %from, %to, "new VMs get a new image");
                    }
                }
                Err(error) => {
                    let again_after = self.failed(template);
                    tracing::warn!(template = %template.name, error = cause(&error), ?again_after, "no new version could be looked for; it is tried again later");
                }
            }
        }
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, BTreeMap<TemplateName, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_ask(&self, template: &Template) -> bool {
        let now = self.library.ports.clock.monotonic();
        self.failing().get(&template.name).is_none_or(|failing| failing.not_before <= now)
    }

    /// Notes another failure, and gives the pause after it.
    fn failed(&self, template: &Template) -> Duration {
        let now = self.library.ports.clock.monotonic();
        let mut all = self.failing();
        let failing = all.entry(template.name.clone()).or_default();
        let pause = FIRST_PAUSE.saturating_mul(1 << failing.times.min(16)).min(LONGEST_PAUSE);
        *failing = Failing { times: failing.times + 1, not_before: now + pause };
        pause
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

/// Ends when one of the fetches under way has ended.
pub async fn a_fetch_ended(fetching: &mut watch::Receiver<Vec<Fetching>>) {
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
