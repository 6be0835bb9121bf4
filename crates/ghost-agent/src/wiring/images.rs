//! The image cache as the owner wants it.

use std::sync::Arc;

use ghost_core::application::{Retention, UpkeepPlan};
use ghost_core::domain::{Bytes, Catalog, Gib, Proof, Signature, shown_url};
use ghost_core::ports::Clock;
use ghost_host::ImageCache;
use ghost_host::publisher::{Mirror, Mirrors};

use crate::config::Config;

/// Says what the owner may not have meant: no template at all, or one that anybody on the way to its server
/// decides about.
pub(super) fn warn_of_weak_rows(catalog: &Catalog) {
    if catalog.iter().next().is_none() {
        tracing::warn!(
            "the catalogue has no template for this host, so no VM can be created; set images.catalog or images.builtin_catalog"
        );
    }
    for template in catalog.iter() {
        let Proof::Listed(list) = &template.proof else { continue };
        if matches!(list.signature, Signature::Unsigned { .. }) && list.url.scheme() == "http" {
            tracing::warn!(
                template = %template.name,
                list = shown_url(&list.url),
                "this list of digests is neither signed nor comes over https: whoever is on the way to it decides what VMs boot"
            );
        }
    }
}

/// The cache of base images.
///
/// # Errors
/// If its folder can't be had.
pub(super) fn cache(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<ImageCache> {
    let size = Bytes(u64::from(config.images.max_image_gb) * Gib::BYTES);
    let limits = ghost_host::Limits { size, ..ghost_host::Limits::default() };
    let mirrors = config.images.mirrors.iter();
    let mirrors = mirrors.map(|(from, to)| Mirror::new(from.as_str(), to.as_str()));
    let mirrors = Mirrors::new(mirrors.collect::<Result<_, _>>()?)?;
    Ok(ImageCache::open(&config.libvirt.image_cache, limits, mirrors, clock)?)
}

/// What it may hold.
pub(super) fn retention(config: &Config) -> Retention {
    Retention {
        versions: config.images.keep_versions as usize,
        limit: config.images.cache_limit_gb.map(|gib| Bytes(u64::from(gib) * Gib::BYTES)),
    }
}

/// What is done for it without anybody asking.
pub(super) fn upkeep_plan(config: &Config) -> UpkeepPlan {
    UpkeepPlan { update: config.images.update_interval, verify: config.images.verify_interval }
}
