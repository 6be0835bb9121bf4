//! The looks that may take long, each in its own time. Invariant: none waits for another.

use std::sync::Arc;

use futures_util::future::join3;
use ghost_core::application::images::a_fetch_ended;
use ghost_core::ports::Clock;
use tokio::sync::{Notify, watch};

use super::decide::{Found, Images};
use super::looks::Look;
use super::pulse::EVERY;
use super::state_folder::StateFolder;
use super::task::Sources;

/// From one look at the cached images to the next, beside the end of each fetch: it opens each of them.
const IMAGES_EVERY: std::time::Duration = std::time::Duration::from_secs(30);

/// All of them.
#[derive(Debug)]
pub(super) struct Eyes {
    pub(super) libvirt: Look<Found>,
    pub(super) state_folder: Look<StateFolder>,
    pub(super) images: Look<Images>,
    /// Told after each look.
    pub(super) news: Arc<Notify>,
}

impl Eyes {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        let news = Arc::<Notify>::default();
        Self {
            libvirt: Look::new(Arc::clone(clock), Arc::clone(&news)),
            state_folder: Look::new(Arc::clone(clock), Arc::clone(&news)),
            images: Look::new(Arc::clone(clock), Arc::clone(&news)),
            news,
        }
    }

    /// Never ends.
    pub(super) async fn look(&self, sources: &Sources) {
        let (libvirt, folder) = (self.at_libvirt(sources), self.at_state_folder(sources));
        join3(libvirt, folder, self.at_images(sources)).await;
    }

    async fn at_libvirt(&self, sources: &Sources) {
        let mut connection = Some(sources.connection.clone());
        loop {
            if let Some(connection) = &mut connection {
                connection.mark_unchanged();
            }
            self.libvirt.look((sources.libvirt)(), Found::next).await;
            tokio::select! {
                () = sources.clock.sleep(EVERY) => {}
                () = changed(&mut connection) => {}
            }
        }
    }

    async fn at_state_folder(&self, sources: &Sources) {
        loop {
            self.state_folder.look((sources.state_folder)(), |_, found, _| found).await;
            sources.clock.sleep(EVERY).await;
        }
    }

    async fn at_images(&self, sources: &Sources) {
        let mut fetching = sources.images.fetching();
        loop {
            self.images.look(sources.images.list(), |_, listed, _| Images::of(listed)).await;
            tokio::select! {
                () = sources.clock.sleep(IMAGES_EVERY) => {}
                () = a_fetch_ended(&mut fetching) => {}
            }
        }
    }
}

/// Returns when it changes; never if there is nothing, or nobody who could change it.
pub(super) async fn changed<T>(watched: &mut Option<watch::Receiver<T>>) {
    if let Some(receiver) = watched
        && receiver.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
