//! A part written and hashed on a thread of its own, while the next bytes come in. Invariant: what the
//! part counts is what was written; the chunks under way are few.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::bytes::Bytes as Chunk;

use super::ImageError;
use super::part::{Part, Start};
use super::space::Space;
use crate::atomic_file::parent;

/// Chunks under way; hyper makes them of 400 KiB at most.
const UNDER_WAY: usize = 8;

/// A part that is at hand here and on its writer's thread.
#[derive(Debug, Clone)]
pub(super) struct SharedPart(Arc<Mutex<Part>>);

impl SharedPart {
    pub(super) fn new(part: Part) -> Self {
        Self(Arc::new(Mutex::new(part)))
    }

    /// The part, while no writer is at it.
    pub(super) fn look(&self) -> MutexGuard<'_, Part> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on a thread that may block.
    pub(super) async fn with<T, F>(&self, work: F) -> Result<T, ImageError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Part) -> Result<T, ImageError> + Send + 'static,
    {
        let part = self.clone();
        spawn_blocking(move || work(&mut part.look())).await.map_err(ImageError::Interrupted)?
    }
}

/// The thread that writes one answer. It ends when this is dropped and what is under way is written.
#[derive(Debug)]
pub(super) struct Writer {
    chunks: mpsc::Sender<Chunk>,
    thread: JoinHandle<Result<(), ImageError>>,
}

/// The writer has failed; [`Writer::end`] says why.
#[derive(Debug)]
pub(super) struct Failed;

impl Writer {
    /// Writes from `start` on, as long as there is `space`.
    pub(super) fn start(part: &SharedPart, start: Start, mut space: Space) -> Self {
        let (chunks, mut coming) = mpsc::channel::<Chunk>(UNDER_WAY);
        let part = part.clone();
        let thread = spawn_blocking(move || {
            let mut part = part.look();
            part.begin(start)?;
            while let Some(chunk) = coming.blocking_recv() {
                space.ensure(parent(part.path()), chunk.len())?;
                part.append(&chunk)?;
            }
            Ok(())
        });
        Self { chunks, thread }
    }

    /// Hands over the next bytes.
    pub(super) async fn push(&self, chunk: Chunk) -> Result<(), Failed> {
        self.chunks.send(chunk).await.map_err(|_unsent| Failed)
    }

    /// Waits until all is written.
    pub(super) async fn end(self) -> Result<(), ImageError> {
        drop(self.chunks);
        self.thread.await.map_err(ImageError::Interrupted)?
    }
}
