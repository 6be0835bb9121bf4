//! `images.catalog`: the owner's list of templates, YAML.
//!
//! ```yaml
//! - name: debian-12
//!   arch: x86_64            # or aarch64; amd64 and arm64 are understood
//!   url: https://mirror.example/debian-12.qcow2
//!   checksum: sha256:…      # 64 hexadecimal digits
//!   default_user: debian
//! ```
//!
//! Invariant: a list that is accepted has no unknown key, no missing one and no template twice; one
//! that isn't is refused with all of its problems, each with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ghost_core::domain::{Invalid, Template};
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde_saphyr::Spanned;
use url::Url;

const KEYS: [&str; 5] = ["name", "arch", "url", "checksum", "default_user"];

/// Why a catalogue can't be used. `Display` has one line a problem, `file:line: problem`.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file can't be read.
    #[error("{}: cannot be read ({source}); correct images.catalog in the config, or make the file readable for the agent's user", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file can be read, and says what it must not.
    #[error("{}", lines(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, in the order of the lines; never empty.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong in a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, from 1; 0 if it is unknown.
    pub line: u64,
    /// What is wrong and what is allowed, in one line.
    pub text: String,
}

fn lines(path: &Path, problems: &[Problem]) -> String {
    let line = |p: &Problem| match p.line {
        0 => format!("{}: {}", path.display(), p.text),
        n => format!("{}:{n}: {}", path.display(), p.text),
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Reads the catalogue at `path`. Blocks.
///
/// # Errors
/// If it can't be read, or anything in it is wrong.
pub fn read_catalog(path: &Path) -> Result<Vec<Template>, CatalogError> {
    let yaml = std::fs::read_to_string(path)
        .map_err(|source| CatalogError::Read { path: path.to_owned(), source })?;
    parse(&yaml).map_err(|problems| CatalogError::Invalid { path: path.to_owned(), problems })
}

type Row = BTreeMap<String, Spanned<String>>;

/// Reads the text of a catalogue; an empty one has no templates.
fn parse(yaml: &str) -> Result<Vec<Template>, Vec<Problem>> {
    let rows: Option<Vec<Spanned<Row>>> = serde_saphyr::from_str(yaml).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let text = one_line(&error.without_snippet().to_string());
        vec![Problem {
            line,
            text: format!(
                "{text}; a catalogue is a list of entries with the keys {}",
                KEYS.join(", ")
            ),
        }]
    })?;
    let mut problems = Vec::new();
    let mut templates: Vec<(Template, u64)> = Vec::new();
    for row in rows.unwrap_or_default() {
        let line = row.defined.line();
        let reader = Reader { row: &row.value, line, problems: &mut problems };
        if let Some(template) = reader.template() {
            let same =
                |(t, _): &&(Template, u64)| t.name == template.name && t.arch == template.arch;
            if let Some((_, first)) = templates.iter().find(same) {
                let (name, arch) = (&template.name, template.arch.as_str());
                let text = format!(
                    "'{name}' for {arch} is already on line {first}; names must differ for each arch"
                );
                problems.push(Problem { line, text });
            }
            templates.push((template, line));
        }
    }
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() {
        Ok(templates.into_iter().map(|(t, _)| t).collect())
    } else {
        Err(problems)
    }
}

/// Reads one row, noting all of its problems.
struct Reader<'a> {
    row: &'a Row,
    line: u64,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn template(mut self) -> Option<Template> {
        for (key, value) in self.row {
            if !KEYS.contains(&key.as_str()) {
                let text =
                    format!("unknown key '{}'; allowed: {}", key.escape_debug(), KEYS.join(", "));
                self.problems.push(Problem { line: value.defined.line(), text });
            }
        }
        let name = self.value("name", from_text);
        let arch = self.value("arch", |text| {
            from_text(text).map_err(|_| Invalid::new("allowed: x86_64 (amd64), aarch64 (arm64)"))
        });
        let url = self.value("url", image_url);
        let checksum = self.value("checksum", from_text);
        let default_user = self.value("default_user", user_name);
        Some(Template {
            name: name?,
            arch: arch?,
            url: url?,
            checksum: checksum?,
            default_user: default_user?,
        })
    }

    fn value<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> Option<T> {
        let (line, parsed) = match self.row.get(key) {
            Some(value) => {
                let text = value.value.as_str();
                let wrong = |why| format!("{key} '{}': {why}", text.escape_debug());
                (value.defined.line(), parse(text).map_err(wrong))
            }
            None => (
                self.line,
                Err(format!("'{key}' is missing; an entry has the keys {}", KEYS.join(", "))),
            ),
        };
        parsed.map_err(|text| self.problems.push(Problem { line, text })).ok()
    }
}

/// Through serde, which knows the aliases of [`Arch`](ghost_core::domain::Arch).
fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, Invalid> {
    let read: Result<T, ValueError> = T::deserialize(StrDeserializer::new(text));
    read.map_err(|error| Invalid::new(error.to_string()))
}

fn image_url(text: &str) -> Result<Url, Invalid> {
    let url = Url::parse(text).map_err(|error| {
        Invalid::new(format!("{error}; allowed: file:///…, http://…, https://…"))
    })?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        "file" if url.to_file_path().is_ok() => Ok(url),
        "file" => {
            Err(Invalid::new("must name a file of this host, such as file:///srv/images/a.qcow2"))
        }
        _ => Err(Invalid::new("allowed: file:///…, http://…, https://…")),
    }
}

/// What useradd takes (useradd(8), "CAVEATS").
fn user_name(text: &str) -> Result<String, Invalid> {
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    if begins && text.len() <= 32 && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new(
            "must be 1 to 32 of a-z, 0-9, '_' and '-', beginning with a letter or '_'",
        ))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

#[cfg(test)]
mod tests {
    use ghost_core::domain::Arch;

    use super::*;

    const DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000042";

    fn row(name: &str, arch: &str) -> String {
        format!(
            "- name: {name}\n  arch: {arch}\n  url: https://mirror.example/a.qcow2\n  checksum: {DIGEST}\n  \
             default_user: debian\n"
        )
    }

    fn problems(yaml: &str) -> Vec<(u64, String)> {
        parse(yaml).unwrap_err().into_iter().map(|p| (p.line, p.text)).collect()
    }

    #[test]
    fn rows_become_templates_and_arch_has_aliases() {
        let yaml = row("debian-12", "amd64") + &row("debian-12", "arm64");
        let templates = parse(&yaml).unwrap();
        assert_eq!(
            templates.iter().map(|t| t.arch).collect::<Vec<_>>(),
            [Arch::X86_64, Arch::Aarch64]
        );
        assert_eq!(templates[0].checksum.hex(), DIGEST);
        assert_eq!(templates[0].default_user, "debian");
    }

    #[test]
    fn an_empty_file_has_no_templates() {
        for yaml in ["", "# nothing yet\n", "[]"] {
            assert_eq!(parse(yaml), Ok(Vec::new()), "{yaml:?}");
        }
    }

    #[test]
    fn all_problems_of_all_rows_are_named_with_their_lines() {
        let yaml = "- name: Debian\n  arch: riscv\n  url: ftp://x/a\n  checksum: abc\n  default_user: Root\n\
                    - name: debian-12\n  size: 3\n";
        let found = problems(yaml);
        let begins = [
            (1, "name 'Debian': must be 1 to 63 of"),
            (2, "arch 'riscv': allowed: x86_64 (amd64), aarch64 (arm64)"),
            (3, "url 'ftp://x/a': allowed: file:///…"),
            (4, "checksum 'abc': must be a SHA-256"),
            (5, "default_user 'Root': must be"),
            (6, "'arch' is missing; an entry has the keys name, arch, url, checksum, default_user"),
            (6, "'url' is missing"),
            (6, "'checksum' is missing"),
            (6, "'default_user' is missing"),
            (7, "unknown key 'size'; allowed: name, arch,"),
        ];
        assert_eq!(found.len(), begins.len(), "{found:#?}");
        for ((line, text), (expected, begin)) in found.iter().zip(begins) {
            assert!(*line == expected && text.starts_with(begin), "{line}: {text}");
        }
    }

    #[test]
    fn the_same_template_twice_is_refused() {
        let found = problems(&(row("debian-12", "amd64") + &row("debian-12", "x86_64")));
        let expected =
            "'debian-12' for x86_64 is already on line 1; names must differ for each arch";
        assert_eq!(found, [(6, expected.to_owned())]);
    }

    #[test]
    fn what_is_no_list_of_entries_is_refused_with_its_line() {
        for (yaml, line) in [
            ("name: x\n", 1),
            ("- name: [a]\n", 1),
            ("- a\n", 1),
            ("- name: x\n  name: y\n", 2),
            ("- {\n", 1),
        ] {
            let found = problems(yaml);
            assert_eq!(found.len(), 1, "{yaml:?} {found:?}");
            assert_eq!(found[0].0, line, "{yaml:?} {found:?}");
            assert!(!found[0].1.contains('\n'), "{found:?}");
        }
    }

    #[test]
    fn problems_are_shown_as_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("images.yaml");
        std::fs::write(&path, row("debian-12", "amd64").replace("https:", "gopher:")).unwrap();
        let text = read_catalog(&path).unwrap_err().to_string();
        let expected =
            format!("{}:3: url 'gopher://mirror.example/a.qcow2': allowed:", path.display());
        assert!(text.starts_with(&expected), "{text}");
    }

    #[test]
    fn a_missing_file_is_named_with_a_remedy() {
        let text = read_catalog(Path::new("/nowhere/images.yaml")).unwrap_err().to_string();
        assert!(text.contains("/nowhere/images.yaml: cannot be read (No such file"), "{text}");
        assert!(text.contains("; correct images.catalog"), "{text}");
    }
}
