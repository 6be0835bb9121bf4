//! Why there is no base image.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::{
    AppError, Bytes, Checksum, ErrorKind, FieldViolation, Template, TemplateName,
};
use jiff::Timestamp;

use super::fetch::{Pace, RedirectTrouble};
use super::qcow2::Qcow2Error;
use crate::disk_error::DiskError;
use crate::publisher::{SignatureError, SumsError};

/// The cache could not be opened. `Display` is one line, cause then remedy.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another agent has it.
    #[error(
        "another ghost-agent uses the image cache {}; stop it (systemctl stop ghost-agent), or set \
         libvirt.image_cache to a folder of this one's own",
        dir.display()
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A base image could not be had. `Display` is the cause; [`ImageError::remedy`] the remedy. Urls are
/// shown without user, password and query.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum ImageError {
    /// No such image, not in quarantine either.
    #[error("no image {checksum} is cached")]
    NotCached { checksum: Checksum },
    /// A template points to it.
    #[error("{checksum} is what new VMs of {} get", names(templates))]
    Current { checksum: Checksum, templates: Vec<TemplateName> },
    /// Somebody is about to use it, or hashes it.
    #[error("{checksum} is being used for a new VM or verified")]
    Held { checksum: Checksum },
    /// A VM's disk is based on it.
    #[error("{checksum} is under the disk of a VM")]
    InUse { checksum: Checksum },
    /// What is known could not be turned into JSON.
    #[error("cannot encode what is known of an image as JSON")]
    Encode(#[source] serde_json::Error),
    /// A packed file that can't be unpacked, though it is the right one.
    #[error("the image {url} cannot be unpacked: {why}")]
    Damaged { url: String, why: String },
    /// The publisher's list states no digest of the image.
    #[error("{url}: {why}")]
    Unlisted { url: String, why: SumsError },
    /// The catalogue names a key that isn't built in, or is no good.
    #[error("the key '{key}' of the publisher of {url} cannot be used: {why}")]
    NoKey { url: String, key: String, why: String },
    /// The publisher's list isn't signed as the catalogue says.
    #[error("{url}: {why}")]
    Forged { url: String, why: SignatureError },
    /// A list that was good once.
    #[error(
        "the publisher's list for {url} is signed on {signed}, the present image's on {present}: an old \
         list was given again"
    )]
    Replayed { url: String, signed: Timestamp, present: Timestamp },
    /// The cache's own folder.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A `file://` url whose file can't be read.
    #[error("cannot read the image {}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A `file://` url that names something else than a regular file.
    #[error("the image {url} is not a regular file")]
    NoRegularFile { url: String },
    /// No HTTP client, for want of the system's certificate authorities.
    #[error("cannot prepare a TLS connection")]
    Client(#[source] reqwest::Error),
    /// No answer: no name, no route, no connection, no trusted certificate.
    #[error("cannot reach {url}: {}", innermost(source))]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// An answer, but not the file.
    #[error("{url} answers {status}")]
    Status { url: String, status: reqwest::StatusCode },
    /// The connection ended before the file did.
    #[error("the download of {url} broke off after {received} bytes")]
    BrokeOff {
        url: String,
        received: u64,
        #[source]
        source: reqwest::Error,
    },
    /// Nothing came for the time given.
    #[error("{url} sent nothing for {} s, after {received} bytes", after.as_secs_f32())]
    Stalled { url: String, received: u64, after: Duration },
    /// It came, but too slowly.
    #[error("the download of {url} took longer than {} s", limit.as_secs())]
    TooSlow { url: String, limit: Duration },
    /// The file is larger than an image may be.
    #[error("{url} is larger than {limit}, the most that an image may have")]
    TooLarge { url: String, limit: Bytes },
    /// The cache's disk is too full for it.
    #[error("the image needs {needed} in {}, where {free} are free", dir.display())]
    NoSpace { dir: PathBuf, needed: Bytes, free: Bytes },
    /// Not the file that the catalogue means.
    #[error("{url} has the digest {got}, the catalogue or its publisher says {expected}")]
    WrongChecksum { url: String, expected: String, got: String },
    /// The right file, but not fit to back a disk.
    #[error("the image {url} {why}")]
    Unfit { url: String, why: Qcow2Error },
    /// The task was cut short.
    #[error("the work on the image was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
    /// A server whose certificate nobody vouches for.
    #[error("the certificate of {url} is not trusted: {source}")]
    Untrusted {
        url: String,
        #[source]
        source: rustls::Error,
    },
    /// A server with which no encryption could be agreed on.
    #[error("no encrypted connection to {url}: {source}")]
    Tls {
        url: String,
        #[source]
        source: rustls::Error,
    },
    /// A redirect that is not followed.
    #[error("{url} {why}")]
    Redirect { url: String, why: RedirectTrouble },
    /// An answer that is packed for transport, though that was not asked for.
    #[error("{url} answers with the content encoding {encoding}")]
    Encoded { url: String, encoding: String },
    /// Something comes again and again, but hardly anything.
    #[error(
        "{url} sends less than {} bytes in {} s, after {received} bytes",
        pace.least.0, pace.per.as_secs_f32()
    )]
    Crawls { url: String, received: u64, pace: Pace },
    /// A document that is no list of digests, nor a signature.
    #[error("{url} is longer than {limit}, the most that a list of digests may have")]
    LongDocument { url: String, limit: Bytes },
    /// Nothing at all.
    #[error("{url} is empty")]
    Empty { url: String },
    /// The disk took no more in the middle of it.
    #[error("the disk is full: cannot write {}; its first {} bytes are kept", path.display(), kept.0)]
    DiskFull {
        path: PathBuf,
        kept: Bytes,
        #[source]
        source: std::io::Error,
    },
    /// Another than the agent has written to a file that was coming in.
    #[error("{} was changed by somebody else during the download", path.display())]
    PartChanged { path: PathBuf },
}

impl ImageError {
    /// What the reader can do about it, in the imperative.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NotCached { .. } => "list the images for those that are",
            Self::Current { .. } => {
                "update the template or have it forgotten, then remove the image"
            }
            Self::Held { .. } => "try again in a moment",
            Self::InUse { .. } => "delete the VMs that are based on it, then remove it",
            Self::Encode(_) => "report it as a fault of the agent",
            Self::Damaged { .. } => {
                "use another mirror or an unpacked image, and tell its publisher"
            }
            Self::Unlisted { .. } => {
                "compare the list with the template's row in the catalogue, and correct images.catalog"
            }
            Self::NoKey { .. } => {
                "correct the key's name in images.catalog, or upgrade ghost-agent"
            }
            Self::Forged { .. } => {
                "use another mirror; if that has the same, ask the publisher before you trust it"
            }
            Self::Replayed { .. } => {
                "try again later or use another mirror; if the publisher took the newer image back: agentctl \
                 image remove TEMPLATE starts anew"
            }
            Self::Disk(_) => "see the cause",
            Self::Unreadable { .. } | Self::NoRegularFile { .. } => {
                "make it a file that the agent's user may read, or correct the url in images.catalog"
            }
            Self::Client(_) => {
                "install the system's certificate authorities (package ca-certificates)"
            }
            Self::Unreachable { .. } => {
                "check the host's network, its proxy settings and the url in images.catalog, then try again"
            }
            Self::Status { .. } => "correct the url in images.catalog, or try again later",
            Self::BrokeOff { .. } | Self::Stalled { .. } | Self::TooSlow { .. } => {
                "try again, or set a nearer mirror in images.catalog"
            }
            Self::TooLarge { .. } => "use a smaller image, such as a compressed qcow2",
            Self::NoSpace { .. } => {
                "free some space there, or set libvirt.image_cache to another disk"
            }
            Self::WrongChecksum { .. } => {
                "compare both with the publisher's checksums: a url that always names the newest image \
                 changes its content; correct url or checksum in images.catalog"
            }
            Self::Unfit { .. } => {
                "make one with: qemu-img convert -O qcow2 SOURCE IMAGE, and put it in images.catalog"
            }
            Self::Interrupted(_) => "try again",
            Self::Untrusted { .. } => {
                "check the host's clock and its certificate authorities (package ca-certificates); the \
                 authority of a mirror of your own belongs among them"
            }
            Self::Tls { .. } => {
                "check that the url in images.catalog names a server that speaks TLS 1.2 or 1.3"
            }
            Self::Redirect { .. } => {
                "put the url that it leads to, with https, in images.catalog, or use another mirror"
            }
            Self::Encoded { .. } => "use a mirror that sends files as they are",
            Self::Crawls { .. } => {
                "try again: it goes on where it stopped; or set a nearer mirror in images.catalog"
            }
            Self::LongDocument { .. } => "correct the url of the list in images.catalog",
            Self::Empty { .. } => "correct the url in images.catalog, or try again later",
            Self::DiskFull { .. } => {
                "free some space there, or set libvirt.image_cache to another disk, then try again: it goes \
                 on where it stopped"
            }
            Self::PartChanged { .. } => {
                "find out what else writes to the image cache, then try again"
            }
        }
    }

    /// An image that isn't what the catalogue says counts as the image server's failure: the text
    /// must reach the caller, and another try may find the server put right. An image that can never be
    /// used makes its template a wrong one.
    const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotCached { .. } => ErrorKind::NotFound,
            Self::Current { .. } | Self::InUse { .. } => ErrorKind::WrongState,
            Self::Held { .. } => ErrorKind::Busy,
            Self::Unlisted { .. }
            | Self::NoKey { .. }
            | Self::Forged { .. }
            | Self::Replayed { .. }
            | Self::Unreadable { .. }
            | Self::NoRegularFile { .. }
            | Self::Client(_)
            | Self::Unreachable { .. }
            | Self::Status { .. }
            | Self::BrokeOff { .. }
            | Self::Stalled { .. }
            | Self::TooSlow { .. }
            | Self::WrongChecksum { .. }
            | Self::Untrusted { .. }
            | Self::Tls { .. }
            | Self::Redirect { .. }
            | Self::Encoded { .. }
            | Self::Crawls { .. }
            | Self::LongDocument { .. }
            | Self::Empty { .. } => ErrorKind::NetworkUnavailable,
            Self::NoSpace { .. } | Self::DiskFull { .. } => ErrorKind::ResourceLimit,
            Self::TooLarge { .. } | Self::Unfit { .. } | Self::Damaged { .. } => {
                ErrorKind::Validation
            }
            Self::Interrupted(_) => ErrorKind::ShuttingDown,
            Self::Disk(_) | Self::Encode(_) | Self::PartChanged { .. } => ErrorKind::Internal,
        }
    }
}

/// The failure as the caller sees it, where it is about no template.
pub(super) fn of_image(error: Arc<ImageError>) -> AppError {
    let app = AppError::new(kind_of(&error), error.to_string());
    let app = match error.as_ref() {
        // DiskError's text has its own remedy.
        ImageError::Disk(_) => app,
        other => app.remedy(other.remedy()),
    };
    app.because(error)
}

fn kind_of(error: &ImageError) -> ErrorKind {
    match error {
        ImageError::Disk(disk) if disk.takes_no_more() => ErrorKind::ResourceLimit,
        other => other.kind(),
    }
}

fn names(templates: &[TemplateName]) -> String {
    templates.iter().map(TemplateName::as_str).collect::<Vec<_>>().join(", ")
}

/// The failure as the caller sees it; several may wait for the same one.
pub(super) fn of_template(error: Arc<ImageError>, template: &Template) -> AppError {
    let message = format!("template {}: {error}", template.name);
    let app = match (kind_of(&error), error.as_ref()) {
        // DiskError's text has its own remedy.
        (kind, ImageError::Disk(_)) => return AppError::new(kind, message).because(error),
        (ErrorKind::Validation, _) => AppError::validation(vec![FieldViolation {
            field: "template".into(),
            problem: error.to_string(),
        }]),
        (kind, _) => AppError::new(kind, message),
    };
    app.remedy(error.remedy()).with("template", &template.name).because(error)
}

/// The cause that names what happened, such as `Connection refused (os error 111)`.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
