//! User, password and query of URLs; also of `user:password@host` without a scheme.

use std::ops::Range;

/// What ends a URL, or a word.
fn ends(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '<' | '>' | '`' | '\\' | '\u{fffd}')
}

/// The parts that may be secret.
pub(crate) fn find(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut next) = (Vec::new(), 0);
    for (at, _) in text.match_indices("://") {
        // What stands in another URL was looked at with that.
        if at >= next {
            let url = at + 3..url_end(text, at + 3);
            next = url.end;
            found.extend(parts(text, url));
        }
    }
    found.extend(bare_users(text));
    found
}

fn url_end(text: &str, from: usize) -> usize {
    let end = text.get(from..).and_then(|rest| rest.find(ends));
    end.map_or(text.len(), |end| from + end)
}

fn parts(text: &str, url: Range<usize>) -> Vec<Range<usize>> {
    let from = url.start;
    let url = text.get(url).unwrap_or_default();
    // A password may hold whatever else ends the authority: up to the last of them nothing is kept.
    let user = url.rfind('@').filter(|at| *at > 0);
    let host = user.map_or(0, |at| at + 1);
    let query = url.get(host..).and_then(|rest| rest.find(['?', '#'])).map(|at| host + at + 1);
    let query = query.filter(|at| *at < url.len());
    let of = |range: Range<usize>| from + range.start..from + range.end;
    user.map(|at| of(0..at)).into_iter().chain(query.map(|at| of(at..url.len()))).collect()
}

/// `user:password` before each `@` in front of a host; a word is read once, however long it is.
fn bare_users(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut start, mut colon) = (Vec::new(), 0, None);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if ends(c) || matches!(c, '/' | '\'' | '(' | ',') {
            (start, colon) = (at + c.len_utf8(), None);
        } else if c == ':' {
            colon = colon.or(Some(at));
        } else if c == '@' {
            let host = chars.peek().is_some_and(|(_, c)| c.is_alphanumeric() || *c == '[');
            let named = colon.is_some_and(|colon| start < colon && colon + 1 < at);
            found.extend((host && named).then_some(start..at));
        }
    }
    found
}
