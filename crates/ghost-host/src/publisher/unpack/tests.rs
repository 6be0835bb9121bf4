use super::*;

use Compression::{Gzip, None as Plain, Xz, Zstd};

const PLAIN: &[u8] = include_bytes!("../fixtures/packed/plain");
const PACKED: [(Compression, &[u8]); 3] = [
    (Xz, include_bytes!("../fixtures/packed/plain.xz")),
    (Zstd, include_bytes!("../fixtures/packed/plain.zst")),
    (Gzip, include_bytes!("../fixtures/packed/plain.gz")),
];
/// Two members, one after the other, as `cat a.xz b.xz` makes them.
const TWO: [(Compression, &[u8]); 3] = [
    (Xz, include_bytes!("../fixtures/packed/two.xz")),
    (Zstd, include_bytes!("../fixtures/packed/two.zst")),
    (Gzip, include_bytes!("../fixtures/packed/two.gz")),
];
/// 16 MiB of zeros.
const BOMBS: [(Compression, &[u8]); 3] = [
    (Xz, include_bytes!("../fixtures/packed/zeros.xz")),
    (Zstd, include_bytes!("../fixtures/packed/zeros.zst")),
    (Gzip, include_bytes!("../fixtures/packed/zeros.gz")),
];

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn unpacked(packed: &[u8], named: Compression, limit: u64) -> Result<Vec<u8>, UnpackError> {
    let mut out = Vec::new();
    let written = unpack(packed, &mut out, named, limit, &mut go_on)?;
    assert_eq!(written, out.len() as u64);
    Ok(out)
}

/// A reader that gives one byte at a time.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(1);
        self.0.read(&mut buf[..n])
    }
}

#[test]
fn what_xz_zstd_and_gzip_packed_comes_out_whole() {
    for (compression, packed) in PACKED.into_iter().chain(TWO).chain([(Plain, PLAIN)]) {
        assert_eq!(unpacked(packed, compression, 16_000).unwrap(), PLAIN, "{compression}");
        let mut dripped = Vec::new();
        unpack(Drip(packed), &mut dripped, compression, 16_000, &mut go_on).unwrap();
        assert_eq!(dripped, PLAIN, "{compression}");
    }
}

#[test]
fn one_byte_more_than_the_limit_is_too_large() {
    for (compression, packed) in PACKED.into_iter().chain(TWO).chain([(Plain, PLAIN)]) {
        let error = unpacked(packed, compression, 15_999).unwrap_err();
        assert!(matches!(error, UnpackError::TooLarge { limit: 15_999 }), "{error:?}");
    }
}

#[test]
fn a_bomb_stops_at_the_limit_and_nothing_more_is_written() {
    for (compression, packed) in BOMBS {
        let mut out = Vec::new();
        let error = unpack(packed, &mut out, compression, 1 << 20, &mut go_on).unwrap_err();
        assert!(matches!(error, UnpackError::TooLarge { .. }), "{compression}: {error:?}");
        assert!(out.len() <= 1 << 20, "{compression}: {}", out.len());
    }
}

#[test]
fn a_file_that_asks_for_a_gib_of_memory_is_refused() {
    for (compression, packed) in [
        (Xz, include_bytes!("../fixtures/packed/greedy.xz").as_slice()),
        (Zstd, include_bytes!("../fixtures/packed/greedy.zst")),
    ] {
        let error = unpacked(packed, compression, u64::MAX).unwrap_err();
        assert!(matches!(error, UnpackError::Damaged { .. }), "{compression}: {error:?}");
    }
}

#[test]
fn a_truncated_file_is_damaged_wherever_it_ends() {
    for (compression, packed) in PACKED {
        for end in (MARK..packed.len()).step_by(37).chain([packed.len() - 1]) {
            let error = unpacked(&packed[..end], compression, u64::MAX).unwrap_err();
            assert!(matches!(error, UnpackError::Damaged { .. }), "{compression} {end}: {error:?}");
        }
    }
}

#[test]
fn a_flipped_bit_is_damage_or_changes_nothing() {
    for (compression, packed) in PACKED {
        for n in (MARK..packed.len()).step_by(11) {
            let mut flipped = packed.to_vec();
            flipped[n] ^= 0x10;
            match unpacked(&flipped, compression, 20_000) {
                Ok(out) => assert_eq!(out, PLAIN, "{compression} {n}"),
                Err(UnpackError::Damaged { .. } | UnpackError::TooLarge { .. }) => {}
                Err(error) => panic!("{compression} {n}: {error:?}"),
            }
        }
    }
}

#[test]
fn what_follows_the_last_member_is_damage() {
    for (compression, packed) in PACKED {
        for garbage in [&b"x"[..], b"garbage that is longer than a header", &[0; 3], PLAIN] {
            let longer = [packed, garbage].concat();
            let error = unpacked(&longer, compression, u64::MAX).unwrap_err();
            assert!(matches!(error, UnpackError::Damaged { .. }), "{compression}: {error:?}");
        }
    }
}

#[test]
fn xzs_padding_and_zstds_frames_to_be_skipped_hold_nothing() {
    let padded = [PACKED[0].1, &[0; 8]].concat();
    assert_eq!(unpacked(&padded, Xz, 16_000).unwrap(), PLAIN);
    let skipped = [PACKED[1].1, &[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7]].concat();
    assert_eq!(unpacked(&skipped, Zstd, 16_000).unwrap(), PLAIN);
    let cut = &skipped[..skipped.len() - 1];
    assert!(matches!(unpacked(cut, Zstd, 16_000), Err(UnpackError::Damaged { .. })));
}

#[test]
fn the_content_must_be_what_the_name_says() {
    let all: Vec<_> = PACKED.into_iter().chain([(Plain, PLAIN)]).collect();
    for (found, packed) in &all {
        for (named, _) in all.iter().filter(|(named, _)| named != found) {
            let error = unpacked(packed, *named, u64::MAX).unwrap_err();
            let right = matches!(&error, UnpackError::Disagrees { named: n, found: f } if n == named && f == found);
            assert!(right, "{error:?}");
        }
    }
    assert!(matches!(unpacked(b"", Xz, 1), Err(UnpackError::Disagrees { .. })));
    assert_eq!(unpacked(b"", Plain, 0).unwrap(), b"");
}

#[test]
fn progress_grows_to_the_whole_and_the_watcher_can_stop_it() {
    for (compression, packed) in BOMBS {
        let mut seen = Vec::new();
        let mut watch = |progress| {
            seen.push(progress);
            ControlFlow::Continue(())
        };
        let size = unpack(packed, io::sink(), compression, 16 << 20, &mut watch).unwrap();
        assert_eq!(size, 16 << 20);
        assert!(seen.len() > 100, "{compression}: {}", seen.len());
        assert!(seen.windows(2).all(|w| w[0].read <= w[1].read && w[0].written < w[1].written));
        let whole = Progress { read: packed.len() as u64, written: size };
        assert_eq!(seen.last(), Some(&whole), "{compression}");

        let mut out = Vec::new();
        let mut stop = |_| ControlFlow::Break(());
        let error = unpack(packed, &mut out, compression, u64::MAX, &mut stop).unwrap_err();
        assert!(matches!(error, UnpackError::Stopped), "{error:?}");
        assert!(out.len() <= STEP);
    }
}

#[test]
fn errors_of_the_disk_are_not_taken_for_damage() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("a bad sector"))
        }
    }
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (compression, packed) in PACKED {
        let half = packed[..packed.len() / 2].chain(Broken);
        let error = unpack(half, io::sink(), compression, u64::MAX, &mut go_on).unwrap_err();
        assert!(matches!(error, UnpackError::Read { .. }), "{compression}: {error:?}");
        let error = unpack(packed, Broken, compression, u64::MAX, &mut go_on).unwrap_err();
        let full = |e: &io::Error| e.kind() == ErrorKind::StorageFull;
        assert!(matches!(&error, UnpackError::Write { source } if full(source)), "{error:?}");
    }
}
