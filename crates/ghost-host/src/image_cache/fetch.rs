//! Files and small documents, fetched. Invariant: what [`Fetcher::file`] gives has the digest that was
//! asked for, over all of its bytes; and every wait ends.
//!
//! ```text
//!            ┌── transient failure, pause ◀─┐
//! part ──▶ asked: the rest, or the whole ──▶ coming in ──▶ whole ──digest──▶ ProvenFile
//!   ▲                                                        └─▶ removed; asked anew, once,
//!   └── kept on any failure that does not refute it             if it was put together
//! ```

mod digests;
mod files;
mod local;
mod pace;
mod part;
mod partial;
mod redirect;
mod retry;
mod space;
#[cfg(test)]
mod tests;
mod web;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::{Bytes, PublishedDigest, shown_url as shown};
use ghost_core::ports::Clock;
use tokio::time::timeout;
use url::Url;

use self::files::FileFetch;
use self::retry::{Failure, Retries};
use self::web::{Incoming, Wanted};
use super::proven::ProvenFile;
use super::{ImageError, Limits};

pub use pace::Pace;
pub use redirect::RedirectTrouble;

/// What a fetch tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// So much has come, what an earlier try left included; at most some ten times a second.
    Downloading {
        /// Of the file.
        done: Bytes,
        /// The file's length, if it is known.
        total: Option<Bytes>,
    },
    /// It failed in passing; another try begins soon.
    Waiting {
        /// The failure, in one line.
        failed: String,
    },
}

/// Where [`Told`] goes.
type Tell<'a> = &'a (dyn Fn(Told) + Send + Sync);

/// Fetches from `file://`, `http://` and `https://` urls.
#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    limits: Limits,
    clock: Arc<dyn Clock>,
}

impl Fetcher {
    /// One that keeps to `limits` and pauses by `clock`.
    pub(super) fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        // reqwest asks for the process's TLS provider; whoever installed one first is right.
        let _installed_already = rustls::crypto::ring::default_provider().install_default();
        Self { limits, clock }
    }

    /// A small document, such as a list of digests or a signature; as it came, proven by nothing.
    ///
    /// # Errors
    /// If it can't be had after all tries, or is longer than [`Limits::document`].
    pub(super) async fn document(&self, url: &Url) -> Result<Vec<u8>, ImageError> {
        let tries = async {
            let mut retries = Retries::new(self.limits.attempts);
            loop {
                match self.document_once(url).await {
                    Ok(document) => return Ok(document),
                    Err(failure) => {
                        let pause = retries.pause_after(failure, url)?;
                        self.clock.sleep(pause.time).await;
                    }
                }
            }
        };
        self.within_limit(url, tries).await
    }

    async fn document_once(&self, url: &Url) -> Result<Vec<u8>, Failure> {
        let limit = self.limits.document;
        let too_long = || ImageError::LongDocument { url: shown(url), limit };
        let mut incoming = Incoming::open(url, &Wanted::Whole, &self.limits, &self.clock).await?;
        if incoming.length().is_some_and(|length| length > limit) {
            return Err(too_long().into());
        }
        let mut document = Vec::new();
        while let Some(chunk) = incoming.next_chunk().await? {
            document.extend_from_slice(&chunk);
            if document.len() as u64 > limit.0 {
                return Err(too_long().into());
            }
        }
        Ok(document)
    }

    /// The file with that digest, in the folder `parts`, which is there. Goes on with what an
    /// earlier try, or another process, left there; if another process is at it, waits for its end.
    /// When it is dropped, what has come stays.
    ///
    /// The file is called `<algorithm>-<digest>.part`, mode 0600, and not yet synced to the disk. Any
    /// other that fetches the same digest may read it, and writes to it only if it is not proven.
    ///
    /// # Errors
    /// If it can't be had after all tries, and if what comes has another digest.
    pub(super) async fn file(
        &self,
        url: &Url,
        digest: &PublishedDigest,
        parts: &Path,
        told: Tell<'_>,
    ) -> Result<ProvenFile, ImageError> {
        let fetch = FileFetch { url, digest, limits: &self.limits, clock: &self.clock, told };
        Box::pin(self.within_limit(url, fetch.run(parts))).await
    }

    async fn within_limit<T>(
        &self,
        url: &Url,
        work: impl Future<Output = Result<T, ImageError>>,
    ) -> Result<T, ImageError> {
        let limit: Duration = self.limits.whole;
        let too_slow = |_elapsed| ImageError::TooSlow { url: shown(url), limit };
        timeout(limit, work).await.map_err(too_slow)?
    }
}
