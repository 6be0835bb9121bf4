//! The distributions' keys.
//!
//! Invariant: a [`PinnedKey`] is the key whose fingerprint stands beside it, and it is not revoked.
//! The fingerprint is what is trusted; the armored text only carries the key to it.

use std::fmt;
use std::str::FromStr;

use ghost_core::domain::Invalid;
use pgp::composed::{Deserializable, SignedPublicKey};
use pgp::types::KeyDetails;

/// A key as it stands in this program.
#[derive(PartialEq, Eq, Hash)]
struct Entry {
    name: &'static str,
    fingerprint: &'static str,
    armored: &'static str,
}

/// What is pinned. Each fingerprint is the one that the publisher states.
static PINNED: [Entry; 4] = [
    // https://almalinux.org/security/
    Entry {
        name: "almalinux-9",
        fingerprint: "BF18AC2876178908D6E71267D36CB86CB86B3716",
        armored: include_str!("keys/almalinux-9.asc"),
    },
    // https://fedoraproject.org/security/
    Entry {
        name: "fedora-44",
        fingerprint: "36F612DCF27F7D1A48A835E4DBFCF71C6D9F90A6",
        armored: include_str!("keys/fedora-44.asc"),
    },
    // "Rocky Enterprise Software Foundation - Release key 2022".
    Entry {
        name: "rocky-9",
        fingerprint: "21CB256AE16FC54C6E652949702D426D350D275D",
        armored: include_str!("keys/rocky-9.asc"),
    },
    // "UEC Image Automatic Signing Key", in Ubuntu's package ubuntu-cloudimage-keyring.
    Entry {
        name: "ubuntu-cloud-images",
        fingerprint: "D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81",
        armored: include_str!("keys/ubuntu-cloud-images.asc"),
    },
];

/// The name of a key that is pinned in this program.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyName(&'static Entry);

impl KeyName {
    /// Every name there is.
    pub fn all() -> impl Iterator<Item = Self> {
        PINNED.iter().map(Self)
    }
}

impl FromStr for KeyName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::all().find(|name| name.0.name == text).ok_or_else(|| {
            let known: Vec<&str> = Self::all().map(|name| name.0.name).collect();
            Invalid::new(format!("no such key is pinned; there are {}", known.join(", ")))
        })
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyName").field(&self.0.name).finish()
    }
}

/// Why a key can't be pinned.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text holds no public key.
    #[error("the key '{name}' is not an armored OpenPGP public key")]
    Unreadable {
        /// Which.
        name: String,
        /// What the parser said.
        #[source]
        source: pgp::errors::Error,
    },
    /// The text holds another key.
    #[error("the key '{name}' has the fingerprint {found}, not the pinned {pinned}")]
    Fingerprint {
        /// Which.
        name: String,
        /// What was expected, in upper-case hexadecimal digits.
        pinned: String,
        /// What it has.
        found: String,
    },
    /// Its owner has revoked it.
    #[error("the key '{name}' has been revoked by its owner")]
    Revoked {
        /// Which.
        name: String,
    },
}

/// A public key with a proven fingerprint.
#[derive(Debug, Clone)]
pub struct PinnedKey {
    name: String,
    key: SignedPublicKey,
}

impl PinnedKey {
    /// The built-in key of that name.
    ///
    /// # Errors
    /// None that a build whose tests pass can have: all keys are tested.
    pub fn built_in(name: KeyName) -> Result<Self, KeyError> {
        let entry = name.0;
        Self::new(entry.name, entry.fingerprint, entry.armored)
    }

    /// Reads an armored key that must have the fingerprint `pinned`, in hexadecimal digits.
    ///
    /// # Errors
    /// If the text is no key, another key, or a revoked one.
    pub fn new(name: &str, pinned: &str, armored: &str) -> Result<Self, KeyError> {
        let name = name.to_owned();
        let (key, _) = SignedPublicKey::from_string(armored)
            .map_err(|source| KeyError::Unreadable { name: name.clone(), source })?;
        let found = format!("{:X}", key.fingerprint());
        if !found.eq_ignore_ascii_case(pinned) {
            return Err(KeyError::Fingerprint { name, pinned: pinned.to_ascii_uppercase(), found });
        }
        let revocations = &key.details.revocation_signatures;
        if revocations.iter().any(|signature| signature.verify_key(&key.primary_key).is_ok()) {
            return Err(KeyError::Revoked { name });
        }
        Ok(Self { name, key })
    }

    /// What it is called in the catalogue.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its fingerprint, in upper-case hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.key.fingerprint())
    }

    pub(super) fn key(&self) -> &SignedPublicKey {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_key_has_exactly_its_fingerprint() {
        for entry in &PINNED {
            let key = PinnedKey::built_in(entry.name.parse().unwrap()).unwrap();
            assert_eq!(key.fingerprint(), entry.fingerprint, "{}", entry.name);
            assert_eq!(key.name(), entry.name);
        }
    }

    #[test]
    fn a_pinned_text_holds_one_key_only() {
        for entry in &PINNED {
            let (keys, _) = SignedPublicKey::from_string_many(entry.armored).unwrap();
            assert_eq!(keys.count(), 1, "{}", entry.name);
            assert_eq!(entry.armored.matches("-----BEGIN").count(), 1, "{}", entry.name);
        }
    }

    #[test]
    fn another_publishers_key_is_refused_by_its_fingerprint() {
        let [alma, fedora, ..] = &PINNED;
        let error = PinnedKey::new("x", alma.fingerprint, fedora.armored).unwrap_err();
        let expected = format!(
            "the key 'x' has the fingerprint {}, not the pinned {}",
            fedora.fingerprint, alma.fingerprint
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_text_without_a_key_is_refused() {
        for text in ["", "no key", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END"] {
            let error = PinnedKey::new("x", "00", text).unwrap_err();
            assert!(matches!(error, KeyError::Unreadable { .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_unknown_name_names_those_there_are() {
        let error = "debian".parse::<KeyName>().unwrap_err().to_string();
        assert!(error.contains("almalinux-9, fedora-44, rocky-9, ubuntu-cloud-images"), "{error}");
    }
}
