//! What the caller hands to the guest: SSH keys, user data, metadata. Invariant: none of it can
//! break out of the document it is written into, and none of it is larger than its limit.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::validation::{Invalid, Violations};

/// Most entries of a metadata map.
pub const METADATA_ENTRIES: usize = 64;
/// Most bytes of a metadata value.
pub const METADATA_VALUE_BYTES: usize = 1024;
/// Most bytes of user data.
pub const USER_DATA_BYTES: usize = 64 * 1024;
/// Most SSH keys of one VM.
pub const SSH_KEYS: usize = 64;

/// The caller's labels of a VM: at most 64; keys `[a-z0-9._/-]{1,63}`, values at most 1 KiB
/// without control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Reads a map, noting every wrong entry as a violation of `metadata`.
    pub fn parse(
        entries: impl IntoIterator<Item = (String, String)>,
        violations: &mut Violations,
    ) -> Self {
        let entries: BTreeMap<String, String> = entries.into_iter().collect();
        if entries.len() > METADATA_ENTRIES {
            violations.add(
                "metadata",
                format!("has {} entries, at most {METADATA_ENTRIES} are allowed", entries.len()),
            );
            return Self::default();
        }
        for (key, value) in &entries {
            let shown: String = key.chars().take(63).collect();
            if !is_key(key) {
                violations.add(
                    "metadata",
                    format!("key '{}' must be 1 to 63 of a-z 0-9 . _ / -", shown.escape_debug()),
                );
            } else if value.len() > METADATA_VALUE_BYTES {
                violations.add(
                    "metadata",
                    format!("value of '{shown}' has {} bytes, at most {METADATA_VALUE_BYTES} are allowed", value.len()),
                );
            } else if value.chars().any(char::is_control) {
                violations.add("metadata", format!("value of '{shown}' has control characters"));
            }
        }
        Self(entries)
    }

    /// The entries, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

fn is_key(key: &str) -> bool {
    let allowed = |b: u8| {
        b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'/' | b'-')
    };
    (1..=63).contains(&key.len()) && key.bytes().all(allowed)
}

/// One line of an `authorized_keys` file without options: `TYPE BASE64 [COMMENT]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SshKey(String);

impl SshKey {
    /// The line without its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SshKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const TYPES: [&str; 7] = [
            "ssh-ed25519",
            "ssh-rsa",
            "ecdsa-sha2-nistp256",
            "ecdsa-sha2-nistp384",
            "ecdsa-sha2-nistp521",
            "sk-ssh-ed25519@openssh.com",
            "sk-ecdsa-sha2-nistp256@openssh.com",
        ];
        let text = text.trim();
        if text.contains("PRIVATE KEY") {
            return Err(Invalid::new("is a private key: give the public one, from the .pub file"));
        }
        if text.len() > 16 * 1024 || text.chars().any(char::is_control) {
            return Err(Invalid::new("must be a single line of at most 16 KiB"));
        }
        let mut words = text.split(' ');
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        // OpenSSH's wire format begins with the length of the type's name: three zero bytes.
        if TYPES.contains(&kind)
            && key.starts_with("AAAA")
            && key.len() >= 40
            && key.bytes().all(base64)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("must be an OpenSSH public key such as 'ssh-ed25519 AAAA… you@home'"))
        }
    }
}

impl TryFrom<String> for SshKey {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<SshKey> for String {
    fn from(key: SshKey) -> Self {
        key.0
    }
}

/// What cloud-init is to run: cloud-config, a script, or a MIME multipart archive of those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserData(String);

impl UserData {
    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `Content-Type` of the text as a part of a MIME archive (cloud-init, "User data formats");
    /// `None` if it is an archive itself.
    #[must_use]
    pub fn part_type(&self) -> Option<&'static str> {
        if self.0.starts_with("#cloud-config") {
            Some("text/cloud-config")
        } else if self.0.starts_with("#!") {
            Some("text/x-shellscript")
        } else {
            None
        }
    }
}

impl FromStr for UserData {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.len() > USER_DATA_BYTES {
            return Err(Invalid::new(format!(
                "has {} bytes, at most {USER_DATA_BYTES} are allowed",
                text.len()
            )));
        }
        if text.contains('\0') {
            return Err(Invalid::new("must be text, without NUL bytes"));
        }
        let first = text.lines().next().unwrap_or_default();
        let is_archive = first.to_ascii_lowercase().starts_with("content-type: multipart/")
            || first.to_ascii_lowercase().starts_with("mime-version:");
        if first.trim_end() == "#cloud-config" || first.starts_with("#!/") || is_archive {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "must begin with '#cloud-config', '#!/path/to/interpreter' or 'Content-Type: multipart/…'",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAM me@home";

    fn violations_of(entries: Vec<(String, String)>) -> usize {
        let mut violations = Violations::default();
        Metadata::parse(entries, &mut violations);
        violations.finish(Some(())).map_or_else(|e| e.violations().len(), |()| 0)
    }

    #[test]
    fn every_wrong_metadata_entry_is_noted() {
        let entry = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let long = "x".repeat(METADATA_VALUE_BYTES + 1);
        let wrong = vec![
            entry("Upper", "v"),
            entry("a", &long),
            entry("", "v"),
            entry("b", "\u{7}"),
            entry("ok/a.b_c-1", "v"),
        ];
        assert_eq!(violations_of(wrong), 4);
    }

    #[test]
    fn a_65th_metadata_entry_is_refused() {
        let entries = |n: usize| (0..n).map(|i| (format!("k{i}"), String::new())).collect();
        assert_eq!(violations_of(entries(METADATA_ENTRIES)), 0);
        assert_eq!(violations_of(entries(METADATA_ENTRIES + 1)), 1);
    }

    #[test]
    fn public_keys_are_keys_and_nothing_else_is() {
        assert_eq!(format!(" {KEY}\n").parse::<SshKey>().unwrap().as_str(), KEY);
        let wrong = [
            "",
            "ssh-ed25519",
            "ssh-dss AAAA",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            &format!("{KEY}\n{KEY}"),
            &format!("command=\"x\" {KEY}"),
        ];
        for key in wrong {
            assert!(key.parse::<SshKey>().is_err(), "{key}");
        }
    }

    #[test]
    fn user_data_is_one_of_three_formats_within_its_limit() {
        let fits = format!("#cloud-config\n{}", "a".repeat(USER_DATA_BYTES - 14));
        assert!(fits.parse::<UserData>().is_ok());
        assert!(format!("{fits}a").parse::<UserData>().is_err());
        assert!("#!/bin/sh\ntrue".parse::<UserData>().is_ok());
        assert!("Content-Type: multipart/mixed; boundary=x\n".parse::<UserData>().is_ok());
        for wrong in ["", "hello", "#cloud-configx", " #cloud-config", "#cloud-config\n\0"] {
            assert!(wrong.parse::<UserData>().is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_key_is_one_line_whatever_was_given(text in "(ssh-rsa |ssh-ed25519 )?(AAAA)?[\\PC\\n]{0,60}") {
            if let Ok(key) = text.parse::<SshKey>() {
                prop_assert!(!key.as_str().contains(['\n', '\r', '\0']));
            }
        }
    }
}
