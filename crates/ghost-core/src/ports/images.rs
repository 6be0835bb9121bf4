//! Base images.

use async_trait::async_trait;
use tokio::sync::watch;

use super::PortResult;
use crate::domain::{
    Bytes, CachedImage, Checksum, Fetching, HeldImage, ImageUsers, Template, TemplateName, Update,
    Verified,
};

/// The cache of base images.
#[async_trait]
pub trait Images: std::fmt::Debug + Send + Sync {
    /// The template's base image, fetched and proven if it is not cached yet. However many ask at
    /// once, it is fetched once; the fetch goes on when those who asked leave.
    async fn ensure_cached(&self, template: &Template) -> PortResult<HeldImage>;

    /// Asks the publisher of a cached template for another version, fetches it beside the
    /// present one and gives it to new VMs. Removes nothing.
    async fn update(&self, template: &Template) -> PortResult<Update>;

    /// Every image that is cached or in quarantine, by digest.
    async fn list(&self) -> PortResult<Vec<CachedImage>>;

    /// Compares the whole image with its digest; one that differs, or that the disk does not give, is
    /// quarantined, and one in quarantine that fits comes back.
    ///
    /// # Errors
    /// `NOT_FOUND`; whatever kept it from being read.
    async fn verify(&self, image: &Checksum) -> PortResult<Verified>;

    /// Forgets which image the template's new VMs get: the next one asks the publisher again.
    async fn ensure_forgotten(&self, template: &TemplateName) -> PortResult<()>;

    /// Removes an image, in quarantine or not, and gives what its file took. If it stays, templates that were
    /// made to forget it get it again.
    ///
    /// # Errors
    /// `CONFLICT` if a template's new VMs get it or `users` says that a VM is based on it (`WrongState`),
    /// or while somebody holds it (`Busy`). An image that is not there takes 0 bytes.
    async fn ensure_removed(&self, image: &Checksum, users: &ImageUsers) -> PortResult<Bytes>;

    /// The fetches under way, told at most some ten times a second.
    fn fetching(&self) -> watch::Receiver<Vec<Fetching>>;
}
