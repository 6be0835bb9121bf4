//! A file of the host. Invariant: nothing but a regular file is read, and nothing else waited for.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use ghost_core::domain::Bytes;
use rustix::fs::{Mode, OFlags};
use tokio::io::AsyncReadExt;
use tokio::task::spawn_blocking;
use tokio_util::bytes::{Bytes as Chunk, BytesMut};
use url::Url;

use super::{ImageError, shown};

/// Read at once; tokio hands each read to a thread.
const CHUNK: usize = 1 << 20;

/// A file that is being read.
#[derive(Debug)]
pub(super) struct LocalFile {
    file: tokio::fs::File,
    path: PathBuf,
    length: Bytes,
}

impl LocalFile {
    pub(super) async fn open(url: &Url) -> Result<Self, ImageError> {
        let no_file = || ImageError::NoRegularFile { url: shown(url) };
        let path = url.to_file_path().map_err(|()| no_file())?;
        let asked = path.clone();
        let opened = spawn_blocking(move || open(&asked)).await.map_err(ImageError::Interrupted)?;
        match opened {
            Ok(Some((file, length))) => Ok(Self { file: file.into(), path, length }),
            Ok(None) => Err(no_file()),
            Err(source) => Err(ImageError::Unreadable { path, source }),
        }
    }

    /// When it was opened.
    pub(super) fn length(&self) -> Bytes {
        self.length
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next_chunk(&mut self) -> Result<Option<Chunk>, ImageError> {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        match self.file.read_buf(&mut chunk).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(chunk.freeze())),
            Err(source) => Err(ImageError::Unreadable { path: self.path.clone(), source }),
        }
    }
}

/// `None` for what is no regular file. Looked at before it is opened, since to open a device may do
/// something; and opened so as not to wait, should a pipe take its place in between.
fn open(path: &Path) -> io::Result<Option<(File, Bytes)>> {
    if !path.metadata()?.is_file() {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    Ok(found.is_file().then_some((file, Bytes(found.len()))))
}
