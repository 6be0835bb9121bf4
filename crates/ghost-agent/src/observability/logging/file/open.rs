//! An open log file. Invariant: it ends with a whole line.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

/// A line begins with its time, or with `{"timestamp":"` before it.
const HEAD: usize = 64;
/// Bytes that a disk has left if it is not full.
const ROOM: u64 = 16 << 10;

/// An open log file.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    size: u64,
    first_line: Option<Timestamp>,
    /// Device and inode.
    id: (u64, u64),
    /// Where the last append began.
    began: u64,
}

impl Open {
    /// Opens the file at `path` for appending, with mode 0640 if it is made. No link is followed: the folder's owner says
    /// where the log is, and whoever may only put a link there does not.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            DirBuilder::new().recursive(true).mode(0o750).create(folder)?;
        }
        // Without NONBLOCK the open of a FIFO would wait for its reader.
        let how = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, how, Mode::from_raw_mode(0o640))?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let size = metadata.len();
        let id = (metadata.dev(), metadata.ino());
        let mut open = Self { file, size, first_line: None, id, began: size };
        open.first_line = open.read_first_line(&metadata);
        if size > 0 && !open.ends_whole()? {
            open.append(b"\n", Timestamp::UNIX_EPOCH)?;
        }
        Ok(open)
    }

    /// The first line's time; the file's own where the line says none, and nothing while there is no line.
    fn read_first_line(&self, metadata: &std::fs::Metadata) -> Option<Timestamp> {
        if self.size == 0 {
            return None;
        }
        let mut head = [0; HEAD];
        let read = self.file.read_at(&mut head, 0).unwrap_or(0);
        let head = String::from_utf8_lossy(&head[..read]);
        let time = head.strip_prefix("{\"timestamp\":\"").unwrap_or(&head);
        let time = time.split(['"', ' ']).next().and_then(|time| time.parse().ok());
        time.or_else(|| Timestamp::from_second(metadata.mtime()).ok())
    }

    fn ends_whole(&self) -> io::Result<bool> {
        let mut last = [0];
        self.file.read_exact_at(&mut last, self.size - 1)?;
        Ok(last == *b"\n")
    }

    /// Appends whole lines. What a full disk cuts is taken back to the last whole line.
    pub(super) fn append(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        self.began = self.size;
        let mut left = lines;
        while !left.is_empty() {
            match rustix::io::write(&self.file, left) {
                Ok(0) => return Err(self.take_back(lines, left, io::ErrorKind::WriteZero.into())),
                Ok(n) => left = &left[n.min(left.len())..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.take_back(lines, left, error.into())),
            }
        }
        self.size += length(lines);
        self.first_line.get_or_insert(now);
        Ok(())
    }

    fn take_back(&mut self, lines: &[u8], left: &[u8], error: io::Error) -> io::Error {
        let written = &lines[..lines.len() - left.len()];
        let whole = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let cut = length(&written[whole..]);
        self.size += length(&written[..whole]);
        // Whoever else shortened the file meanwhile knows its length better.
        let end = self.file.metadata().map_or(self.size + cut, |metadata| metadata.len());
        match cut {
            0 => error,
            cut => self.file.set_len(end.saturating_sub(cut)).err().unwrap_or(error),
        }
    }

    /// How many lines of the last append, which failed, are in the file all the same.
    pub(super) fn lines_kept(&self, lines: &[u8]) -> u64 {
        let kept = usize::try_from(self.size - self.began).unwrap_or(usize::MAX).min(lines.len());
        lines[..kept].iter().map(|byte| u64::from(*byte == b'\n')).sum()
    }

    /// Whether the disk has room for some more lines; it is set aside for them.
    pub(super) fn has_room(&self) -> bool {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let full = [Errno::NOSPC, Errno::DQUOT];
        let asked = fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.size, ROOM);
        // Not every file system can tell.
        asked.err().is_none_or(|error| !full.contains(&error))
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The first line's time, which is not after `now`: if the clock was set back, its age counts from here.
    pub(super) fn first_line(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.first_line = self.first_line.map(|born| born.min(now));
        self.first_line
    }

    /// Whether `path` names it, and it has what was written to it.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        path.symlink_metadata()
            .is_ok_and(|there| (there.dev(), there.ino()) == self.id && there.len() >= self.size)
    }

    /// Whether it has a name at all.
    pub(super) fn is_linked(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
