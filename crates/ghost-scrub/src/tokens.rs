//! What is a secret by its own looks: tokens with a known prefix, hashes of passwords, what stands behind `Bearer`.

use std::ops::Range;

/// Begins of tokens: Tailscale, GitHub, GitLab, Slack, AWS, age, Vault, JSON Web Tokens.
const PREFIXES: [&str; 13] = [
    "tskey-",
    "hskey-",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "AGE-SECRET-KEY-",
    "hvs.",
    "eyJ",
];

/// Begins of crypt(5)'s hashes.
const HASHES: [&str; 8] = ["$1$", "$5$", "$6$", "$y$", "$2a$", "$2b$", "$2y$", "$argon2"];

/// Shortest token behind a prefix, the prefix included.
const SHORTEST: usize = 12;

/// Shortest word behind `Bearer` that is a token.
const SHORTEST_BEARER: usize = 6;

/// Each of them.
pub(crate) fn find(text: &str) -> Vec<Range<usize>> {
    let prefixed = PREFIXES.into_iter().flat_map(|prefix| {
        let starts = text.match_indices(prefix).map(|(at, _)| at);
        runs(text, starts.filter(|at| begins_a_word(text, *at)), is_of_a_token)
    });
    let hashes = HASHES.into_iter().flat_map(|prefix| {
        let starts = text.match_indices(prefix).map(|(at, _)| at);
        runs(text, starts, |b| b == b'$' || b == b',' || is_of_a_token(b))
    });
    let mut found: Vec<_> = prefixed.chain(hashes).filter(|r| r.len() >= SHORTEST).collect();
    found.extend(bearers(text));
    found
}

fn bearers(text: &str) -> Vec<Range<usize>> {
    const WORD: &str = "bearer";
    let lower = text.to_ascii_lowercase();
    let starts = lower.match_indices(WORD).filter_map(|(at, word)| {
        let rest = text.get(at + word.len()..)?;
        let gap =
            rest.len() - rest.trim_start_matches([' ', '\t', ':', '=', '"', '\'', '\\', '+']).len();
        (gap > 0).then_some(at + word.len() + gap)
    });
    let tokens =
        runs(text, starts, |b| !b.is_ascii_whitespace() && !b"\"'<>\\,".contains(&b)).into_iter();
    tokens.filter(|token| token.len() >= SHORTEST_BEARER).collect()
}

/// The run at each of the starts, which ascend. One that begins in another ends with it, and is left out: it need not be
/// read again, however many there are.
fn runs(
    text: &str,
    starts: impl Iterator<Item = usize>,
    of: impl Fn(u8) -> bool,
) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for start in starts {
        if found.last().is_none_or(|last| start >= last.end) {
            found.push(run(text, start, &of));
        }
    }
    found
}

fn begins_a_word(text: &str, at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| text.as_bytes().get(before));
    before.is_none_or(|b| !b.is_ascii_alphanumeric())
}

fn is_of_a_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"_.+/=-".contains(&b)
}

/// As far as the bytes are of the kind. Those that are not ASCII are told as a whole.
fn run(text: &str, from: usize, of: impl Fn(u8) -> bool) -> Range<usize> {
    let rest = text.as_bytes().get(from..).unwrap_or_default();
    let length = rest.iter().position(|b| !of(*b)).unwrap_or(rest.len());
    from..from + length
}
