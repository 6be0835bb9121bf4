//! The kernel's memory statistics (proc_meminfo(5)). Invariant: a size is never guessed.

use ghost_core::domain::Bytes;

/// Finds `MemTotal`, never zero; `None` if it is missing.
pub(super) fn total(text: &str) -> Option<Bytes> {
    value(text, "MemTotal:").filter(|total| total.0 > 0)
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
        let text = "MemFree:  1 kB\nMemTotal:       16384 kB\nSwapTotal: 9 kB\n";
        assert_eq!(total(text), Some(Bytes(16 << 20)));
    }

    #[test]
    fn memory_without_number_or_unit_is_not_guessed() {
        for bad in
            ["", " kB", " 1 MB", " 0 kB", " 99999999999999999999 kB", " 18446744073709551615 kB"]
        {
            assert_eq!(total(&format!("MemTotal:{bad}\n")), None, "{bad}");
        }
        for text in ["", "MemAvailable: 1 kB\n", "XMemTotal: 1 kB\n"] {
            assert_eq!(total(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = total(&text);
            let _ = total(&format!("MemTotal:{text} kB"));
        }
    }
}
