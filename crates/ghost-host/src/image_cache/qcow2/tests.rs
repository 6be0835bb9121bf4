use super::*;

const CLUSTER: usize = 64 << 10;

/// A qcow2 of version 3 and 2 GiB that holds nothing, as `qemu-img create` lays it out: header, refcount
/// table, refcount block, L1 table.
pub(crate) fn image() -> Vec<u8> {
    let mut image = vec![0; 3 * CLUSTER + 32];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(2_u64 << 30).to_be_bytes());
    put(36, &4_u32.to_be_bytes());
    put(40, &(3 * CLUSTER as u64).to_be_bytes());
    put(48, &(CLUSTER as u64).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &112_u32.to_be_bytes());
    // The first refcount block, and the counts of the four clusters.
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    put(2 * CLUSTER, &[0, 1, 0, 1, 0, 1, 0, 1]);
    image
}

fn size_of(image: &[u8]) -> Result<Bytes, Qcow2Error> {
    virtual_size(&image[..image.len().min(HEADER)], Bytes(image.len() as u64))
}

fn with(at: usize, byte: u8) -> Result<Bytes, Qcow2Error> {
    let mut image = image();
    image[at] = byte;
    size_of(&image)
}

/// With an extension, and so much of data as it says; the rest of the cluster is zeros.
fn extended(kind: u32, length: u32) -> Result<Bytes, Qcow2Error> {
    let mut image = image();
    image[112..116].copy_from_slice(&kind.to_be_bytes());
    image[116..120].copy_from_slice(&length.to_be_bytes());
    size_of(&image)
}

#[test]
fn a_standalone_image_tells_its_virtual_size() {
    assert_eq!(size_of(&image()), Ok(Bytes(2 << 30)));
    assert_eq!(with(7, 2), Ok(Bytes(2 << 30)));
    assert_eq!(with(79, 0b1001), Ok(Bytes(2 << 30)));
}

#[test]
fn an_image_that_reads_other_files_is_refused() {
    assert_eq!(with(15, 1), Err(Qcow2Error::BackingFile));
    assert_eq!(with(8, 0x80), Err(Qcow2Error::BackingFile));
    assert_eq!(with(79, 0b100), Err(Qcow2Error::DataFile));
    assert_eq!(extended(0x4441_5441, 8), Err(Qcow2Error::DataFile));
}

#[test]
fn a_backing_format_without_a_backing_file_and_feature_names_do_no_harm() {
    assert_eq!(extended(0xe279_2aca, 5), Ok(Bytes(2 << 30)));
    assert_eq!(extended(0x6803_f857, 384), Ok(Bytes(2 << 30)));
}

#[test]
fn every_other_oddity_has_its_own_words() {
    assert_eq!(with(7, 1), Err(Qcow2Error::Version(1)));
    assert_eq!(with(35, 2), Err(Qcow2Error::Encrypted));
    assert_eq!(extended(0x0537_be77, 16), Err(Qcow2Error::Encrypted));
    assert_eq!(with(79, 0b10), Err(Qcow2Error::Corrupt));
    assert_eq!(with(79, 0b10_0000), Err(Qcow2Error::Features(0b10_0000)));
    assert_eq!(with(23, 8), Err(Qcow2Error::ClusterBits(8)));
    assert_eq!(with(23, 22), Err(Qcow2Error::ClusterBits(22)));
    assert_eq!(with(28, 0), Err(Qcow2Error::Size(0)));
    assert_eq!(with(24, 1), Err(Qcow2Error::Size((1 << 56) + (2 << 30))));
    assert_eq!(with(103, 100), Err(Qcow2Error::HeaderLength(100)));
    assert_eq!(with(103, 113), Err(Qcow2Error::HeaderLength(113)));
    assert_eq!(with(100, 1), Err(Qcow2Error::HeaderLength((1 << 24) + 112)));
    assert_eq!(with(99, 7), Err(Qcow2Error::RefcountOrder(7)));
    assert_eq!(with(104, 2), Err(Qcow2Error::Compression(2)));
    assert_eq!(extended(1, u32::MAX), Err(Qcow2Error::Extensions));
    assert_eq!(extended(1, 65_536 - 119), Err(Qcow2Error::Extensions));
    assert_eq!(virtual_size(&image()[..79], Bytes(79)), Err(Qcow2Error::TooShort(79)));
}

#[test]
fn tables_outside_of_the_file_or_of_impossible_sizes_are_refused() {
    let l1_of_extended_entries = with(79, 0b1_0000);
    assert_eq!(l1_of_extended_entries, Err(Qcow2Error::TableSize("L1 table")));
    assert_eq!(with(39, 3), Err(Qcow2Error::TableSize("L1 table")));
    assert_eq!(with(36, 0x80), Err(Qcow2Error::TableSize("L1 table")));
    assert_eq!(with(39, 5), Err(Qcow2Error::Table("L1 table")));
    assert_eq!(with(40, 0xff), Err(Qcow2Error::Table("L1 table")));
    assert_eq!(with(47, 1), Err(Qcow2Error::Table("L1 table")));
    assert_eq!(with(59, 0), Err(Qcow2Error::TableSize("refcount table")));
    assert_eq!(with(56, 1), Err(Qcow2Error::TableSize("refcount table")));
    assert_eq!(with(50, 1), Err(Qcow2Error::Table("refcount table")));
    assert_eq!(with(53, 0), Err(Qcow2Error::Table("refcount table")));
    assert_eq!(with(60, 1), Err(Qcow2Error::TableSize("snapshot table")));
    assert_eq!(with(63, 1), Err(Qcow2Error::Table("snapshot table")));
}

#[test]
fn other_formats_are_named() {
    let mut raw = vec![0; 4096];
    raw[510..512].copy_from_slice(b"\x55\xaa");
    let cases: [(&[u8], &str); 4] = [
        (b"", "is not a qcow2 but empty"),
        (&raw, "is not a qcow2 but a raw disk image"),
        (b"<!DOCTYPE html>", "is not a qcow2 but a web page"),
        (b"KDMV\x01", "is not a qcow2 but a VMDK"),
    ];
    for (start, words) in cases {
        assert_eq!(size_of(start).unwrap_err().to_string(), words);
    }
}

/// A sequence that is the same in every run (Steele and others, "SplitMix").
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One to eight bytes of the header are others, most of them where the fields are; then up to half of
/// the file is missing.
fn fuzzed(seed: u64) -> Vec<u8> {
    const INTERESTING: [u8; 6] = [0, 1, 0x7f, 0x80, 0xff, 0x44];
    let (mut state, mut image) = (seed, image());
    let mut below = |n: usize| usize::try_from(splitmix(&mut state) % n as u64).unwrap();
    for _ in 0..=below(8) {
        let at = if below(4) == 0 { below(CLUSTER) } else { below(136) };
        image[at] =
            if below(2) == 0 { INTERESTING[below(6)] } else { u8::try_from(below(256)).unwrap() };
    }
    if below(4) == 0 {
        image.truncate(CLUSTER + below(2 * CLUSTER));
    }
    image
}

#[test]
fn of_10_000_fuzzed_headers_none_is_believed_that_reads_another_file_or_beyond_its_own() {
    let (mut believed, mut refused) = (0, 0);
    for seed in 0..10_000 {
        let image = fuzzed(seed);
        let Ok(size) = size_of(&image) else {
            refused += 1;
            continue;
        };
        believed += 1;
        let u64_at = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
        let u32_at = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().unwrap());
        assert!((1..=MAX_SIZE).contains(&size.0) && size.0 == u64_at(24), "seed {seed}: {size:?}");
        assert_eq!((u64_at(8), u32_at(16), u32_at(32)), (0, 0, 0), "seed {seed}");
        if u32_at(4) == 3 {
            assert_eq!(u64_at(72) & !0b1_1001, 0, "seed {seed}");
        }
        let l1_end = u64_at(40) + u64::from(u32_at(36)) * 8;
        assert!(l1_end <= image.len() as u64, "seed {seed}: {l1_end}");
        assert!(u64_at(48) < image.len() as u64, "seed {seed}");
    }
    assert!(believed > 500 && refused > 2_000, "{believed} believed, {refused} refused");
}
