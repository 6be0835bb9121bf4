//! Words, names and paths. Invariant: a path is absolute and says what it means, without `..`.

use std::path::{Component, Path, PathBuf};

use super::{Rule, Style, quoted};
use crate::config::model::ObjectName;
use crate::config::nearest::nearest;

/// One of the words.
pub(in crate::config) fn choice<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> Rule<T> {
    let names = || words.iter().map(|(name, _)| *name);
    Rule::text(names().collect::<Vec<_>>().join(", "), move |text| {
        words.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
            let hint = nearest(text, names()).map(|word| format!("; did you mean {word}?"));
            format!("{} is none of them{}", quoted(text), hint.unwrap_or_default())
        })
    })
}

/// A boolean, in YAML 1.2's spelling only.
pub(in crate::config) fn switch() -> Rule<bool> {
    Rule::one("true, false", |scalar| match scalar.unquoted("a boolean")? {
        "true" => Ok(true),
        "false" => Ok(false),
        text => Err(format!("{} is not a boolean; write true or false", quoted(text))),
    })
}

/// A host name label (RFC 1123).
pub(in crate::config) fn host_label() -> Rule<String> {
    Rule::text("1 to 63 letters, digits and inner hyphens", |text| {
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits {
            Ok(text.to_owned())
        } else {
            Err(format!("{} is not a host name label", quoted(text)))
        }
    })
}

/// The name of a libvirt pool or network.
pub(in crate::config) fn object_name() -> Rule<ObjectName> {
    Rule::text("1 to 255 characters without /, spaces at the ends and control characters", |text| {
        let fits = (1..=255).contains(&text.len())
            && text.trim() == text
            && !text.chars().any(|c| c == '/' || c.is_control());
        if fits {
            Ok(ObjectName(text.to_owned()))
        } else {
            Err(format!("{} cannot be a name in libvirt", quoted(text)))
        }
    })
}

/// An absolute path.
pub(in crate::config) fn path() -> Rule<PathBuf> {
    Rule::text("an absolute path without ..", absolute)
}

/// An absolute path that fits into a socket's address: 107 bytes (`sun_path`, unix(7)).
pub(in crate::config) fn socket_path() -> Rule<PathBuf> {
    const LONGEST: usize = 107;
    Rule::text(format!("an absolute path without .., at most {LONGEST} bytes"), |text| {
        if text.len() > LONGEST {
            return Err(format!("has {} bytes, too long for a socket", text.len()));
        }
        absolute(text)
    })
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!("{} is not an absolute path", quoted(text)));
    }
    if text.ends_with('/') || path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("{} ends with / or contains ..", quoted(text)));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{} contains a control character", quoted(text)));
    }
    Ok(path.to_owned())
}

/// The path of an HTTP endpoint that is not one of the health checks'.
pub(in crate::config) fn http_path() -> Rule<String> {
    const TAKEN: [&str; 3] = ["/healthz", "/livez", "/readyz"];
    Rule::text("/ and letters, digits, - _ . /, other than /healthz, /livez, /readyz", |text| {
        let fits = text.len() > 1
            && text.starts_with('/')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
        if TAKEN.contains(&text) {
            Err(format!("{text} belongs to a health check"))
        } else if fits {
            Ok(text.to_owned())
        } else {
            Err(format!("{} is not such a path", quoted(text)))
        }
    })
}

impl Rule<()> {
    /// Anything; it is read and forgotten.
    pub(in crate::config) fn anything() -> Self {
        Self::one("anything; it is ignored", |scalar| match scalar.style {
            Style::Plain | Style::Quoted | Style::Flat => Ok(()),
        })
    }
}
