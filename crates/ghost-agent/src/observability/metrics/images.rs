//! What the image cache takes, for those who must not wait for a disk.

use ghost_core::domain::cause;
use std::sync::Arc;
use std::time::Duration;

use ghost_core::application::images::a_fetch_ended;
use ghost_core::ports::{Clock, Images};
use tokio::sync::watch;

/// How often it is looked, beside the end of each fetch: images are also removed.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The cache at its last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSize {
    /// Images, those in quarantine included.
    pub images: usize,
    /// What their files take of the disk, in bytes.
    pub bytes: u64,
}

/// Looks for ever. What was known stays while it can't be looked.
pub async fn follow(
    images: Arc<dyn Images>,
    clock: Arc<dyn Clock>,
    tell: watch::Sender<Option<CacheSize>>,
) {
    let mut fetching = images.fetching();
    loop {
        match images.list().await {
            Ok(all) => {
                let bytes = all.iter().map(|image| image.size.0).sum();
                tell.send_replace(Some(CacheSize { images: all.len(), bytes }));
            }
            Err(error) => {
                tracing::debug!(error = cause(&error), "cannot tell what the image cache takes")
            }
        }
        tokio::select! {
            () = clock.sleep(LOOK_EVERY) => {}
            () = a_fetch_ended(&mut fetching) => {}
        }
    }
}
