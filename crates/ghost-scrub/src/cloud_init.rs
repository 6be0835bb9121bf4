//! What is handed to a guest for its first boot.

use std::ops::Range;

use crate::{Line, json_string_end, reach};

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
    BEGINS.into_iter().flat_map(|begin| behind(text, begin)).collect()
}

fn behind(text: &str, begin: &str) -> Vec<Range<usize>> {
    let (mut found, mut line, mut next) = (Vec::new(), Line::default(), 0);
    for (at, _) in text.match_indices(begin) {
        let line = line.at(text, at);
        // Another one in a string of JSON ends with it.
        if line.json && at >= next {
            next = json_string_end(text, at, line);
            found.push(at..next);
        } else if !line.json {
            found.push(at..reach(text, at));
        }
    }
    found
}
