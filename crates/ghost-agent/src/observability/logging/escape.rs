//! Invariant: what a guest or a caller said can neither begin a line of the log, nor command the terminal that shows it, nor
//! be shown in another order than it is in, nor fill the log.

/// Longest value that is written whole.
const VALUE_BYTES: usize = 16 << 10;

/// As much of `value` as is written, and how many bytes are left out.
pub(super) fn clipped(value: &str) -> (&str, usize) {
    let end = value.floor_char_boundary(VALUE_BYTES.min(value.len()));
    (&value[..end], value.len() - end)
}

/// `value` cut at each character that must not be written as it is: those that command, and `special` ones.
pub(super) fn flat<'a>(
    value: &'a str,
    special: &'static [char],
) -> impl Iterator<Item = Result<&'a str, char>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        if commands(first) || special.contains(&first) {
            rest = &rest[first.len_utf8()..];
            return Some(Err(first));
        }
        let end = rest.find(|c| commands(c) || special.contains(&c)).unwrap_or(rest.len());
        let (harmless, tail) = rest.split_at(end);
        rest = tail;
        Some(Ok(harmless))
    })
}

/// Whether the character commands a terminal; nearly all are plain ASCII, which is quickly told.
pub(super) fn commands(c: char) -> bool {
    !matches!(c, ' '..='~') && ghost_scrub::misleads(c)
}
