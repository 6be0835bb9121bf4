//! Where templates come from, and how what comes is proven before it is an image.
//!
//! ```text
//! catalog.yaml ─▶ Template ─▶ Mirrors ─▶ (download) ─▶ signature ─▶ sums ─▶ PublishedDigest ─▶ unpack
//! ```
//!
//! Invariant: a digest is taken only from a row's own text or from a list of checksums;
//! where the row names a signature, only from the part of the list that a pinned key signed. Nothing
//! here opens a file or a connection, except that [`unpack`](unpack::unpack) reads and writes what
//! it is handed.
//!
//! * [`catalog`]: the rows, built in or the owner's, as data.
//! * [`keys`]: the distributions' keys, pinned by fingerprint.
//! * [`signature`]: OpenPGP, detached and clearsigned.
//! * [`sums`]: lists of checksums.
//! * [`mirrors`]: the owner's mirrors instead of the publishers' servers.
//! * [`unpack`]: xz, zstd and gzip.

pub mod catalog;
mod compression;
pub mod keys;
pub mod mirrors;
pub mod signature;
pub mod sums;
pub mod unpack;

pub use compression::Compression;
pub use keys::{KeyError, KeyName, PinnedKey};
pub use mirrors::{Mirror, MirrorError, Mirrors};
pub use signature::SignatureError;
pub use sums::SumsError;
pub use unpack::{Progress, UnpackError};
