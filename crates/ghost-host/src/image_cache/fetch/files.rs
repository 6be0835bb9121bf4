//! One file, try after try. Invariant: a part that its digest refutes is gone before the failure is
//! told; any other part stays.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::{Bytes, PublishedDigest};
use ghost_core::ports::Clock;
use tokio::task::spawn_blocking;
use url::Url;

use super::part::{Made, Opened, Part, Start};
use super::retry::{Failure, Retries};
use super::space::Space;
use super::web::{Incoming, Wanted};
use super::writer::{Failed, SharedPart, Writer};
use super::{ImageError, Limits, ProvenFile, Tell, Told, shown};

/// How often it is looked whether another process is done with the part.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two tellings.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// The fetch of one file.
pub(super) struct FileFetch<'a> {
    pub(super) url: &'a Url,
    pub(super) digest: &'a PublishedDigest,
    pub(super) limits: &'a Limits,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) told: Tell<'a>,
}

/// What the digest of a whole file came to.
enum Judged {
    Proven(ProvenFile),
    /// It was put together from pieces that do not fit; it is empty now.
    Misfit,
}

impl FileFetch<'_> {
    /// The proven file, in the folder `parts`.
    pub(super) async fn run(&self, parts: &Path) -> Result<ProvenFile, ImageError> {
        let part = self.own_part(parts).await?;
        if part.look().digests().are(self.digest) {
            return self.proven(&part).await;
        }
        let mut retries = Retries::new(self.limits.attempts);
        let mut misfits = 0;
        loop {
            retries.reached(part.look().length());
            let failure = match self.once(&part).await {
                Ok(()) => match self.judge(&part, misfits).await? {
                    Judged::Proven(file) => return Ok(file),
                    Judged::Misfit => {
                        misfits += 1;
                        continue;
                    }
                },
                // The last chunk came, but not the word that it was the last.
                Err(_) if part.look().digests().are(self.digest) => {
                    return self.proven(&part).await;
                }
                Err(failure) => failure,
            };
            if failure.refutes_the_part() {
                part.with(|part| Ok(part.discard()?)).await?;
            }
            retries.reached(part.look().length());
            let pause = retries.pause_after(failure, self.url)?;
            (self.told)(Told::Waiting { failed: pause.failed });
            self.clock.sleep(pause.time).await;
        }
    }

    /// The part, once no other process is at it.
    async fn own_part(&self, parts: &Path) -> Result<SharedPart, ImageError> {
        loop {
            let (parts, digest, most) = (parts.to_owned(), self.digest.clone(), self.limits.size);
            let open = spawn_blocking(move || Part::open(&parts, &digest, most));
            match open.await.map_err(ImageError::Interrupted)?? {
                Opened::Ours(part) => return Ok(SharedPart::new(*part)),
                Opened::Elsewhere => {
                    let failed = format!("another process is downloading {}", shown(self.url));
                    (self.told)(Told::Waiting { failed });
                    self.clock.sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    /// One answer, written to the part as far as it comes.
    async fn once(&self, part: &SharedPart) -> Result<(), Failure> {
        let (offset, wanted) = {
            let part = part.look();
            let offset = part.length();
            (offset, Wanted::for_part(offset.0, part.origin(), self.url))
        };
        let mut incoming = Incoming::open(self.url, &wanted, self.limits, self.clock).await?;
        let offset = match incoming.start() {
            Start::Anew(_) => Bytes(0),
            Start::Behind => offset,
        };
        let length = incoming.length();
        if length.is_some_and(|length| length > self.limits.size) {
            return Err(self.too_large().into());
        }
        let remaining = length.map(|length| Bytes(length.0.saturating_sub(offset.0)));
        let space = Space::new(remaining, self.limits.keep_free);
        let writer = Writer::start(part, incoming.start(), space);
        let came = self.pour(&mut incoming, &writer, offset).await;
        writer.end().await?;
        Ok(came?)
    }

    /// Hands the bytes on until they end, or the writer does.
    async fn pour(
        &self,
        incoming: &mut Incoming,
        writer: &Writer,
        offset: Bytes,
    ) -> Result<(), ImageError> {
        let (mut done, total) = (offset, incoming.length());
        (self.told)(Told::Downloading { done, total });
        let mut told_at = self.clock.monotonic();
        while let Some(chunk) = incoming.next_chunk().await? {
            done.0 += chunk.len() as u64;
            if done > self.limits.size {
                return Err(self.too_large());
            }
            if let Err(Failed) = writer.push(chunk).await {
                return Ok(());
            }
            let now = self.clock.monotonic();
            if now.saturating_sub(told_at) >= TELL_EVERY {
                (self.told)(Told::Downloading { done, total });
                told_at = now;
            }
        }
        (self.told)(Told::Downloading { done, total });
        Ok(())
    }

    fn too_large(&self) -> ImageError {
        ImageError::TooLarge { url: shown(self.url), limit: self.limits.size }
    }

    /// Compares a whole file with its digest.
    async fn judge(&self, part: &SharedPart, misfits: u32) -> Result<Judged, ImageError> {
        let (made, length, got) = {
            let part = part.look();
            (part.made(), part.length(), part.digests().listed())
        };
        if got == self.digest.hex() {
            return self.proven(part).await.map(Judged::Proven);
        }
        if made == Made::OfPieces && misfits == 0 {
            tracing::info!(url = %shown(self.url), "the pieces do not fit together: downloading it anew");
            part.with(|part| Ok(part.restart(None)?)).await?;
            return Ok(Judged::Misfit);
        }
        part.with(|part| Ok(part.discard()?)).await?;
        let url = shown(self.url);
        if length == Bytes(0) {
            return Err(ImageError::Empty { url });
        }
        let algorithm = self.digest.algorithm().as_str();
        let expected = self.digest.to_string();
        Err(ImageError::WrongChecksum { url, expected, got: format!("{algorithm}:{got}") })
    }

    async fn proven(&self, part: &SharedPart) -> Result<ProvenFile, ImageError> {
        let shown = shown(self.url);
        part.with(move |part| {
            let path = part.path().to_owned();
            if !part.is_whole_on_disk()? {
                part.discard()?;
                return Err(ImageError::PartChanged { path });
            }
            part.close()?;
            let (size, sha256) = (part.length(), part.digests().sha256());
            Ok(ProvenFile { path, sha256, size, shown })
        })
        .await
    }
}
