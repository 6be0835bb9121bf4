//! Whether files have changed. Invariant: two stamps are equal only if nobody wrote, replaced, relinked
//! or re-permitted one of the files in between (the kernel's `ctime` can't be set back).

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::TlsFiles;

/// What the three files looked like, through symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp([Result<Print, io::ErrorKind>; 3]);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Print {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// As they are now.
    pub(super) fn of(files: &TlsFiles) -> Self {
        Self([&files.cert, &files.key, &files.ca].map(|path| print(path)))
    }

    /// Whether one of them is not there.
    pub(super) fn lacks_a_file(&self) -> bool {
        self.0.contains(&Err(io::ErrorKind::NotFound))
    }
}

fn print(path: &Path) -> Result<Print, io::ErrorKind> {
    let file = std::fs::metadata(path).map_err(|error| error.kind())?;
    Ok(Print {
        device: file.dev(),
        inode: file.ino(),
        size: file.size(),
        written: (file.mtime(), file.mtime_nsec()),
        changed: (file.ctime(), file.ctime_nsec()),
    })
}
