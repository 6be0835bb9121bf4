//! What is known of the cached images, and of those on their way.

use jiff::Timestamp;

use super::super::resources::Bytes;
use super::{Checksum, TemplateName};

/// A base image in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedImage {
    /// What names it.
    pub checksum: Checksum,
    /// What its file takes on the disk.
    pub size: Bytes,
    /// Size of the disk that it holds; 0 if its header can't be read any more.
    pub virtual_size: Bytes,
    /// The templates whose new VMs get it, by name.
    pub current_of: Vec<TemplateName>,
    /// The templates whose new VMs got it before, with how many versions came since: 1 for the
    /// last but one.
    pub former_of: Vec<(TemplateName, usize)>,
    /// When it was fetched.
    pub fetched_at: Timestamp,
    /// When an overlay was last made on it, or it was fetched.
    pub used_at: Timestamp,
    /// When its template's publisher was last asked for another; of several templates the one that was
    /// asked longest ago. Nobody is asked for images that no template has now.
    pub asked_at: Option<Timestamp>,
    /// When the whole of it was last compared with its digest.
    pub verified_at: Timestamp,
    /// Whether it can be used.
    pub condition: Condition,
}

/// Whether a cached image is what it was when it was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It is.
    Proven,
    /// It is not: it was put aside, backs no new disk, and waits to be fetched again or removed.
    Quarantined {
        /// What was found, in one line.
        why: String,
    },
}

/// How a whole image compared with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The image.
    pub checksum: Checksum,
    /// What was read.
    pub read: Bytes,
    /// What it is now.
    pub condition: Condition,
}

/// What asking the publisher came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// There is no other than the cached one.
    Current(Checksum),
    /// Another was fetched and proven: new VMs get it.
    New {
        /// What new VMs got before.
        from: Checksum,
        /// What they get now.
        to: Checksum,
    },
    /// The template was never fetched: nothing was done.
    NotCached,
}

/// A fetch under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetching {
    /// The templates that wait for it.
    pub templates: Vec<TemplateName>,
    /// Where it comes from, without user, password and query.
    pub url: String,
    /// What is being done.
    pub stage: FetchStage,
    /// Of that stage; what an earlier try left is counted.
    pub done: Bytes,
    /// The end of that stage, if it is known.
    pub total: Option<Bytes>,
}

/// The steps of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchStage {
    /// The publisher is asked which image it is.
    Asking,
    /// The file comes in, and is hashed as it comes.
    Downloading,
    /// It is unpacked.
    Unpacking,
    /// It failed in passing; another try begins soon.
    Waiting,
}

impl FetchStage {
    /// As it is told: `asking`, `downloading`, `unpacking`, `waiting`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Downloading => "downloading",
            Self::Unpacking => "unpacking",
            Self::Waiting => "waiting",
        }
    }
}

/// Says whether a VM's disk is based on an image. Asked while nobody can begin to use it.
pub type ImageUsers = dyn Fn(&Checksum) -> bool + Send + Sync;
