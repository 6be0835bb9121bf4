//! The operators' unix socket. Invariant: only the control plane's own user (and root) may open it, from
//! the moment that it is there.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use tokio::net::UnixListener;

/// Who may open the socket.
const MODE: u32 = 0o600;

/// Why the socket can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers on it.
    #[error("{}: another server answers there; stop it, or choose another path with --socket", .0.display())]
    InUse(PathBuf),
    /// Something else has that name.
    #[error("{}: is not a socket; remove it, or choose another path with --socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("{}: cannot be opened; its folder must exist and be writable, and its path have at most 107 bytes", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Opens the socket, replacing one that a dead server left.
///
/// # Errors
/// See [`SocketError`].
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    remove_left_over(path)?;
    // Nobody may connect before the mode is set: the socket is born closed to others.
    let former = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let listener = UnixListener::bind(path);
    rustix::process::umask(former);
    let listener = listener.map_err(io)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE)).map_err(io)?;
    Ok(listener)
}

fn remove_left_over(path: &Path) -> Result<(), SocketError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    // A full backlog answers too, by waiting: only a refusal means that nobody is there.
    let knocked = std::os::unix::net::UnixStream::connect(path);
    match knocked.map_err(|error| error.kind()) {
        Err(std::io::ErrorKind::ConnectionRefused) => std::fs::remove_file(path)
            .map_err(|source| SocketError::Io { path: path.to_owned(), source }),
        Ok(_) | Err(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        drop(first);
        let _second = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let file = folder.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(matches!(bind(&file), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
