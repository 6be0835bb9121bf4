//! Publishers, by their lists and mirrors. Invariant: a digest is the catalogue's own, or stands in a list
//! whose signature, where it has one, was verified with the catalogue's key before a line of it was read.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use ghost_core::domain::{
    Bytes, DigestList, Proof, PublishedDigest, Signature, Template, shown_url,
};
use ghost_core::ports::Clock;
use url::Url;

use super::fetch::{Fetcher, Told};
use super::origin::{Offer, Origin, Word};
use super::proven::ProvenFile;
use super::store::Unpacking;
use super::{ImageError, Limits};
use crate::publisher::signature::{clearsigned, detached};
use crate::publisher::{
    Compression, KeyName, Mirrors, PinnedKey, Progress, UnpackError, sums, unpack,
};

/// The publishers that the catalogue names.
#[derive(Debug)]
pub(super) struct Publishers {
    fetcher: Fetcher,
    mirrors: Mirrors,
    clock: Arc<dyn Clock>,
}

impl Publishers {
    pub(super) fn new(limits: Limits, mirrors: Mirrors, clock: Arc<dyn Clock>) -> Self {
        Self { fetcher: Fetcher::new(limits, Arc::clone(&clock)), mirrors, clock }
    }

    /// What the publisher's list states.
    async fn listed(&self, list: &DigestList) -> Result<Offer, ImageError> {
        let url = self.mirrors.rewrite(&list.url);
        let text = self.fetcher.document(&url).await?;
        let forged = |why| ImageError::Forged { url: shown_url(&url), why };
        let now = self.clock.now();
        let (proven, word) = match &list.signature {
            Signature::Unsigned { .. } => (text, Word::Unsigned),
            Signature::Detached { url: beside, key } => {
                let beside = self.mirrors.rewrite(beside);
                let made = self.fetcher.document(&beside).await?;
                let at = detached(&pinned_key(key, &url)?, &made, &text, now).map_err(forged)?;
                (text, Word::Signed(at))
            }
            Signature::Clearsigned { key } => {
                let (text, at) =
                    clearsigned(&pinned_key(key, &url)?, &text, now).map_err(forged)?;
                (text.into_bytes(), Word::Signed(at))
            }
        };
        let digest = sums::find(&proven, list.format, &list.file, list.algorithm)
            .map_err(|why| ImageError::Unlisted { url: shown_url(&url), why })?;
        Ok(Offer { digest, word })
    }
}

/// The key of that name, which must have signed what `url` gives.
fn pinned_key(name: &str, url: &Url) -> Result<PinnedKey, ImageError> {
    let unusable =
        |why: String| ImageError::NoKey { url: shown_url(url), key: name.to_owned(), why };
    let name = name.parse::<KeyName>().map_err(|why| unusable(why.to_string()))?;
    PinnedKey::built_in(name).map_err(|why| unusable(why.to_string()))
}

#[async_trait]
impl Origin for Publishers {
    async fn offer(&self, template: &Template) -> Result<Offer, ImageError> {
        match &template.proof {
            Proof::Pinned(digest) => Ok(Offer { digest: digest.clone(), word: Word::Catalog }),
            Proof::Listed(list) => self.listed(list).await,
        }
    }

    async fn file(
        &self,
        template: &Template,
        digest: &PublishedDigest,
        parts: &Path,
        told: &(dyn Fn(Told) + Send + Sync),
    ) -> Result<ProvenFile, ImageError> {
        self.fetcher.file(&self.mirrors.rewrite(&template.url), digest, parts, told).await
    }

    fn unpack(
        &self,
        packing: Compression,
        from: &mut dyn Read,
        to: &mut dyn Write,
        limit: Bytes,
        told: &mut dyn FnMut(Bytes),
    ) -> Result<(), Unpacking> {
        let mut watch = |progress: Progress| {
            told(Bytes(progress.read));
            ControlFlow::Continue(())
        };
        let unpacked = unpack::unpack(from, to, packing, limit.0, &mut watch);
        unpacked.map(|_written| ()).map_err(|error| match error {
            UnpackError::Read { source } | UnpackError::Write { source } => Unpacking::Disk(source),
            UnpackError::TooLarge { limit } => Unpacking::TooLarge(Bytes(limit)),
            UnpackError::Disagrees { .. } | UnpackError::Damaged { .. } | UnpackError::Stopped => {
                Unpacking::Damaged(error.to_string())
            }
        })
    }

    fn shown(&self, template: &Template) -> String {
        shown_url(&self.mirrors.rewrite(&template.url))
    }
}
