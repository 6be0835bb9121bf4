//! Names and ids. Invariant: a name can be a host name, a file name and XML text without escaping,
//! and is never mistaken for an id.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::validation::Invalid;

/// The agent's id of a VM, and its domain's UUID in libvirt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmId(Uuid);

impl VmId {
    /// A new random id (UUID version 4).
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id as a UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl From<Uuid> for VmId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for VmId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Uuid::parse_str(text).map(Self).map_err(|_| Invalid::new("is not a UUID"))
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A VM's name: 3 to 63 letters, digits or hyphens, a hostname label (RFC 1123).
///
/// Host names know no case: two names that differ in case only are equal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

impl VmName {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn folded(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|b| b.to_ascii_lowercase())
    }
}

impl FromStr for VmName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if !(3..=63).contains(&text.len()) {
            return Err(Invalid::new("must have 3 to 63 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(Invalid::new("must consist of letters a-z, digits and hyphens only"));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(Invalid::new("must begin and end with a letter or a digit"));
        }
        if Uuid::parse_str(text).is_ok() {
            return Err(Invalid::new("must not look like a UUID: ids are given by the agent"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for VmName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<VmName> for String {
    fn from(name: VmName) -> Self {
        name.0
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for VmName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for VmName {}

impl PartialOrd for VmName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VmName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded().cmp(other.folded())
    }
}

impl Hash for VmName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.folded().for_each(|b| state.write_u8(b));
        state.write_u8(0xff);
    }
}

/// What a caller calls a VM by. A lookup tries the id first; the two can't be confused, because
/// [`VmName`] refuses names that look like a UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmRef {
    /// By the agent's id.
    Id(VmId),
    /// By name.
    Name(VmName),
}

impl FromStr for VmRef {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse::<VmId>() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Name).map_err(|Invalid(why)| {
                Invalid::new(format!("is neither an id nor a name: {why}"))
            }),
        }
    }
}

impl fmt::Display for VmRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// An id that somebody else made: 1 to 128 visible ASCII characters.
pub(super) fn opaque(text: &str) -> Result<String, Invalid> {
    if (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new("must be 1 to 128 visible ASCII characters"))
    }
}

/// The caller's id of a create; a retry with the same one returns the same VM.
///
/// 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

impl RequestId {
    /// The id as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        opaque(text).map(Self)
    }
}

impl TryFrom<String> for RequestId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

/// A VM's Ethernet address: QEMU's prefix 52:54:00, then the end of the VM's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// The address of the VM `id`; the same id always gives the same address.
    #[must_use]
    pub fn of(id: VmId) -> Self {
        let bytes = id.as_uuid().as_bytes();
        Self([0x52, 0x54, 0x00, bytes[13], bytes[14], bytes[15]])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostname_labels_are_names() {
        for name in ["web", "web-1", "A1b", &"a".repeat(63)] {
            assert!(name.parse::<VmName>().is_ok(), "{name}");
        }
    }

    #[test]
    fn paths_xml_uuids_and_wrong_lengths_are_no_names() {
        let uuid = VmId::generate();
        let wrong = [
            "",
            "ab",
            &"a".repeat(64),
            "-web",
            "web-",
            "we b",
            "web_1",
            "../etc",
            "a/b",
            "<a>",
            "a&b",
            "wéb",
            "web\n",
            "web\0",
            "a.b.c",
            &uuid.to_string(),
            &uuid.as_uuid().simple().to_string(),
        ];
        for name in wrong {
            assert!(name.parse::<VmName>().is_err(), "{name}");
        }
    }

    #[test]
    fn names_that_differ_in_case_only_are_one_name() {
        let set: std::collections::HashSet<VmName> =
            ["Web-1", "web-1"].map(|n| n.parse().unwrap()).into();
        assert_eq!(set.len(), 1);
    }

    #[test]
    fn a_reference_is_an_id_first_then_a_name() {
        let id = VmId::generate();
        assert_eq!(id.to_string().parse(), Ok(VmRef::Id(id)));
        assert_eq!("web-1".parse(), Ok(VmRef::Name("web-1".parse().unwrap())));
        assert!("no/name".parse::<VmRef>().is_err());
    }

    proptest! {
        #[test]
        fn whatever_parses_as_a_name_needs_no_escaping_anywhere(text in "\\PC{0,80}") {
            if let Ok(name) = text.parse::<VmName>() {
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
                prop_assert!((3..=63).contains(&name.as_str().len()));
                prop_assert!(text.parse::<VmId>().is_err());
            }
        }

        #[test]
        fn every_hostname_label_of_the_right_length_is_a_name(text in "[a-zA-Z0-9][a-zA-Z0-9-]{1,28}[a-z]") {
            prop_assert!(text.parse::<VmName>().is_ok());
        }

        #[test]
        fn mac_addresses_are_local_unicast(bytes in any::<[u8; 16]>()) {
            let mac = MacAddr::of(VmId::from(Uuid::from_bytes(bytes)));
            prop_assert_eq!(mac.0[0] & 0b11, 0b10);
            prop_assert_eq!(mac.to_string().len(), 17);
        }
    }
}
