//! What to ask for, and what an answer holds. Invariant: the bytes of an answer are put behind those of
//! a part only if the server says that they belong there, and that the content has not changed.

use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED};
use serde::{Deserialize, Serialize};
use url::Url;

use super::shown;

/// What a part came from. Kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    /// The url that was asked, as it may be shown.
    url: String,
    /// A strong `ETag`, or else the `Last-Modified`. The latter may miss a change within a second,
    /// which the digest then finds.
    validator: Option<String>,
    /// Of the whole file, in bytes.
    length: Option<u64>,
}

impl Origin {
    pub(super) fn new(url: &Url, headers: &HeaderMap, length: Option<u64>) -> Self {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let validator = match text(ETAG) {
            Some(weak) if !weak.starts_with('"') => None,
            Some(strong) => Some(strong.to_owned()),
            None => text(LAST_MODIFIED).map(str::to_owned),
        };
        Self { url: shown(url), validator, length }
    }

    /// Of a file of the host, which is always copied as a whole.
    pub(super) fn local(url: &Url) -> Self {
        Self { url: shown(url), validator: None, length: None }
    }

    /// Whether a part of it can be gone on with.
    pub(super) fn is_resumable(&self) -> bool {
        self.validator.is_some()
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// What follows the first bytes, if it is still the same file.
    Rest {
        /// Bytes that are there.
        offset: u64,
        /// What tells the file from another one.
        validator: HeaderValue,
        /// Of the whole file, in bytes.
        length: Option<u64>,
    },
}

impl Wanted {
    /// What a part of `offset` bytes lacks.
    pub(super) fn for_part(offset: u64, origin: Option<&Origin>, url: &Url) -> Self {
        let resumable = || {
            let origin = origin.filter(|origin| offset > 0 && origin.url == shown(url))?;
            let validator = HeaderValue::from_str(origin.validator.as_deref()?).ok()?;
            Some(Self::Rest { offset, validator, length: origin.length })
        };
        resumable().unwrap_or(Self::Whole)
    }
}

/// What an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// The whole file.
    Whole,
    /// The rest that was asked for, of a file of that length.
    Rest {
        /// Of the whole file, in bytes.
        length: Option<u64>,
    },
    /// Nothing of use: the whole is to be asked for.
    WrongRest,
    /// Something else than the file.
    Else,
}

/// What the answer to `wanted` holds.
pub(super) fn holds(wanted: &Wanted, status: StatusCode, headers: &HeaderMap) -> Holds {
    match (wanted, status) {
        (_, StatusCode::OK) => Holds::Whole,
        (Wanted::Rest { .. }, StatusCode::RANGE_NOT_SATISFIABLE) => Holds::WrongRest,
        (Wanted::Rest { offset, length, .. }, StatusCode::PARTIAL_CONTENT) => {
            rest(headers, *offset, *length).unwrap_or(Holds::WrongRest)
        }
        (Wanted::Whole | Wanted::Rest { .. }, _) => Holds::Else,
    }
}

/// `Content-Range: bytes <first>-<last>/<length or *>`
fn rest(headers: &HeaderMap, offset: u64, known: Option<u64>) -> Option<Holds> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, length) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let length = match length.trim() {
        "*" => known,
        length => Some(length.parse().ok()?),
    };
    let is_same_length = known.is_none() || known == length;
    let ends_with_it = length.is_none_or(|length| last.checked_add(1) == Some(length));
    (first == offset && is_same_length && ends_with_it).then_some(Holds::Rest { length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(headers: &[(reqwest::header::HeaderName, &str)]) -> Origin {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        Origin::new(&"http://a/x".parse().unwrap(), &headers.collect(), Some(100))
    }

    fn wanted(origin: &Origin, url: &str) -> Wanted {
        Wanted::for_part(10, Some(origin), &url.parse().unwrap())
    }

    #[test]
    fn a_part_is_gone_on_with_only_by_a_strong_validator_and_from_the_same_url() {
        let strong = origin(&[(ETAG, "\"1\""), (LAST_MODIFIED, "Wed, 21 Oct 2026 12:00:00 GMT")]);
        let rest = |validator: &'static str| Wanted::Rest {
            offset: 10,
            validator: HeaderValue::from_static(validator),
            length: Some(100),
        };
        assert_eq!(wanted(&strong, "http://a/x"), rest("\"1\""));
        assert_eq!(wanted(&strong, "http://b/x"), Wanted::Whole);
        let dated = origin(&[(LAST_MODIFIED, "Wed, 21 Oct 2026 12:00:00 GMT")]);
        assert_eq!(wanted(&dated, "http://a/x"), rest("Wed, 21 Oct 2026 12:00:00 GMT"));
        let weak = origin(&[(ETAG, "W/\"1\""), (LAST_MODIFIED, "Wed, 21 Oct 2026 12:00:00 GMT")]);
        assert_eq!(wanted(&weak, "http://a/x"), Wanted::Whole);
        assert_eq!(wanted(&origin(&[]), "http://a/x"), Wanted::Whole);
    }

    #[test]
    fn a_validator_that_would_forge_a_header_is_not_sent() {
        let mut forged = origin(&[(ETAG, "\"1\"")]);
        forged.validator = Some("\"1\"\r\nX-Evil: 1".to_owned());
        assert_eq!(wanted(&forged, "http://a/x"), Wanted::Whole);
    }

    #[test]
    fn only_the_rest_that_was_asked_for_is_put_behind_a_part() {
        let asked = wanted(&origin(&[(ETAG, "\"1\"")]), "http://a/x");
        let answer = |range: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, range.parse().unwrap())]);
            holds(&asked, StatusCode::PARTIAL_CONTENT, &headers)
        };
        assert_eq!(answer("bytes 10-99/100"), Holds::Rest { length: Some(100) });
        assert_eq!(answer("bytes 10-99/*"), Holds::Rest { length: Some(100) });
        for wrong in [
            "bytes 0-99/100",
            "bytes 9-99/100",
            "bytes 10-98/100",
            "bytes 10-199/200",
            "bytes 10-18446744073709551615/*",
            "bytes 10-99",
            "bytes */100",
            "lines 10-99/100",
            "",
        ] {
            assert_eq!(answer(wrong), Holds::WrongRest, "{wrong}");
        }
        let without = holds(&asked, StatusCode::PARTIAL_CONTENT, &HeaderMap::new());
        assert_eq!(without, Holds::WrongRest);
    }

    #[test]
    fn a_piece_that_nobody_asked_for_is_not_the_file() {
        let headers = HeaderMap::from_iter([(CONTENT_RANGE, "bytes 0-9/100".parse().unwrap())]);
        assert_eq!(holds(&Wanted::Whole, StatusCode::PARTIAL_CONTENT, &headers), Holds::Else);
        assert_eq!(holds(&Wanted::Whole, StatusCode::NO_CONTENT, &headers), Holds::Else);
    }
}
