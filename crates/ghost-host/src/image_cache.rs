//! Base images in a folder, each in a file named by its digest.
//!
//! Invariant: a file called `<sha256>.qcow2` was proven to have that digest and to be a standalone
//! qcow2 before it got its name; it is read-only and never written to. However many ask for it at once,
//! it is fetched once; the fetch goes on when those who asked leave.
//!
//! ```text
//! template ──pointer──▶ <sha256>.qcow2, untouched ───────────────────────────▶ held, at once
//!    │                        │ touched: hashed ── other ──▶ quarantine/
//!    └──publisher──▶ digest ──┴▶ parts/ ──digest, unpacked, header──▶ <sha256>.qcow2, pointer
//! ```
//!
//! QEMU reads the images under its own user: the folder and those above it must let it pass.

mod downloads;
mod error;
mod fetch;
mod flights;
mod origin;
mod progress;
mod proven;
mod qcow2;
mod resolve;
mod settle;
mod store;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ghost_core::domain::{
    Bytes, CachedImage, Checksum, Fetching, HeldImage, ImageUsers, Template, TemplateName, Update,
    Verified,
};
use ghost_core::ports::{Clock, Images, PortResult};
use tokio::sync::watch;

pub use downloads::Downloads;
pub use error::{ImageError, OpenError};
use error::{of_image, of_template};
pub use fetch::{Pace, RedirectTrouble};
use origin::Origin;
pub use qcow2::Qcow2Error;
use resolve::Publishers;
use settle::Desk;
use store::{Room, Store};

use crate::publisher::Mirrors;

/// How long a start waits for another agent to let go of the folder.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long and how much a fetch may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the server accepts the connection.
    pub connect: Duration,
    /// Without a single byte.
    pub stall: Duration,
    /// For the whole fetch.
    pub whole: Duration,
    /// Size of the file, packed and unpacked.
    pub size: Bytes,
    /// Size of a list of digests, or of a signature.
    pub document: Bytes,
    /// Tries in a row that bring nothing.
    pub attempts: u32,
    /// The least that must come.
    pub pace: Pace,
    /// What is left of the disk at least; of a small disk a twentieth.
    pub keep_free: Bytes,
}

impl Default for Limits {
    /// 10 s to connect, 30 s without a byte, 2 h in all, 20 GiB; 1 MiB for a list; 6 tries; 64 KiB a
    /// minute; 1 GiB left free.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            whole: Duration::from_secs(2 * 60 * 60),
            size: Bytes(20 << 30),
            document: Bytes(1 << 20),
            attempts: 6,
            pace: Pace::default(),
            keep_free: Bytes(1 << 30),
        }
    }
}

/// The cache of base images in a folder.
#[derive(Debug)]
pub struct ImageCache {
    desk: Arc<Desk>,
}

impl ImageCache {
    /// Takes the folder `dir`, which is made (mode 0755) if there is none, for as long as the cache
    /// lives; what broken work left there is removed. `mirrors` stand in for the publishers. Blocks,
    /// briefly; up to 5 s while another agent holds the folder.
    ///
    /// # Errors
    /// If another agent keeps it, or it can't be made, read or written.
    pub fn open(
        dir: &Path,
        limits: Limits,
        mirrors: Mirrors,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let limits = Limits { keep_free: keep_free(dir, limits.keep_free), ..limits };
        let origin = Arc::new(Publishers::new(limits, mirrors, Arc::clone(&clock)));
        Self::with_origin(dir, limits, origin, clock, PATIENCE)
    }

    fn with_origin(
        dir: &Path,
        limits: Limits,
        origin: Arc<dyn Origin>,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Result<Self, OpenError> {
        let store = Store::open(dir, Arc::clone(&clock), patience)?;
        let room = Room { limit: limits.size, keep_free: limits.keep_free };
        Ok(Self { desk: Arc::new(Desk::new(store, origin, room, clock)) })
    }
}

impl ImageCache {
    /// What was fetched since the cache was opened, and goes on being counted.
    #[must_use]
    pub fn downloads(&self) -> Arc<Downloads> {
        self.desk.downloads()
    }
}

/// `wanted`, but no more than a twentieth of the disk that `dir` is, or will be, on.
fn keep_free(dir: &Path, wanted: Bytes) -> Bytes {
    let there = dir.ancestors().find(|folder| folder.exists());
    let space = there.and_then(|folder| rustix::fs::statvfs(folder).ok());
    let twentieth = space.map(|space| space.f_blocks.saturating_mul(space.f_frsize) / 20);
    Bytes(twentieth.map_or(wanted.0, |most| wanted.0.min(most)))
}

#[async_trait]
impl Images for ImageCache {
    async fn ensure_cached(&self, template: &Template) -> PortResult<HeldImage> {
        let held = self.desk.ensure_cached(template).await;
        held.map_err(|error| of_template(error, template))
    }

    async fn update(&self, template: &Template) -> PortResult<Update> {
        self.desk.update(template).await.map_err(|error| of_template(error, template))
    }

    async fn list(&self) -> PortResult<Vec<CachedImage>> {
        self.desk.list().await.map_err(of_image)
    }

    async fn verify(&self, image: &Checksum) -> PortResult<Verified> {
        self.desk.verify(image).await.map_err(of_image)
    }

    async fn ensure_forgotten(&self, template: &TemplateName) -> PortResult<()> {
        self.desk.store().forget(template).await.map_err(|error| of_image(error.into()))
    }

    async fn ensure_removed(&self, image: &Checksum, users: &ImageUsers) -> PortResult<Bytes> {
        self.desk.store().remove(image, users).await.map_err(|error| of_image(error.into()))
    }

    fn fetching(&self) -> watch::Receiver<Vec<Fetching>> {
        self.desk.fetching()
    }
}
