//! The layers: default, file, environment. Invariant: every layer's value must be right, even
//! where a later layer takes its place; the last one is in force.

use std::collections::BTreeMap;

use super::problem::{Origin, Problem};
use super::rules::{Raw, Rule, Scalar, Shape};
use super::table::{Fallback, Key};

/// A value that somebody set.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// The value in force of one key, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effective {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

/// Hands each key its value and keeps the account of what was wrong.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// By `section.key`, the weaker layer first.
    given: BTreeMap<String, Vec<Given>>,
    host_name: &'a str,
    pub(super) problems: Vec<Problem>,
    pub(super) effective: Vec<Effective>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(host_name: &'a str) -> Self {
        Self { given: BTreeMap::new(), host_name, problems: Vec::new(), effective: Vec::new() }
    }

    /// Adds a value that is stronger than those before it.
    pub(super) fn give(&mut self, key: &Key, raw: Raw, origin: Origin) {
        self.given.entry(key.path()).or_default().push(Given { raw, origin });
    }

    /// The value in force; `None` if no layer is right. Each wrong one is noted.
    pub(super) fn read<T: 'static>(&mut self, key: &Key, rule: &Rule<T>) -> Option<T> {
        let path = key.path();
        let fallback = Given { raw: self.fallback(key.fallback), origin: Origin::Default };
        let given = self.given.remove(&path).unwrap_or_default();
        let mut in_force = None;
        // The fallback is only read when nobody set the key.
        let layers = if given.is_empty() { vec![fallback] } else { given };
        for Given { raw, origin } in layers {
            match self.parse(rule, &raw) {
                Ok(value) => in_force = Some((value, raw, origin)),
                Err(problem) => {
                    let text = format!(
                        "{problem} (allowed: {}; default {})",
                        key.allowed,
                        key.fallback_shown()
                    );
                    self.problems.push(Problem::of_key(origin, &path, text));
                }
            }
        }
        in_force.map(|(value, raw, origin)| {
            let Key { section, name, shape, .. } = *key;
            self.effective.push(Effective { section, name, shape, raw, origin });
            value
        })
    }

    /// Where the value in force of `section.name` comes from.
    pub(super) fn origin(&self, section: &str, name: &str) -> Origin {
        self.effective
            .iter()
            .find(|value| value.section == section && value.name == name)
            .map_or(Origin::Default, |value| value.origin.clone())
    }

    fn parse<T: 'static>(&self, rule: &Rule<T>, raw: &Raw) -> Result<T, String> {
        match raw {
            Raw::One(scalar) if scalar.is_null() => {
                Err("has no value; remove the line to take the default".to_owned())
            }
            Raw::One(_) | Raw::Many(_) => rule.parse(raw),
        }
    }

    fn fallback(&self, fallback: Fallback) -> Raw {
        Raw::One(Scalar::flat(match fallback {
            Fallback::Text(text) => text,
            Fallback::HostName => self.host_name,
        }))
    }
}

/// The first label of a host name, without what a label must not contain; `ghost-agent` if
/// nothing is left.
pub(super) fn label_of(host_name: &str) -> String {
    let label: String = host_name
        .split('.')
        .next()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    match label.trim_matches('-') {
        "" => "ghost-agent".to_owned(),
        label => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_gives_a_label() {
        for (host, label) in [
            ("pc", "pc"),
            ("johns-laptop.example.org", "johns-laptop"),
            ("my_pc", "my-pc"),
            ("-x-", "x"),
            ("", "ghost-agent"),
            ("...", "ghost-agent"),
            ("(none)", "none"),
        ] {
            assert_eq!(label_of(host), label, "{host}");
        }
        assert_eq!(label_of(&"a".repeat(64)).len(), 63);
    }
}
