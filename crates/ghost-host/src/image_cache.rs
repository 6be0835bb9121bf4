//! Base images in a folder, each in a file named by its digest.
//!
//! Invariant: a file called `<sha256>.qcow2` was proven to have that digest and to be a standalone
//! qcow2 before it got its name; it is read-only and never replaced. However many ask for a digest at
//! once, it is fetched once; the fetch goes on when those who asked leave.
//!
//! ```text
//! absent ──▶ <sha256>.<random>.part ──digest, header──▶ <sha256>.qcow2 (0444)
//!                    └─▶ removed, on any failure; by the next start after a crash
//! ```
//!
//! QEMU reads the images under its own user: the folder and those above it must let it pass.

mod error;
mod qcow2;
mod source;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use ghost_core::domain::{BaseImage, Bytes, Checksum, Template};
use ghost_core::ports::{Images, PortResult};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

pub use error::ImageError;
use error::public;
pub use qcow2::Qcow2Error;
use source::Source;
use store::Store;

use crate::disk_error::DiskError;

/// How long and how much a fetch may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the server accepts the connection.
    pub connect: Duration,
    /// Without a single byte.
    pub stall: Duration,
    /// For the whole fetch.
    pub whole: Duration,
    /// Size of the file.
    pub size: Bytes,
}

impl Default for Limits {
    /// 10 s to connect, 30 s without a byte, 2 h in all, 20 GiB.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            whole: Duration::from_secs(2 * 60 * 60),
            size: Bytes(20 << 30),
        }
    }
}

type Outcome = Result<BaseImage, Arc<ImageError>>;
type Fetch = Shared<BoxFuture<'static, Outcome>>;
type Fetches = Arc<Mutex<HashMap<Checksum, Fetch>>>;

/// The cache of base images in a folder.
#[derive(Debug)]
pub struct ImageCache {
    store: Store,
    limits: Limits,
    fetches: Fetches,
    tasks: TaskTracker,
}

impl ImageCache {
    /// A cache in `dir`, which is made (mode 0755) if there is none; leftovers of broken fetches
    /// are removed. Blocks, briefly.
    ///
    /// # Errors
    /// If `dir` can't be made, read or written.
    pub fn open(dir: &Path, limits: Limits) -> Result<Self, DiskError> {
        // reqwest asks for the process's TLS provider; whoever installed one first is right.
        let _installed_already = rustls::crypto::ring::default_provider().install_default();
        let store = Store::open(dir)?;
        Ok(Self { store, limits, fetches: Fetches::default(), tasks: TaskTracker::new() })
    }

    /// The fetch of the template's digest that is under way, or a new one.
    fn fetch(&self, template: &Template) -> Fetch {
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let ends = EndOfFetch {
                fetches: Arc::clone(&self.fetches),
                digest: template.checksum.clone(),
            };
            let (store, limits, template) = (self.store.clone(), self.limits, template.clone());
            let task = self.tasks.spawn(async move {
                let _ends = ends;
                cached_or_fetched(&store, limits, &template).await.map_err(Arc::new)
            });
            let outcome = |joined: Result<Outcome, _>| {
                joined.unwrap_or_else(|error| Err(Arc::new(ImageError::Interrupted(error))))
            };
            task.map(outcome).boxed().shared()
        };
        fetches.entry(template.checksum.clone()).or_insert_with(start).clone()
    }
}

#[async_trait]
impl Images for ImageCache {
    async fn ensure_cached(&self, template: &Template) -> PortResult<BaseImage> {
        let fetch = self.fetch(template);
        fetch.await.map_err(|error| public(&error, template))
    }
}

/// Forgets the fetch when its task ends, even by a panic.
struct EndOfFetch {
    fetches: Fetches,
    digest: Checksum,
}

impl Drop for EndOfFetch {
    fn drop(&mut self) {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

async fn cached_or_fetched(
    store: &Store,
    limits: Limits,
    template: &Template,
) -> Result<BaseImage, ImageError> {
    if let Some(image) = store.cached(&template.checksum).await? {
        return Ok(image);
    }
    tracing::info!(template = %template.name, url = %source::shown(&template.url), "fetching a base image");
    match timeout(limits.whole, fetched(store, limits, template)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => {
            Err(ImageError::TooSlow { url: source::shown(&template.url), limit: limits.whole })
        }
    }
}

async fn fetched(
    store: &Store,
    limits: Limits,
    template: &Template,
) -> Result<BaseImage, ImageError> {
    let mut source = Source::open(&template.url, limits).await?;
    let too_large =
        || ImageError::TooLarge { url: source::shown(&template.url), limit: limits.size };
    if let Some(length) = source.length() {
        if length > limits.size {
            return Err(too_large());
        }
        store.ensure_space(length)?;
    }
    let mut part = store.part(&template.checksum)?;
    while let Some(chunk) = source.next_chunk().await? {
        part.push(&chunk).await?;
        if part.length() > limits.size {
            return Err(too_large());
        }
    }
    part.prove(source.shown()).await
}
