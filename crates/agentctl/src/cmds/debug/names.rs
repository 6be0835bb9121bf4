//! Names inside the bundle. Invariant: a [`Name`] is relative, has neither `..` nor an empty part, and each of its parts is a plain name
//! of ASCII that no shell and no file system takes for something else.

/// Longest part, in bytes.
const PART: usize = 80;
/// Most parts.
const PARTS: usize = 4;

/// The folders that an agent may write into; whatever else it sends comes below [`STRAY`].
const FOLDERS: [&str; 4] = ["agent", "ledger", "libvirt", "host"];
const STRAY: &str = "agent/other";

/// A name inside the bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(String);

impl Name {
    /// One of our own.
    pub(super) fn own(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// What an agent calls a file, as far as that is harmless.
    pub(super) fn sent(name: &str) -> Self {
        let mut parts: Vec<String> = name.split('/').take(PARTS + 1).map(part).collect();
        parts.truncate(PARTS);
        let known =
            parts.len() > 1 && parts.first().is_some_and(|first| FOLDERS.contains(&first.as_str()));
        let name = parts.join("/");
        Self(if known { name } else { format!("{STRAY}/{name}") })
    }

    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both can't be there: they are the same, perhaps to a file system that knows no case, or one would
    /// be the other's folder.
    pub(super) fn clashes_with(&self, other: &Self) -> bool {
        let (one, other) = (self.0.to_ascii_lowercase(), other.0.to_ascii_lowercase());
        let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
        one == other || below(&one, &other) || below(&other, &one)
    }

    /// Another name, for the case of a clash.
    pub(super) fn numbered(&self, number: usize) -> Self {
        Self(format!("{STRAY}/{number}-{}", self.0.replace('/', "-")))
    }
}

fn part(text: &str) -> String {
    let plain =
        |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' };
    let name: String = text.chars().take(PART).map(plain).collect();
    // Neither hidden, nor `.` or `..`, nor an option.
    match name.strip_prefix(['.', '-']) {
        Some(rest) => format!("_{rest}"),
        None if name.is_empty() => "_".to_owned(),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for (sent, name) in [
            ("agent/config.txt", "agent/config.txt"),
            ("libvirt/domains/a-1.xml", "libvirt/domains/a-1.xml"),
            ("../../etc/passwd", "agent/other/_./_./etc/passwd"),
            ("/etc/passwd", "agent/other/_/etc/passwd"),
            ("agent/../../x", "agent/_./_./x"),
            ("agent", "agent/other/agent"),
            ("README.txt", "agent/other/README.txt"),
            ("", "agent/other/_"),
            ("agent//-rf", "agent/_/_rf"),
            ("agent/a\u{1b}[2J\n\\é b", "agent/a__2J____b"),
            ("agent/1/2/3/4/5/6", "agent/1/2/3"),
        ] {
            assert_eq!(Name::sent(sent).as_str(), name, "{sent}");
        }
        assert!(Name::sent(&format!("agent/{}", "x".repeat(5000))).as_str().len() < 100);
    }

    #[test]
    fn a_file_is_not_another_ones_folder() {
        let name = |sent| Name::sent(sent);
        assert!(name("agent/a").clashes_with(&name("agent/a/b")));
        assert!(name("agent/a/b").clashes_with(&name("agent/A")));
        assert!(!name("agent/a").clashes_with(&name("agent/ab")));
    }
}
