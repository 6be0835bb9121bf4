//! systemd's journal, natively: each field of a line is one of the entry, so that `journalctl REQUEST_ID=…` finds it.
//!
//! Invariant: one datagram is one entry; a value can't begin another field.
//!
//! Source: systemd, "Native Journal Protocol" (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::borrow::Cow;
use std::io::{self, IoSlice, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tracing::Level;

use super::escape::clipped;
use super::line::{Line, Value};
use super::queue::{Batch, Sink, Told};
use super::text;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// What `journalctl -t` finds.
const IDENTIFIER: &str = "ghost-agent";
/// How long the journal may take for one entry before it is lost.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// Whether standard output, or standard error, is a stream to the journal: `stream` is the variable `JOURNAL_STREAM`, the
/// device and the inode of it.
pub(super) fn is_stream(stream: &str, outputs: [BorrowedFd<'_>; 2]) -> bool {
    let Some((device, inode)) = stream.split_once(':') else { return false };
    let same = |output: BorrowedFd<'_>| {
        let file = std::fs::File::from(output.try_clone_to_owned().ok()?);
        let metadata = file.metadata().ok()?;
        Some(metadata.dev().to_string() == device && metadata.ino().to_string() == inode)
    };
    outputs.into_iter().any(|output| same(output) == Some(true))
}

/// Writes `line` as an entry to `out`.
pub(super) fn write(line: &Line<'_>, out: &mut Vec<u8>) {
    let mut message = String::new();
    text::body(line, &mut message);
    put(out, "MESSAGE", &message);
    put(out, "PRIORITY", priority(line.level));
    put(out, "SYSLOG_IDENTIFIER", IDENTIFIER);
    put(out, "TARGET", line.target);
    if let Some((file, number)) = line.place {
        put(out, "CODE_FILE", file);
        put(out, "CODE_LINE", &number.to_string());
    }
    for field in line.fields() {
        let name = name(field.name);
        match &field.value {
            Value::Text(value) => put(out, &name, &cut(value)),
            Value::Bool(value) => put(out, &name, &value.to_string()),
            Value::Int(value) => put(out, &name, &value.to_string()),
            Value::Uint(value) => put(out, &name, &value.to_string()),
            Value::Float(value) => put(out, &name, &value.to_string()),
        }
    }
    let fault = &line.event.fault;
    for (name, lines) in [("ERROR_CHAIN", &fault.chain), ("BACKTRACE", &fault.backtrace)] {
        if !lines.is_empty() {
            let lines: Vec<_> = lines.iter().map(|line| cut(line)).collect();
            put(out, name, &lines.join("\n"));
        }
    }
}

/// Source: syslog(3).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// Upper case letters, digits and underscores, beginning with a letter; none that the journal gives a meaning of its own.
fn name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = name.chars().map(plain).collect();
    let taken = ["MESSAGE", "PRIORITY", "TARGET", "BACKTRACE", "ERRNO", "DOCUMENTATION", "TID"];
    let theirs = ["CODE_", "SYSLOG_", "OBJECT_", "COREDUMP_", "MESSAGE_", "INVOCATION_"];
    let fits = name.starts_with(|c: char| c.is_ascii_uppercase())
        && !taken.contains(&name.as_str())
        && !theirs.iter().any(|prefix| name.starts_with(prefix));
    if fits { name } else { format!("F_{name}") }
}

/// As long as a value may be, as in every other format.
fn cut(value: &str) -> Cow<'_, str> {
    match clipped(value) {
        (value, 0) => value.into(),
        (value, more) => format!("{value}… ({more} bytes more)").into(),
    }
}

fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
        out.extend_from_slice(&length.to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// The journal, as a sink.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    notice: Box<dyn Fn(u64) -> Vec<u8> + Send>,
}

impl Journal {
    /// # Errors
    /// If nobody listens at `path`.
    pub(super) fn at(path: &Path, notice: Box<dyn Fn(u64) -> Vec<u8> + Send>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        // An empty entry is ignored: it shows whether somebody is there.
        socket.send_to(&[], path)?;
        Ok(Self { socket, path: path.to_owned(), notice })
    }

    /// By path each time: journald may be restarted.
    fn send(&self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send_to(entry, &self.path) {
            Ok(_) => Ok(()),
            // Too large for a datagram.
            Err(error) if matches!(error.raw_os_error(), Some(raw) if raw == TOO_LARGE || raw == NO_BUFFERS) => {
                self.send_as_file(entry)
            }
            Err(error) => Err(error),
        }
    }

    fn send_as_file(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = std::fs::File::from(memfd_create("journal-entry", flags)?);
        file.write_all(entry)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_LIMIT))?;
        socket.connect(&self.path)?;
        let files = [file.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
        sendmsg(&socket, &[IoSlice::new(&[])], &mut ancillary, SendFlags::empty())?;
        Ok(())
    }
}

const TOO_LARGE: i32 = rustix::io::Errno::MSGSIZE.raw_os_error();
const NO_BUFFERS: i32 = rustix::io::Errno::NOBUFS.raw_os_error();

impl Sink for Journal {
    fn write(&mut self, batch: &Batch) -> u64 {
        batch.lines().map(|entry| u64::from(self.send(entry).is_err())).sum()
    }

    fn tell_lost(&mut self, lost: u64) -> Told {
        match self.send(&(self.notice)(lost)) {
            Ok(()) => Told::Yes,
            Err(_) => Told::NotNow,
        }
    }
}
