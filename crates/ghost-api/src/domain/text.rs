//! Texts of agents. Invariant: what is kept is bounded.

/// At most `most` bytes of `text`, cut between characters.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}

/// A hostname label: 1 to 63 letters, digits and hyphens, neither first nor last a hyphen (RFC 1123).
#[must_use]
pub fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "ä");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("", 3), "");
    }

    #[test]
    fn names_are_hostname_labels() {
        for right in ["a", "pc-1", "PC", &"a".repeat(63)] {
            assert!(is_label(right), "{right}");
        }
        for wrong in ["", "-a", "a-", "a.b", "a b", "ä", "a\n", &"a".repeat(64)] {
            assert!(!is_label(wrong), "{wrong}");
        }
    }
}
