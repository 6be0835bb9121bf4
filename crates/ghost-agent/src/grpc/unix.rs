//! The unix socket for local use: mode 0660, group `ghost`; the kernel says who is at the other
//! end.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ghost_core::domain::cause;
use rustix::fs::{Gid, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// Who may open the socket.
const MODE: u32 = 0o660;
/// The group of those who may (decision 23).
const GROUP: &str = "ghost";

/// Why the socket can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another agent answers on it.
    #[error("grpc.unix_socket {}: another agent answers there; stop it, or choose another path", .0.display())]
    InUse(PathBuf),
    /// Something else has that name.
    #[error("grpc.unix_socket {}: is not a socket; remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// Nobody can tell whether somebody answers on it.
    #[error("grpc.unix_socket {}: cannot tell whether another agent answers there; stop it, remove the socket, or choose another path", path.display())]
    Unclear {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The system refuses.
    #[error("grpc.unix_socket {}: cannot be opened; its folder must exist and be writable by the agent", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// Opens the socket, replacing one that a dead agent left.
///
/// # Errors
/// See [`SocketError`].
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    remove_left_over(path)?;
    // Nobody may connect before the mode is set: the socket is born closed to others.
    let former = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let listener = UnixListener::bind(path);
    rustix::process::umask(former);
    let listener = listener.map_err(io)?;
    give_to_group(path);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE)).map_err(io)?;
    Ok(listener)
}

/// Hands the socket to the group of those who may, unless it is theirs already.
fn give_to_group(path: &Path) {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let Some(wanted) = group_id(&groups, GROUP) else { return };
    if std::fs::metadata(path).is_ok_and(|socket| socket.gid() == wanted) {
        return;
    }
    if let Err(error) = rustix::fs::chown(path, None, Some(Gid::from_raw(wanted))) {
        tracing::warn!(
            error = cause(&error),
            "cannot give the socket to group {GROUP}: its members can't use agentctl"
        );
    }
}

fn remove_left_over(path: &Path) -> Result<(), SocketError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match verdict(knock(path)) {
        Verdict::LeftOver => {}
        Verdict::Alive => return Err(SocketError::InUse(path.to_owned())),
        Verdict::Unclear(errno) => {
            return Err(SocketError::Unclear { path: path.to_owned(), source: errno.into() });
        }
    }
    std::fs::remove_file(path).map_err(|source| SocketError::Io { path: path.to_owned(), source })
}

/// Connects without waiting: an agent that hangs may have a full backlog.
fn knock(path: &Path) -> Result<(), Errno> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)
}

/// Whether somebody listens at a socket.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Alive,
    LeftOver,
    Unclear(Errno),
}

/// What the answer to a knock means (connect(2), unix(7)).
fn verdict(knocked: Result<(), Errno>) -> Verdict {
    match knocked {
        Ok(()) | Err(Errno::AGAIN) => Verdict::Alive,
        Err(Errno::CONNREFUSED | Errno::NOENT) => Verdict::LeftOver,
        Err(errno) => Verdict::Unclear(errno),
    }
}

/// The id of a group in the text of `/etc/group`.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    let mut lines = groups.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nghosts:x:7:\nghost:x:998:alice,bob\n";
        assert_eq!(group_id(groups, "ghost"), Some(998));
        assert_eq!(group_id(groups, "ghos"), None);
        assert_eq!(group_id("ghost:x:", "ghost"), None);
    }

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/agent.sock");
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        drop(first);
        let _second = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    }

    #[test]
    fn only_a_socket_that_refuses_is_a_left_over() {
        assert_eq!(verdict(Err(Errno::CONNREFUSED)), Verdict::LeftOver);
        assert_eq!(verdict(Err(Errno::ACCESS)), Verdict::Unclear(Errno::ACCESS));
        assert_eq!(verdict(Err(Errno::PROTOTYPE)), Verdict::Unclear(Errno::PROTOTYPE));
    }

    #[tokio::test]
    async fn a_socket_whose_backlog_is_full_is_alive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let socket = || {
            let flags = SocketFlags::NONBLOCK;
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
        };
        let (hung, address) = (socket(), SocketAddrUnix::new(&path).unwrap());
        rustix::net::bind(&hung, &address).unwrap();
        rustix::net::listen(&hung, 0).unwrap();
        let waiting: Vec<_> = std::iter::repeat_with(socket)
            .take_while(|client| rustix::net::connect(client, &address).is_ok())
            .collect();
        assert!(!waiting.is_empty());
        assert!(matches!(bind(&path), Err(SocketError::InUse(_))));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_file_of_that_name_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
