//! A file whose bytes are those that its publisher, or the catalogue, means; not yet an image.

use std::path::PathBuf;

use ghost_core::domain::{Bytes, Checksum};

/// A downloaded file with the right digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProvenFile {
    /// Where it lies, in the cache's folder of parts.
    pub(super) path: PathBuf,
    /// Its SHA-256, whichever digest proved it.
    pub(super) sha256: Checksum,
    /// Its length.
    pub(super) size: Bytes,
    /// Where it came from, as it may be shown.
    pub(super) shown: String,
}
