//! "Did you mean": the known word that a mistyped one is closest to.

/// The candidate with the fewest edits from `word`, if no more than a third of its letters differ
/// or one of the two begins with the other.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A longer word is nobody's typing mistake, and the comparison is quadratic.
    if !(2..=100).contains(&word.len()) {
        return None;
    }
    let is_near = |edits: usize, candidate: &str| {
        edits <= candidate.chars().count().div_ceil(3)
            || candidate.starts_with(word)
            || word.starts_with(candidate)
    };
    candidates
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| is_near(*edits, candidate))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The edits (insert, remove, replace a character) that turn `from` into `to`, case apart.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.to_lowercase().chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&to) {
            let here = (*cell + 1).min(left + 1).min(diagonal + usize::from(a != *b));
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        row[0] = i + 1;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_the_levenshtein_distance() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("Flaw", "lawn", 2),
        ] {
            assert_eq!(edits(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let words = ["listen_addr", "unix_socket"];
        assert_eq!(nearest("listen_adr", words), Some("listen_addr"));
        assert_eq!(nearest("lsiten_addr", words), Some("listen_addr"));
        assert_eq!(nearest("unix", words), Some("unix_socket"));
        assert_eq!(nearest("socket", words), None);
        assert_eq!(nearest("x", words), None);
        assert_eq!(nearest(&"x".repeat(1000), words), None);
    }
}
