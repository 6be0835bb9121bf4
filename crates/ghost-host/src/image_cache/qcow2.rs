//! The header of a qcow2 file (QEMU, `docs/interop/qcow2.rst`), read by ourselves.
//!
//! Invariant: an image that passes is a qcow2 that reads no other file and needs no key. QEMU is never
//! asked to guess: a raw image could claim to be a qcow2 whose backing file is the host's `/etc/shadow`.

use ghost_core::domain::Bytes;

/// How much of a file [`virtual_size`] wants to see.
pub(super) const HEADER: usize = 512;

/// Largest virtual size that is believed, 16 TiB; a template's disk is at most 1000 GiB.
const MAX_SIZE: u64 = 16 << 40;

/// Why an image can't back a VM's disk; completes the sentence "the image …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Qcow2Error {
    /// Not a qcow2; `0` says what it looks like.
    #[error("is not a qcow2 but {0}")]
    OtherFormat(&'static str),
    /// The file ends within the header.
    #[error("is cut off: {0} bytes are less than a qcow2 header")]
    TooShort(usize),
    /// A version that isn't known.
    #[error("is a qcow of version {0}, only 2 and 3 are supported")]
    Version(u32),
    /// It reads another file for what it doesn't hold itself.
    #[error("has a backing file, which is not allowed: an image must stand alone")]
    BackingFile,
    /// Its data lie in another file.
    #[error("has an external data file, which is not allowed: an image must stand alone")]
    DataFile,
    /// It is encrypted.
    #[error("is encrypted, which is not supported")]
    Encrypted,
    /// QEMU has marked it as corrupt.
    #[error("is marked as corrupt")]
    Corrupt,
    /// Incompatible features that aren't known; the mask of all of them.
    #[error("needs features that are unknown here (mask {0:#x})")]
    Features(u64),
    /// Clusters of an impossible size.
    #[error("has clusters of 2^{0} bytes, only 2^9 to 2^21 are possible")]
    ClusterBits(u32),
    /// A virtual size of 0 or beyond belief.
    #[error("has a virtual size of {0} bytes, possible are 1 byte to 16 TiB")]
    Size(u64),
}

/// The size of the disk in the image that begins with `start`, of which up to [`HEADER`] bytes are
/// looked at.
///
/// # Errors
/// If the image is not a standalone, unencrypted qcow2.
pub(super) fn virtual_size(start: &[u8]) -> Result<Bytes, Qcow2Error> {
    if !start.starts_with(b"QFI\xfb") {
        return Err(Qcow2Error::OtherFormat(format_of(start)));
    }
    let header = Header(start);
    let version = header.u32(4)?;
    let features = match version {
        2 => header.u64(64).map(|_snapshots_offset| 0)?,
        3 => header.u64(72)?,
        other => return Err(Qcow2Error::Version(other)),
    };
    check_features(features)?;
    if header.u64(8)? != 0 || header.u32(16)? != 0 {
        return Err(Qcow2Error::BackingFile);
    }
    if header.u32(32)? != 0 {
        return Err(Qcow2Error::Encrypted);
    }
    match header.u32(20)? {
        9..=21 => {}
        bits => return Err(Qcow2Error::ClusterBits(bits)),
    }
    match header.u64(24)? {
        size @ 1..=MAX_SIZE => Ok(Bytes(size)),
        size => Err(Qcow2Error::Size(size)),
    }
}

fn check_features(mask: u64) -> Result<(), Qcow2Error> {
    const CORRUPT: u64 = 1 << 1;
    const DATA_FILE: u64 = 1 << 2;
    // Dirty refcounts, compression type, extended L2 entries: QEMU reads all of them.
    const HARMLESS: u64 = 1 | 1 << 3 | 1 << 4;
    if mask & DATA_FILE != 0 {
        Err(Qcow2Error::DataFile)
    } else if mask & CORRUPT != 0 {
        Err(Qcow2Error::Corrupt)
    } else if mask & !HARMLESS != 0 {
        Err(Qcow2Error::Features(mask))
    } else {
        Ok(())
    }
}

struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], Qcow2Error> {
        let bytes = self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or(Qcow2Error::TooShort(self.0.len()))
    }

    fn u32(&self, at: usize) -> Result<u32, Qcow2Error> {
        self.bytes(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, Qcow2Error> {
        self.bytes(at).map(u64::from_be_bytes)
    }
}

/// What a file that begins with `start` looks like, for the message only.
fn format_of(start: &[u8]) -> &'static str {
    const MAGICS: [(&[u8], &str); 10] = [
        (b"KDMV", "a VMDK"),
        (b"# Disk DescriptorFile", "a VMDK descriptor"),
        (b"conectix", "a VHD"),
        (b"vhdxfile", "a VHDX"),
        (b"\x1f\x8b", "compressed with gzip"),
        (b"\xfd7zXZ", "compressed with xz"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (b"PK\x03\x04", "a zip archive"),
        (b"<", "a web page"),
        (b"{", "a JSON document"),
    ];
    match MAGICS.iter().find(|(magic, _)| start.starts_with(magic)) {
        _ if start.is_empty() => "empty",
        Some((_, name)) => name,
        None if start.get(510..512) == Some(b"\x55\xaa") => "a raw disk image",
        None => "of an unknown format, perhaps a raw disk image",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A qcow2 of version 3 and 2 GiB, as far as its header goes.
    pub(crate) fn image() -> Vec<u8> {
        let mut image = vec![0; HEADER];
        image[..4].copy_from_slice(b"QFI\xfb");
        image[7] = 3;
        image[23] = 16;
        image[24..32].copy_from_slice(&(2_u64 << 30).to_be_bytes());
        image[103] = 104;
        image
    }

    fn with(at: usize, byte: u8) -> Result<Bytes, Qcow2Error> {
        let mut image = image();
        image[at] = byte;
        virtual_size(&image)
    }

    #[test]
    fn a_standalone_image_tells_its_virtual_size() {
        assert_eq!(virtual_size(&image()), Ok(Bytes(2 << 30)));
        assert_eq!(with(7, 2), Ok(Bytes(2 << 30)));
        assert_eq!(with(79, 0b1_1001), Ok(Bytes(2 << 30)));
    }

    #[test]
    fn an_image_that_reads_other_files_is_refused() {
        assert_eq!(with(15, 1), Err(Qcow2Error::BackingFile));
        assert_eq!(with(8, 0x80), Err(Qcow2Error::BackingFile));
        assert_eq!(with(79, 0b100), Err(Qcow2Error::DataFile));
    }

    #[test]
    fn every_other_oddity_has_its_own_words() {
        assert_eq!(with(7, 1), Err(Qcow2Error::Version(1)));
        assert_eq!(with(35, 2), Err(Qcow2Error::Encrypted));
        assert_eq!(with(79, 0b10), Err(Qcow2Error::Corrupt));
        assert_eq!(with(79, 0b10_0000), Err(Qcow2Error::Features(0b10_0000)));
        assert_eq!(with(23, 8), Err(Qcow2Error::ClusterBits(8)));
        assert_eq!(with(23, 22), Err(Qcow2Error::ClusterBits(22)));
        assert_eq!(with(28, 0), Err(Qcow2Error::Size(0)));
        assert_eq!(with(24, 1), Err(Qcow2Error::Size((1 << 56) + (2 << 30))));
        assert_eq!(virtual_size(&image()[..79]), Err(Qcow2Error::TooShort(79)));
    }

    #[test]
    fn other_formats_are_named() {
        let mut raw = vec![0; HEADER];
        raw[510..].copy_from_slice(b"\x55\xaa");
        let cases: [(&[u8], &str); 4] = [
            (b"", "is not a qcow2 but empty"),
            (&raw, "is not a qcow2 but a raw disk image"),
            (b"<!DOCTYPE html>", "is not a qcow2 but a web page"),
            (b"KDMV\x01", "is not a qcow2 but a VMDK"),
        ];
        for (start, words) in cases {
            assert_eq!(virtual_size(start).unwrap_err().to_string(), words);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic_or_believe_an_impossible_size(tail in proptest::collection::vec(any::<u8>(), 0..120)) {
            let image = [b"QFI\xfb\0\0\0".as_slice(), &tail].concat();
            if let Ok(size) = virtual_size(&image) {
                prop_assert!((1..=MAX_SIZE).contains(&size.0));
            }
        }
    }
}
