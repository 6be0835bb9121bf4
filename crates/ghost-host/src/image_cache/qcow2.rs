//! The header of a qcow2 file (QEMU, `docs/interop/qcow2.rst`), read by ourselves.
//!
//! Invariant: an image that passes is a qcow2 that reads no other file and needs no key. QEMU is never
//! asked to guess: a raw image could claim to be a qcow2 whose backing file is the host's `/etc/shadow`.

use ghost_core::domain::Bytes;

/// How much of a file [`virtual_size`] wants to see: the whole of a usual cluster, where every header
/// extension lies.
pub(super) const HEADER: usize = 64 << 10;

/// Largest virtual size that is believed, 16 TiB; a template's disk is at most 1000 GiB.
const MAX_SIZE: u64 = 16 << 40;

/// The largest L1 table that QEMU reads, in bytes (its `QCOW_MAX_L1_SIZE`).
const MAX_L1: u64 = 32 << 20;

/// The largest refcount table that QEMU reads, in bytes (its `QCOW_MAX_REFTABLE_SIZE`).
const MAX_REFCOUNTS: u64 = 8 << 20;

/// The most snapshots that QEMU reads (its `QCOW_MAX_SNAPSHOTS`).
const MAX_SNAPSHOTS: u32 = 65_536;

/// The length of the header of version 2, and the least of version 3.
const LENGTHS: (u32, u32) = (72, 104);

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
    /// A header length that no qcow2 of version 3 has.
    #[error("has a header of {0} bytes, possible are the multiples of 8 from 104 to a cluster")]
    HeaderLength(u32),
    /// Reference counts of an impossible width.
    #[error("has reference counts of 2^{0} bits, at most 2^6 are possible")]
    RefcountOrder(u32),
    /// Clusters that are compressed in a way that isn't known.
    #[error("has clusters compressed in an unknown way (type {0})")]
    Compression(u8),
    /// The header's extensions run out of the first cluster, or of what is read of it.
    #[error("has header extensions that do not end")]
    Extensions,
    /// A table that does not lie in the file, or not where QEMU could read it; `0` names it.
    #[error("has its {0} outside of the file, or misplaced")]
    Table(&'static str),
    /// A table that is too large, or too small for the virtual size; `0` names it.
    #[error("has a {0} of an impossible size")]
    TableSize(&'static str),
}

/// The size of the disk in the image of `length` bytes that begins with `start`, of which up to
/// [`HEADER`] bytes are looked at.
///
/// # Errors
/// If the image is not a standalone, unencrypted qcow2.
pub(super) fn virtual_size(start: &[u8], length: Bytes) -> Result<Bytes, Qcow2Error> {
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
    let cluster_bits = match header.u32(20)? {
        bits @ 9..=21 => bits,
        bits => return Err(Qcow2Error::ClusterBits(bits)),
    };
    let size = match header.u64(24)? {
        size @ 1..=MAX_SIZE => size,
        size => return Err(Qcow2Error::Size(size)),
    };
    let cluster = 1_u64 << cluster_bits;
    let end = header_length(&header, version, cluster)?;
    check_extensions(&header, end, cluster)?;
    let entry = if features & EXTENDED_L2 == 0 { 8 } else { 16 };
    check_tables(&header, Layout { cluster, entry, size, length: length.0 })?;
    Ok(Bytes(size))
}

/// Where the header ends and its extensions begin.
fn header_length(header: &Header<'_>, version: u32, cluster: u64) -> Result<usize, Qcow2Error> {
    let length = if version == 2 { LENGTHS.0 } else { header.u32(100)? };
    let possible = length.is_multiple_of(8) && u64::from(length) <= cluster;
    if version == 3 && (length < LENGTHS.1 || !possible) {
        return Err(Qcow2Error::HeaderLength(length));
    }
    if version == 3 {
        match header.u32(96)? {
            0..=6 => {}
            order => return Err(Qcow2Error::RefcountOrder(order)),
        }
    }
    // Zlib, and zstd since QEMU 5.1.
    if length > LENGTHS.1 {
        match header.bytes::<1>(104)? {
            [0 | 1] => {}
            [other] => return Err(Qcow2Error::Compression(other)),
        }
    }
    usize::try_from(length).map_err(|_| Qcow2Error::HeaderLength(length))
}

/// Walks the extensions up to their end mark or the end of the first cluster. QEMU heeds a data file's
/// name only with the feature's bit; an image that names one has no business here either way.
fn check_extensions(header: &Header<'_>, begin: usize, cluster: u64) -> Result<(), Qcow2Error> {
    const END: u32 = 0;
    const DATA_FILE: u32 = 0x4441_5441;
    const LUKS: u32 = 0x0537_be77;
    let mut at = begin;
    while u64::try_from(at).is_ok_and(|at| at + 8 <= cluster) {
        let missing = |_cut_off| Qcow2Error::Extensions;
        let (kind, length) =
            (header.u32(at).map_err(missing)?, header.u32(at + 4).map_err(missing)?);
        match kind {
            END => return Ok(()),
            DATA_FILE => return Err(Qcow2Error::DataFile),
            LUKS => return Err(Qcow2Error::Encrypted),
            _ => {}
        }
        let padded = usize::try_from(length).ok().and_then(|n| n.checked_next_multiple_of(8));
        let next = padded.and_then(|n| at.checked_add(8)?.checked_add(n));
        let inside = |next: &usize| {
            *next <= header.0.len() && u64::try_from(*next).is_ok_and(|next| next <= cluster)
        };
        at = next.filter(inside).ok_or(Qcow2Error::Extensions)?;
    }
    Ok(())
}

/// What the tables must fit.
struct Layout {
    cluster: u64,
    /// Bytes of an L2 entry.
    entry: u64,
    /// The disk's.
    size: u64,
    /// The file's.
    length: u64,
}

fn check_tables(header: &Header<'_>, layout: Layout) -> Result<(), Qcow2Error> {
    const L1: &str = "L1 table";
    const REFCOUNTS: &str = "refcount table";
    const SNAPSHOTS: &str = "snapshot table";
    let placed = |offset: u64, bytes: u64| {
        let end = offset.checked_add(bytes);
        let inside = end.is_some_and(|end| end <= layout.length);
        inside && offset != 0 && offset.is_multiple_of(layout.cluster)
    };
    let (l1, l1_bytes) = (header.u64(40)?, u64::from(header.u32(36)?) * 8);
    let reach = layout.cluster * (layout.cluster / layout.entry);
    if l1_bytes > MAX_L1 || l1_bytes / 8 < layout.size.div_ceil(reach) {
        return Err(Qcow2Error::TableSize(L1));
    }
    if !placed(l1, l1_bytes) {
        return Err(Qcow2Error::Table(L1));
    }
    let (refcounts, clusters) = (header.u64(48)?, u64::from(header.u32(56)?));
    if clusters == 0 || clusters * layout.cluster > MAX_REFCOUNTS {
        return Err(Qcow2Error::TableSize(REFCOUNTS));
    }
    // One entry is enough: the file may end within the last cluster.
    if !placed(refcounts, 8) {
        return Err(Qcow2Error::Table(REFCOUNTS));
    }
    let (snapshots, table) = (header.u32(60)?, header.u64(64)?);
    if snapshots > MAX_SNAPSHOTS {
        return Err(Qcow2Error::TableSize(SNAPSHOTS));
    }
    // The least of an entry.
    let least = u64::from(snapshots) * 40;
    if snapshots == 0 || placed(table, least) { Ok(()) } else { Err(Qcow2Error::Table(SNAPSHOTS)) }
}

/// The feature bit of L2 entries with subclusters.
const EXTENDED_L2: u64 = 1 << 4;

fn check_features(mask: u64) -> Result<(), Qcow2Error> {
    const CORRUPT: u64 = 1 << 1;
    const DATA_FILE: u64 = 1 << 2;
    // Dirty refcounts, compression type, extended L2 entries: QEMU reads all of them.
    const HARMLESS: u64 = 1 | 1 << 3 | EXTENDED_L2;
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
        let bytes = self.0.get(at..at.saturating_add(N)).and_then(|bytes| bytes.try_into().ok());
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
pub(super) mod tests;
