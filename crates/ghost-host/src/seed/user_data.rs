//! `user-data`: the agent's cloud-config and what the caller gave, side by side.
//!
//! Invariant: the caller's text reaches cloud-init byte by byte, and where both set the same key
//! the caller wins; lists (`ssh_authorized_keys`, say) hold the caller's entries, then the agent's.
//!
//! * The caller gave nothing: plain `#cloud-config`.
//! * A script or cloud-config: a MIME archive of it, then of the agent's part.
//! * An archive: it is nested, whole, in the place of the caller's part. cloud-init walks into it
//!   (`UserDataProcessor._process_msg`).
//!
//! The agent's part comes last, because cloud-init merges each part into those before it and knows no
//! way to append lists and yet let the later scalar win (`mergers/m_dict.py`); with [`MERGE`] the agent's
//! part only fills in what the caller left open.
//!
//! Parts of printable ASCII are written as they are (`7bit`), so that a guest without cloud-init may
//! find a script between two boundary lines. All others are base64: cloud-init decodes an `8bit` part by
//! Python's `raw-unicode-escape`, which turns `é` into invalid UTF-8 and `€` into `\u20ac`.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ghost_core::ports::SeedSpec;

use super::documents;

/// How cloud-init merges the agent's part into the caller's (cloud-init, "Merging user data sections"):
/// keep what is there, append lists, descend into dictionaries.
pub const MERGE: &str = "list(append)+dict(no_replace,recurse_list)+str()";

/// The whole of `user-data`.
pub(super) fn compose(spec: &SeedSpec) -> Result<String, serde_json::Error> {
    let ours = documents::cloud_config(spec)?;
    let boundary = |theirs: &str| boundary(&spec.id.to_string(), [theirs, &ours]);
    Ok(match &spec.user_data {
        None if !looks_like_mime(&ours) => ours,
        None => archive(&boundary(""), &[own_part(&ours)]),
        Some(theirs) => {
            let text = theirs.as_str();
            let part =
                theirs.part_type().map_or_else(|| text.to_owned(), |kind| part(kind, "", text));
            archive(&boundary(text), &[part, own_part(&ours)])
        }
    })
}

/// cloud-init takes whatever mentions this early on for an archive (`convert_string`); the comment
/// of an SSH key may.
fn looks_like_mime(text: &str) -> bool {
    text.to_ascii_lowercase().contains("mime-version:")
}

fn own_part(config: &str) -> String {
    part("text/cloud-config", &format!("Merge-Type: {MERGE}\n"), config)
}

fn part(kind: &str, headers: &str, body: &str) -> String {
    let plain = body.bytes().all(|b| matches!(b, b'\n' | b'\t' | b' '..=b'~'));
    let (encoding, body) =
        if plain { ("7bit", body.to_owned()) } else { ("base64", base64_lines(body)) };
    format!(
        "Content-Type: {kind}; charset=\"utf-8\"\nContent-Transfer-Encoding: {encoding}\n{headers}\n{body}"
    )
}

/// The line break before a boundary belongs to the boundary (RFC 2046, 5.1.1), so that a body
/// without a final newline stays without.
fn archive(boundary: &str, parts: &[String]) -> String {
    let mut text =
        format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n");
    for part in parts {
        let _infallible = write!(text, "\n--{boundary}\n{part}");
    }
    text + "\n--" + boundary + "--\n"
}

/// The first of `ghost-<id>`, `ghost-<id>-1`, … that occurs in none of the texts.
fn boundary(id: &str, texts: [&str; 2]) -> String {
    let mut boundary = format!("ghost-{id}");
    let mut n = 0_u32;
    while texts.iter().any(|text| text.contains(&boundary)) {
        n += 1;
        boundary = format!("ghost-{id}-{n}");
    }
    boundary
}

fn base64_lines(text: &str) -> String {
    let encoded = BASE64_STANDARD.encode(text);
    let mut lines = String::with_capacity(encoded.len() + encoded.len() / 76 + 1);
    for (i, c) in encoded.chars().enumerate() {
        if i > 0 && i % 76 == 0 {
            lines.push('\n');
        }
        lines.push(c);
    }
    lines
}
