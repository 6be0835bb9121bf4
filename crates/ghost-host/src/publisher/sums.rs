//! Lists of checksums, as publishers write them.
//!
//! Invariant: a hash is found only if the list states exactly one for exactly that file. A list is
//! read as a whole or not at all: no guess of its format, no first match.

use ghost_core::domain::{HashAlgorithm, ListFormat, PublishedDigest};

/// The largest list that is read; Ubuntu's, of a hundred files, has 10 KiB.
pub const LARGEST_LIST: usize = 1 << 20;

/// How many files an error names.
const NAMED: usize = 5;

/// Why a list states no hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SumsError {
    /// More bytes than any list has.
    #[error(
        "the list of checksums has {size} bytes, more than {LARGEST_LIST}: it is something else; check its URL"
    )]
    TooLarge {
        /// How many it has.
        size: usize,
    },
    /// Not UTF-8.
    #[error("the list of checksums is not text; check its URL")]
    NotText,
    /// Not one line is a checksum of the expected kind: an error page, or another format.
    #[error("no line of the list states a {} as expected ({example}); check the list's URL, format and algorithm", algorithm.tag())]
    NoChecksums {
        /// Which hash was looked for.
        algorithm: HashAlgorithm,
        /// What a line would look like.
        example: &'static str,
    },
    /// It states hashes, but none of this file.
    #[error("the list does not name '{file}'; it names {}", some(there))]
    Lacks {
        /// The file.
        file: String,
        /// The files that it names, in its order.
        there: Vec<String>,
    },
    /// It states two hashes of this file.
    #[error(
        "the list states two different hashes of '{file}'; wait for the publisher to correct it, or use another mirror"
    )]
    Conflict {
        /// The file.
        file: String,
    },
    /// What it states of this file is no hash.
    #[error("the list's hash of '{file}' is not a {}: {} hexadecimal digits", algorithm.tag(), algorithm.digits())]
    NoHash {
        /// The file.
        file: String,
        /// What was expected.
        algorithm: HashAlgorithm,
    },
    /// A list for one file states several hashes.
    #[error(
        "the list has {count} hashes where it should have one; its format is probably gnu or bsd"
    )]
    Several {
        /// How many.
        count: usize,
    },
}

fn some(there: &[String]) -> String {
    let named = there.iter().take(NAMED).map(|file| format!("'{}'", file.escape_debug()));
    let mut text = named.collect::<Vec<_>>().join(", ");
    match there.len().saturating_sub(NAMED) {
        0 => {}
        more => text.push_str(&format!(" and {more} more")),
    }
    text
}

/// Finds the hash of `file` in a list. The bytes must be the proven ones where the list is signed.
///
/// # Errors
/// If the list is no list of that kind, lacks the file, or states no one hash of it.
pub fn find(
    list: &[u8],
    format: ListFormat,
    file: &str,
    algorithm: HashAlgorithm,
) -> Result<PublishedDigest, SumsError> {
    if list.len() > LARGEST_LIST {
        return Err(SumsError::TooLarge { size: list.len() });
    }
    let text = std::str::from_utf8(list).map_err(|_| SumsError::NotText)?;
    let lines = text.lines().map(str::trim_end).filter(|line| !is_empty(line));
    match format {
        ListFormat::Gnu => among(lines.filter_map(gnu), file, algorithm, "HASH  FILE"),
        ListFormat::Bsd => {
            let example = match algorithm {
                HashAlgorithm::Sha256 => "SHA256 (FILE) = HASH",
                HashAlgorithm::Sha512 => "SHA512 (FILE) = HASH",
            };
            among(lines.filter_map(|line| bsd(line, algorithm)), file, algorithm, example)
        }
        ListFormat::Single => single(lines, file, algorithm),
    }
}

fn is_empty(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// A line's file and what stands where the hash belongs.
type Line<'a> = (&'a str, &'a str);

/// The manual of `sha256sum`: the digest, a space, a space or `*`, the name. A line that begins
/// with a backslash has a name with escapes, which no image has.
fn gnu(line: &str) -> Option<Line<'_>> {
    let (hash, rest) = line.split_once(' ')?;
    let file = rest.strip_prefix([' ', '*'])?;
    is_hexadecimal(hash).then_some((plain(file), hash))
}

fn bsd(line: &str, algorithm: HashAlgorithm) -> Option<Line<'_>> {
    let rest = line.strip_prefix(algorithm.tag())?.strip_prefix(" (")?;
    let (file, hash) = rest.rsplit_once(") = ")?;
    Some((plain(file), hash))
}

fn is_hexadecimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn plain(file: &str) -> &str {
    file.strip_prefix("./").unwrap_or(file)
}

fn among<'a>(
    lines: impl Iterator<Item = Line<'a>>,
    file: &str,
    algorithm: HashAlgorithm,
    example: &'static str,
) -> Result<PublishedDigest, SumsError> {
    let mut there = Vec::new();
    let mut found: Option<PublishedDigest> = None;
    for (name, hash) in lines {
        there.push(name);
        if name != file {
            continue;
        }
        let published = hash_of(hash, file, algorithm)?;
        if found.as_ref().is_some_and(|former| *former != published) {
            return Err(SumsError::Conflict { file: file.to_owned() });
        }
        found = Some(published);
    }
    match found {
        Some(published) => Ok(published),
        None if there.is_empty() => Err(SumsError::NoChecksums { algorithm, example }),
        None => Err(SumsError::Lacks {
            file: file.to_owned(),
            there: there.into_iter().map(str::to_owned).collect(),
        }),
    }
}

fn single<'a>(
    lines: impl Iterator<Item = &'a str>,
    file: &str,
    algorithm: HashAlgorithm,
) -> Result<PublishedDigest, SumsError> {
    let hash = |line: &'a str| {
        let bare = is_hexadecimal(line).then_some(line);
        bare.or_else(|| bsd(line, algorithm).or_else(|| gnu(line)).map(|(_, hash)| hash))
    };
    let hashes: Vec<&str> = lines.filter_map(hash).collect();
    match hashes.as_slice() {
        [] => Err(SumsError::NoChecksums { algorithm, example: "HASH" }),
        [hash] => hash_of(hash, file, algorithm),
        several => Err(SumsError::Several { count: several.len() }),
    }
}

fn hash_of(hash: &str, file: &str, algorithm: HashAlgorithm) -> Result<PublishedDigest, SumsError> {
    PublishedDigest::new(algorithm, hash)
        .map_err(|_| SumsError::NoHash { file: file.to_owned(), algorithm })
}

#[cfg(test)]
mod tests;
