//! Why there is no base image.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::{AppError, Bytes, ErrorKind, FieldViolation, Template};

use super::qcow2::Qcow2Error;
use crate::disk_error::DiskError;

/// A base image could not be had. `Display` is the cause; [`ImageError::remedy`] the remedy. Urls are
/// shown without user, password and query.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum ImageError {
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
    #[error("{url} has the SHA-256 {got}, the catalogue says {expected}")]
    WrongChecksum { url: String, expected: String, got: String },
    /// The right file, but not fit to back a disk.
    #[error("the image {url} {why}")]
    Unfit { url: String, why: Qcow2Error },
    /// The cached file isn't what it was when it was proven.
    #[error("the cached image {} was changed: it {why}", path.display())]
    Changed { path: PathBuf, why: String },
    /// The task was cut short.
    #[error("the download was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl ImageError {
    /// What the reader can do about it, in the imperative.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Disk(_) => "see the cause",
            Self::Unreadable { .. } | Self::NoRegularFile { .. } => {
                "make it a file that the agent's user may read, or correct the url in images.catalog"
            }
            Self::Client(_) => {
                "install the system's certificate authorities (package ca-certificates)"
            }
            Self::Unreachable { .. } => {
                "check the host's network and the url in images.catalog, then try again"
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
            Self::Changed { .. } => {
                "delete the VMs that use it, then remove it: it is fetched again"
            }
            Self::Interrupted(_) => "try again",
        }
    }

    /// An image that isn't what the catalogue says counts as the image server's failure: the text
    /// must reach the caller, and another try may find the server put right. An image that can never be
    /// used makes its template a wrong one.
    const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreadable { .. }
            | Self::NoRegularFile { .. }
            | Self::Client(_)
            | Self::Unreachable { .. }
            | Self::Status { .. }
            | Self::BrokeOff { .. }
            | Self::Stalled { .. }
            | Self::TooSlow { .. }
            | Self::WrongChecksum { .. } => ErrorKind::NetworkUnavailable,
            Self::NoSpace { .. } => ErrorKind::ResourceLimit,
            Self::TooLarge { .. } | Self::Unfit { .. } => ErrorKind::Validation,
            Self::Interrupted(_) => ErrorKind::ShuttingDown,
            Self::Disk(_) | Self::Changed { .. } => ErrorKind::Internal,
        }
    }
}

/// The failure as the caller sees it; several may wait for the same one.
pub(super) fn public(error: &Arc<ImageError>, template: &Template) -> AppError {
    let message = format!("template {}: {error}", template.name);
    let app = match (error.kind(), error.as_ref()) {
        (_, ImageError::Disk(disk)) if disk.takes_no_more() => {
            return AppError::new(ErrorKind::ResourceLimit, message).because(Arc::clone(error));
        }
        // DiskError's text has its own remedy.
        (kind, ImageError::Disk(_)) => {
            return AppError::new(kind, message).because(Arc::clone(error));
        }
        (ErrorKind::Validation, _) => AppError::validation(vec![FieldViolation {
            field: "template".into(),
            problem: error.to_string(),
        }]),
        (kind, _) => AppError::new(kind, message),
    };
    app.remedy(error.remedy()).with("template", &template.name).because(Arc::clone(error))
}

/// The cause that names what happened, such as `Connection refused (os error 111)`.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
