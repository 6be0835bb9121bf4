//! Unpacking a proven file.
//!
//! Invariant: what is written is never more than the limit, and is complete if [`unpack`] succeeds:
//! every part's own checksum held, and nothing followed the last part. What is written before an
//! error is worth nothing; the caller throws it away. A file that needs a dictionary or a window of
//! more than 128 MiB is refused before that memory is taken.

use std::io::{self, BufReader, Chain, Cursor, ErrorKind, Read, Write};
use std::ops::ControlFlow;

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

use super::compression::Compression;

mod zstd;

/// How much is unpacked between two looks at the limit and at the watcher.
const STEP: usize = 128 * 1024;
/// `xz -9` makes files that need 65 MiB; `xz` itself can be made to ask for 4 GiB.
const XZ_MEMORY_KIB: u32 = 128 * 1024;
/// The longest of the marks that a file begins with.
const MARK: usize = 6;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read of the packed file.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
}

/// Why a file was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The content is not what the name says.
    #[error(
        "the file is named as if it had {named}, and begins as if it had {found}; correct its url in the catalogue"
    )]
    Disagrees {
        /// What the name says.
        named: Compression,
        /// What the first bytes say.
        found: Compression,
    },
    /// More comes out than may.
    #[error(
        "the file unpacks to more than {limit} bytes; it is no usable image, or the limit is too small"
    )]
    TooLarge {
        /// The most that may be written.
        limit: u64,
    },
    /// Cut off, altered, or followed by something else.
    #[error(
        "the {compression} file is damaged, though it has the published hash; tell its publisher"
    )]
    Damaged {
        /// How it is packed.
        compression: Compression,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// The packed file can't be read.
    #[error("cannot read the packed file")]
    Read {
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The unpacked file can't be written.
    #[error("cannot write the unpacked file")]
    Write {
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The watcher wanted it.
    #[error("unpacking was stopped")]
    Stopped,
}

/// Unpacks all of `from` into `to`, at most `limit` bytes; a file without compression is copied.
/// After each step `watch` is told how far it is, and may stop it. Blocks; flushes, but does not
/// sync. Returns how many bytes were written.
///
/// # Errors
/// See [`UnpackError`]; `to` then has a useless beginning.
pub fn unpack(
    from: impl Read,
    to: impl Write,
    named: Compression,
    limit: u64,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<u64, UnpackError> {
    let mut source = Source { inner: from, read: 0, failed: false };
    let mut begin = Vec::with_capacity(MARK);
    (&mut source)
        .take(MARK as u64)
        .read_to_end(&mut begin)
        .map_err(|source| UnpackError::Read { source })?;
    let found = Compression::of_start(&begin);
    if found != named {
        return Err(UnpackError::Disagrees { named, found });
    }
    let whole = BufReader::with_capacity(STEP, Cursor::new(begin).chain(source));
    let mut decoder = match named {
        Compression::None => Decoder::None(whole),
        Compression::Xz => {
            Decoder::Xz(Box::new(XzReader::new_mem_limit(whole, true, XZ_MEMORY_KIB)))
        }
        Compression::Zstd => Decoder::Zstd(Box::new(zstd::Frames::new(whole))),
        Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(whole))),
    };
    copy(&mut decoder, to, named, limit, watch)
}

fn copy<R: Read>(
    decoder: &mut Decoder<R>,
    mut to: impl Write,
    compression: Compression,
    limit: u64,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<u64, UnpackError> {
    let mut step = vec![0; STEP];
    let mut written = 0;
    loop {
        let n = match decoder.read(&mut step) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(source) if decoder.source().failed => return Err(UnpackError::Read { source }),
            Err(source) => return Err(UnpackError::Damaged { compression, source }),
        };
        written += n as u64;
        if written > limit {
            return Err(UnpackError::TooLarge { limit });
        }
        let unpacked = step.get(..n).unwrap_or_default();
        to.write_all(unpacked).map_err(|source| UnpackError::Write { source })?;
        if watch(Progress { read: decoder.source().read, written }).is_break() {
            return Err(UnpackError::Stopped);
        }
    }
    to.flush().map_err(|source| UnpackError::Write { source })?;
    Ok(written)
}

/// The packed file; notes whether an error is its own or the decoder's.
struct Source<R> {
    inner: R,
    read: u64,
    failed: bool,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf);
        match &read {
            Ok(n) => self.read += *n as u64,
            Err(error) => self.failed |= error.kind() != ErrorKind::Interrupted,
        }
        read
    }
}

/// The bytes that were looked at for the mark, and the rest.
type Whole<R> = BufReader<Chain<Cursor<Vec<u8>>, Source<R>>>;

enum Decoder<R: Read> {
    None(Whole<R>),
    Xz(Box<XzReader<Whole<R>>>),
    Zstd(Box<zstd::Frames<Whole<R>>>),
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
}

impl<R: Read> Decoder<R> {
    fn source(&self) -> &Source<R> {
        let whole = match self {
            Self::None(whole) => whole,
            Self::Xz(decoder) => decoder.inner(),
            Self::Zstd(decoder) => decoder.inner(),
            Self::Gzip(decoder) => decoder.get_ref(),
        };
        whole.get_ref().get_ref().1
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(decoder) => decoder.read(buf),
            Self::Xz(decoder) => decoder.read(buf),
            Self::Zstd(decoder) => decoder.read(buf),
            Self::Gzip(decoder) => decoder.read(buf),
        }
    }
}

#[cfg(test)]
mod tests;
