//! Private keys in PEM form, of whatever kind (RFC 7468; OpenSSH; PGP), in a text, in JSON, or one line of the log after the other.

use std::ops::Range;

use crate::{REACH, reach};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
/// Longest label that is one.
const LABEL: usize = 64;

/// From each begin to its end; where one of the two is missing, as far as a key could reach.
pub(crate) fn find(text: &str) -> Vec<Range<usize>> {
    let (begins, ends) = (borders(text, BEGIN), borders(text, END));
    let from_begin = begins.iter().map(|begin| {
        let near = ends.get(ends.partition_point(|end| end.start < begin.end));
        let near = near.filter(|end| end.start - begin.end <= REACH);
        begin.start..near.map_or(reach(text, begin.end), |end| end.end)
    });
    // The log may begin in the middle of a key.
    let to_end = ends.iter().filter(|end| {
        let before = begins.partition_point(|begin| begin.end <= end.start);
        let begin = before.checked_sub(1).and_then(|last| begins.get(last));
        begin.is_none_or(|begin| end.start - begin.end > REACH)
    });
    let earliest = |end: &Range<usize>| text.floor_char_boundary(end.start.saturating_sub(REACH));
    let to_end = to_end.map(|end| earliest(end)..end.end);
    from_begin.chain(to_end).collect()
}

fn borders(text: &str, border: &str) -> Vec<Range<usize>> {
    let label = |at: usize| {
        let from = at + border.len();
        let rest = text.get(from..text.floor_char_boundary(from + LABEL + DASHES.len()))?;
        // The dashes may be in the next piece.
        let label = rest.find(DASHES).map_or(rest, |end| rest.split_at(end).0);
        let end = from + label.len() + DASHES.len();
        label.contains("PRIVATE KEY").then_some(at..text.ceil_char_boundary(end))
    };
    text.match_indices(border).filter_map(|(at, _)| label(at)).collect()
}
