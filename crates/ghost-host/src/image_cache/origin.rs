//! Where images come from, as the cache sees it. Invariant: a file that comes from here has the digest
//! that was asked for; whether it is fit to be an image is the cache's to decide.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::path::Path;

use async_trait::async_trait;
use ghost_core::domain::{Bytes, PublishedDigest, Template};
use jiff::Timestamp;

use super::ImageError;
use super::fetch::Told;
use super::proven::ProvenFile;
use super::store::Unpacking;
use crate::publisher::Compression;

/// By what digest an image is offered, and on whose word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) digest: PublishedDigest,
    pub(super) word: Word,
}

/// Who says that this is the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// The catalogue itself.
    Catalog,
    /// A list that nobody signed.
    Unsigned,
    /// A list that its publisher signed at that time, by his own clock.
    Signed(Timestamp),
}

impl Word {
    /// When it was signed, if it was.
    pub(super) const fn signed_at(self) -> Option<Timestamp> {
        match self {
            Self::Signed(at) => Some(at),
            Self::Catalog | Self::Unsigned => None,
        }
    }
}

/// Publishers and their mirrors.
#[async_trait]
pub(super) trait Origin: Debug + Send + Sync {
    /// By what digest the template's image is offered now.
    async fn offer(&self, template: &Template) -> Result<Offer, ImageError>;

    /// Fetches the template's file into `parts`, taking up what an earlier try left there.
    async fn file(
        &self,
        template: &Template,
        digest: &PublishedDigest,
        parts: &Path,
        told: &(dyn Fn(Told) + Send + Sync),
    ) -> Result<ProvenFile, ImageError>;

    /// Unpacks all of `from` into `to`, at most `limit`; `told` is given how much of `from` was read.
    /// Blocks.
    fn unpack(
        &self,
        packing: Compression,
        from: &mut dyn Read,
        to: &mut dyn Write,
        limit: Bytes,
        told: &mut dyn FnMut(Bytes),
    ) -> Result<(), Unpacking>;

    /// Where the template's file comes from, without user, password and query.
    fn shown(&self, template: &Template) -> String;
}

/// [`Origin::unpack`], with whom it tells.
pub(super) type Unpack<'a> =
    dyn Fn(Compression, &mut dyn Read, &mut dyn Write, Bytes) -> Result<(), Unpacking> + Send + 'a;
