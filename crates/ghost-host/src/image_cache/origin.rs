//! Where images come from, as the cache sees it. Invariant: a file that comes from here has the digest
//! that was asked for; whether it is fit to be an image is the cache's to decide.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::path::Path;

use async_trait::async_trait;
use ghost_core::domain::{Bytes, PublishedDigest, Template};

use super::ImageError;
use super::fetch::Told;
use super::proven::ProvenFile;
use super::store::Unpacking;
use crate::publisher::Compression;

/// Publishers and their mirrors.
#[async_trait]
pub(super) trait Origin: Debug + Send + Sync {
    /// By what digest the template's image is offered now.
    async fn digest(&self, template: &Template) -> Result<PublishedDigest, ImageError>;

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

/// How a file is to be unpacked, by the marks that the formats' specifications put at the begin.
pub(super) fn packing(start: &[u8]) -> Compression {
    match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [0x1f, 0x8b, ..] => Compression::Gzip,
        _ => Compression::None,
    }
}
