//! User, password and query of URLs; also of `user:password@host` without a scheme.

use std::ops::Range;

/// What ends a URL, or a word.
fn ends(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '<' | '>' | '`' | '\\' | '\u{fffd}')
}

/// Longest word that is looked at for a user without a scheme, in bytes.
const WORD: usize = 512;

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
    found.extend(text.match_indices('@').filter_map(|(at, _)| bare_user(text, at)));
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

/// `user:password` before the `@` at `at`.
fn bare_user(text: &str, at: usize) -> Option<Range<usize>> {
    let ends = |c: char| ends(c) || matches!(c, '/' | '\'' | '(' | ',');
    let before = text.get(text.ceil_char_boundary(at.saturating_sub(WORD))..at)?;
    let start = before.rfind(ends).map_or(0, |start| before.ceil_char_boundary(start + 1));
    let (user, password) = before.get(start..)?.split_once(':')?;
    let host = text.get(at + 1..)?.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '[');
    (!user.is_empty() && !password.is_empty() && host).then_some(at - (before.len() - start)..at)
}
