//! systemd's journal, played by a socket of our own.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;

use ghost_core::domain::{AppError, ErrorKind};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::super::cause;
use super::super::journal::is_stream;
use super::*;

/// A journal.
struct Journal {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Journal {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("socket")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { socket, folder }
    }

    fn around(&self) -> Surroundings {
        Surroundings { palette: Palette::Plain, journal: Some(self.folder.path().join("socket")) }
    }

    /// The next entry, as journald reads it.
    fn entry(&self) -> BTreeMap<String, String> {
        loop {
            let mut bytes = vec![0; 1 << 20];
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes)];
            let got = recvmsg(&self.socket, &mut into, &mut ancillary, RecvFlags::empty()).unwrap();
            let files = ancillary.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            });
            if let Some(file) = files.flatten().next() {
                let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
                return parse(&std::fs::read(path).unwrap());
            }
            if got.bytes > 0 {
                return parse(&bytes[..got.bytes]);
            }
        }
    }
}

fn parse(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| matches!(byte, b'=' | b'\n')).unwrap();
        let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let (begin, length) = match bytes[end] {
            b'=' => (end + 1, bytes[end..].iter().position(|byte| *byte == b'\n').unwrap() - 1),
            _ => {
                let length = u64::from_le_bytes(bytes[end + 1..end + 9].try_into().unwrap());
                (end + 9, usize::try_from(length).unwrap())
            }
        };
        let value = String::from_utf8(bytes[begin..begin + length].to_vec()).unwrap();
        assert_eq!(bytes[begin + length], b'\n');
        assert!(fields.insert(name.clone(), value).is_none(), "{name} twice");
        bytes = &bytes[begin + length + 1..];
    }
    fields
}

#[tokio::test]
async fn an_entry_has_the_fields_of_the_line_and_of_its_spans() {
    let journal = Journal::new();
    let _rig = Rig::among(&journal.around(), |logging| logging.output = LogOutput::Stdout);
    let disk = std::io::Error::other("disk on fire");
    let error = AppError::new(ErrorKind::HypervisorFailed, "cannot define").because(disk);
    let span = tracing::info_span!("call", request_id = "r-1", vm_id = "id-1", message_id = 7);
    span.in_scope(|| {
        let name = "a\nPRIORITY=0\nREQUEST_ID=forged";
        tracing::error!(error = cause(&error), name, "failed");
    });
    let entry = journal.entry();
    for (name, value) in [
        ("PRIORITY", "3"),
        ("SYSLOG_IDENTIFIER", "ghost-agent"),
        ("REQUEST_ID", "r-1"),
        ("VM_ID", "id-1"),
        ("ERROR_CODE", "HYPERVISOR_ERROR"),
        ("ERROR", "cannot define"),
        ("ERROR_CHAIN", "cannot define\ndisk on fire"),
        ("NAME", "a\nPRIORITY=0\nREQUEST_ID=forged"),
        ("F_MESSAGE_ID", "7"),
        ("TARGET", module_path!()),
    ] {
        assert_eq!(entry.get(name).map(String::as_str), Some(value), "{name} in {entry:?}");
    }
    let message = &entry["MESSAGE"];
    assert!(message.starts_with("failed request_id=r-1 vm_id=id-1 "), "{message}");
    assert!(message.ends_with("(cause: disk on fire)") && !message.contains('\n'), "{message}");
    assert!(entry["CODE_FILE"].ends_with("tests/journal.rs"), "{entry:?}");
}

#[tokio::test]
async fn levels_are_syslogs_and_an_entry_that_no_datagram_holds_comes_as_a_file() {
    let journal = Journal::new();
    let rig = Rig::among(&journal.around(), |logging| {
        (logging.output, logging.level) = (LogOutput::Both, LogLevel::Debug);
    });
    tracing::debug!("d");
    tracing::info!("i");
    tracing::warn!("w");
    let priorities: Vec<_> = (0..3).map(|_| journal.entry()["PRIORITY"].clone()).collect();
    assert_eq!(priorities, ["7", "6", "4"]);
    let long = "x".repeat(16_000);
    let names = tracing::info_span!(
        "wide",
        a = &long,
        b = &long,
        c = &long,
        d = &long,
        e = &long,
        f = &long,
        g = &long,
        h = &long,
        i = &long,
        j = &long,
        k = &long,
        l = &long,
        m = &long,
        n = &long,
        o = &long,
    );
    names.in_scope(|| tracing::info!(last = 1, "wide"));
    let entry = journal.entry();
    assert_eq!((entry["O"].len(), &*entry["LAST"]), (16_000, "1"));
    assert_eq!(rig.lines().len(), 4, "and in the file too");
    assert_eq!(rig.log.dropped(), 0);
}

#[tokio::test]
async fn a_journal_that_is_gone_loses_entries_that_are_counted_and_told_when_it_is_back() {
    let mut journal = Journal::new();
    let rig = Rig::among(&journal.around(), |logging| logging.output = LogOutput::Stdout);
    let path = journal.folder.path().join("socket");
    std::fs::remove_file(&path).unwrap();
    tracing::info!("lost");
    rig.log.flush(SOON);
    assert_eq!(rig.log.dropped(), 1);
    journal.socket = UnixDatagram::bind(&path).unwrap();
    journal.socket.set_read_timeout(Some(SOON)).unwrap();
    tracing::info!("back");
    let (first, second) = (journal.entry(), journal.entry());
    assert_eq!((&*first["LOST"], &*second["MESSAGE"]), ("1", "back"));
}

#[test]
fn only_the_stream_that_systemd_names_is_the_journal() {
    use std::os::unix::fs::MetadataExt as _;
    let (file, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let metadata = file.metadata().unwrap();
    let stream = format!("{}:{}", metadata.dev(), metadata.ino());
    assert!(is_stream(&stream, [other.as_fd(), file.as_fd()]));
    assert!(is_stream(&stream, [file.as_fd(), other.as_fd()]));
    assert!(!is_stream(&stream, [other.as_fd(), other.as_fd()]));
    for wrong in ["", "1", ":", "x:y"] {
        assert!(!is_stream(wrong, [file.as_fd(), other.as_fd()]));
    }
}

#[test]
fn a_huge_value_is_cut_here_too() {
    let journal = Journal::new();
    let _rig = Rig::among(&journal.around(), |logging| logging.output = LogOutput::Stdout);
    tracing::error!(huge = "x".repeat(100 << 10), "said");
    let entry = journal.entry();
    assert!(entry["HUGE"].len() < 17 << 10 && entry["HUGE"].ends_with(" bytes more)"));
}
