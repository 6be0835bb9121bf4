//! CPUs as the kernel lists them. Invariant: a set of CPUs is never empty and never guessed.

use std::collections::BTreeSet;

/// More CPUs than any kernel can be built for (`NR_CPUS` is at most 8192, kernel, `arch/x86/Kconfig`).
const MOST: u32 = 1 << 16;

/// The CPUs of a list such as `0-3,5,8-9`, by number; `None` if it isn't one.
pub(super) fn parse_list(list: &str) -> Option<BTreeSet<u32>> {
    let mut cpus = BTreeSet::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Digits only: `u32::from_str` would take `+1` too.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&cpu| digits && cpu < MOST)
}

/// Finds `Cpus_allowed_list:  0-1` in a process's status; `None` without such a line.
pub(super) fn allowed(status: &str) -> Option<BTreeSet<u32>> {
    parse_list(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)
}

/// The CPUs in both, ascending; `None` if there are none.
pub(super) fn usable(online: &BTreeSet<u32>, allowed: &BTreeSet<u32>) -> Option<Vec<u32>> {
    let both: Vec<u32> = online.intersection(allowed).copied().collect();
    (!both.is_empty()).then_some(both)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cpu_list_is_read_range_by_range() {
        for (list, cpus) in [
            ("0\n", vec![0]),
            ("0-1\n", vec![0, 1]),
            ("0-3,5,8-9\n", vec![0, 1, 2, 3, 5, 8, 9]),
            ("7", vec![7]),
        ] {
            assert_eq!(parse_list(list), Some(cpus.into_iter().collect()), "{list}");
        }
    }

    #[test]
    fn what_is_no_cpu_list_is_not_read() {
        for list in [
            "",
            "\n",
            "3-0",
            "0-",
            "-1",
            "0,,1",
            "a",
            "0-4294967295",
            "0 1",
            "0x1",
            "+1",
            "0-65536",
        ] {
            assert_eq!(parse_list(list), None, "{list}");
        }
    }

    #[test]
    fn the_allowed_cpus_are_those_of_the_list_and_not_of_the_mask() {
        let status = "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t2-3\nMems_allowed:\t1\n";
        assert_eq!(allowed(status), Some([2, 3].into()));
        assert_eq!(allowed("Cpus_allowed:\tff\n"), None);
    }

    #[test]
    fn a_cpu_counts_if_it_is_online_and_allowed() {
        let set = |list| parse_list(list).unwrap();
        assert_eq!(usable(&set("0-3,6"), &set("2-7")), Some(vec![2, 3, 6]));
        assert_eq!(usable(&set("0-1"), &set("2-3")), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}|[0-9,-]{0,40}") {
            let _ = parse_list(&text);
            let _ = allowed(&format!("Cpus_allowed_list:{text}"));
        }

        #[test]
        fn every_set_survives_being_written_as_a_list(cpus in proptest::collection::btree_set(0..9000_u32, 1..20)) {
            let list: Vec<String> = cpus.iter().map(u32::to_string).collect();
            prop_assert_eq!(parse_list(&list.join(",")), Some(cpus));
        }
    }
}
