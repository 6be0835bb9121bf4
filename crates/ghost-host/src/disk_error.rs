//! Invariant: a failure of the local disk names the path, and the remedy where the cause is one
//! that the owner can cure.

use std::io;
use std::path::{Path, PathBuf};

use ghost_core::domain::{AppError, ErrorKind};

/// A file or a folder of the agent could not be read or written.
///
/// `Display` is one line, cause then remedy; the operating system's error is the source.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {}; {}", path.display(), cause(source), remedy(source))]
pub struct DiskError {
    /// What was tried, in the imperative, such as `write`.
    pub action: &'static str,
    /// What it was tried on.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// For `map_err`: wraps what the operating system said of `action` on `path`.
    pub fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }

    /// True if the disk takes nothing more: it is full, the quota exhausted, or it is read-only.
    #[must_use]
    pub fn takes_no_more(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge
                | io::ErrorKind::ReadOnlyFilesystem
        )
    }
}

fn cause(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full",
        io::ErrorKind::QuotaExceeded => "the disk quota is exhausted",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::NotFound => "no such file or folder",
        io::ErrorKind::IsADirectory => "it is a folder",
        io::ErrorKind::NotADirectory => "a part of the path is not a folder",
        _ => "the operating system reports an error",
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space there, or configure a folder on another disk"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "remount it read-write (dmesg tells if the disk is failing)"
        }
        io::ErrorKind::PermissionDenied => "make it readable and writable by the agent's user",
        io::ErrorKind::NotFound => "create it, or correct the path in the config",
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => {
            "move what is in the way, or correct the path in the config"
        }
        _ => "check the disk (dmesg)",
    }
}

impl From<DiskError> for AppError {
    fn from(error: DiskError) -> Self {
        let kind =
            if error.takes_no_more() { ErrorKind::ResourceLimit } else { ErrorKind::Internal };
        let message =
            format!("cannot {} {}: {}", error.action, error.path.display(), cause(&error.source));
        Self::new(kind, message).remedy(remedy(&error.source)).because(error.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed_with(errno: rustix::io::Errno) -> DiskError {
        DiskError::on("write", Path::new("/var/lib/ghost/x"))(errno.into())
    }

    #[test]
    fn a_full_disk_is_a_resource_limit_with_a_remedy() {
        let error = AppError::from(failed_with(rustix::io::Errno::NOSPC));
        assert_eq!(error.kind(), ErrorKind::ResourceLimit);
        let expected = "cannot write /var/lib/ghost/x: the disk is full; free some space there, \
                        or configure a folder on another disk";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_read_only_file_system_is_named_as_such() {
        let error = AppError::from(failed_with(rustix::io::Errno::ROFS));
        assert_eq!(error.kind(), ErrorKind::ResourceLimit);
        let text = error.to_string();
        assert!(text.contains("the file system is read-only; remount it read-write"), "{text}");
    }
}
