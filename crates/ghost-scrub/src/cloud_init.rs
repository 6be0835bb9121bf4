//! What is handed to a guest for its first boot.

use std::ops::Range;

use crate::{is_in_json_line, json_string_end, reach};

/// How user data begins (cloud-init, "User-data formats").
const BEGINS: [&str; 5] = [
    "#cloud-config",
    "#cloud-boothook",
    "## template: jinja",
    "Content-Type: text/cloud-",
    "Content-Type: text/x-shellscript",
];

/// From its first line on, as far as it could reach.
pub(crate) fn find(text: &str) -> Vec<Range<usize>> {
    let of = |begin: &'static str| text.match_indices(begin).map(|(at, _)| at..end(text, at));
    BEGINS.into_iter().flat_map(of).collect()
}

fn end(text: &str, at: usize) -> usize {
    if is_in_json_line(text, at) { json_string_end(text, at) } else { reach(text, at) }
}
