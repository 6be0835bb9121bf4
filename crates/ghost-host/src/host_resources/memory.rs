//! The kernel's memory statistics (proc_meminfo(5)). Invariant: a size is never guessed.

use ghost_core::domain::Bytes;

/// Physical memory, and what of it could be had without swapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// `MemTotal`, never zero.
    pub(super) total: Bytes,
    /// `MemAvailable`.
    pub(super) available: Bytes,
}

/// Finds `MemTotal` and `MemAvailable`; `None` if one is missing, or nothing is there at all.
pub(super) fn parse(text: &str) -> Option<Memory> {
    let total = value(text, "MemTotal:").filter(|total| total.0 > 0)?;
    Some(Memory { total, available: value(text, "MemAvailable:")? })
}

/// Finds `NAME  16384 kB`, where `kB` means KiB.
fn value(text: &str, name: &str) -> Option<Bytes> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024).map(Bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_read_in_kib_wherever_its_lines_stand() {
        let text =
            "MemFree:  1 kB\nMemAvailable:  0 kB\nMemTotal:       16384 kB\nSwapTotal: 9 kB\n";
        assert_eq!(parse(text), Some(Memory { total: Bytes(16 << 20), available: Bytes(0) }));
    }

    #[test]
    fn memory_without_number_or_unit_is_not_guessed() {
        for bad in ["", " kB", " 1 MB", " 99999999999999999999 kB", " 18446744073709551615 kB"] {
            let good = " 1 kB";
            let text = |total, available| format!("MemTotal:{total}\nMemAvailable:{available}\n");
            assert_eq!(parse(&text(bad, good)), None, "{bad}");
            assert_eq!(parse(&text(good, bad)), None, "{bad}");
        }
        for text in ["", "MemTotal: 1 kB\n", "MemTotal: 0 kB\nMemAvailable: 1 kB\n"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
            let _ = parse(&format!("MemTotal:{text} kB\nMemAvailable:{text} kB"));
        }
    }
}
