//! Base images.

use async_trait::async_trait;

use super::PortResult;
use crate::domain::{BaseImage, Template};

/// The cache of base images.
#[async_trait]
pub trait Images: std::fmt::Debug + Send + Sync {
    /// The template's base image, downloaded and proven if it is not cached yet. However many ask
    /// at once, it is fetched once.
    async fn ensure_cached(&self, template: &Template) -> PortResult<BaseImage>;
}
