//! Templates and base images. Invariant: a base image is immutable and named by its digest, so a
//! VM's overlay never sees it change.

pub mod cache;
pub mod template;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use cache::{CachedImage, Condition, FetchStage, Fetching, ImageUsers, Update, Verified};
pub use template::{
    Catalog, DigestList, Firmware, HashAlgorithm, ListFormat, Proof, PublishedDigest, Signature,
    Template, shown_url,
};

use super::resources::Bytes;
use super::validation::Invalid;

/// A template's name, such as `debian-12`: 1 to 63 of `a-z 0-9 . -`, beginning with a letter or
/// a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateName(String);

impl TemplateName {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TemplateName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
        let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if begins_well && text.len() <= 63 && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("must be 1 to 63 of a-z, 0-9, '.' and '-', such as debian-12"))
        }
    }
}

impl TryFrom<String> for TemplateName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<TemplateName> for String {
    fn from(name: TemplateName) -> Self {
        name.0
    }
}

impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A processor architecture that VMs run on; a VM's is always its host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Arch {
    /// 64-bit x86, also called amd64.
    #[serde(rename = "x86_64", alias = "amd64")]
    X86_64,
    /// 64-bit Arm, also called arm64.
    #[serde(rename = "aarch64", alias = "arm64")]
    Aarch64,
}

impl Arch {
    /// The architecture this program was built for, which is the host's.
    pub const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// libvirt's and QEMU's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// The SHA-256 that names a base image, of the file as QEMU reads it: 64 lower-case hexadecimal digits, written `sha256:…` or bare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(String);

impl Checksum {
    /// The 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl FromStr for Checksum {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text).to_ascii_lowercase();
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(hex))
        } else {
            Err(Invalid::new("must be a SHA-256: 64 hexadecimal digits, such as sha256sum prints"))
        }
    }
}

impl TryFrom<String> for Checksum {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// A cached image, proven and read-only, ready to back overlays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    /// Absolute path of a standalone qcow2 file, readable by QEMU.
    pub path: PathBuf,
    /// What names it.
    pub checksum: Checksum,
    /// Size of the disk that it holds.
    pub virtual_size: Bytes,
}

/// Keeps a base image in the cache for as long as it lives, until whatever refers to it is known
/// to the ledger. Says nothing of where it comes from.
#[derive(Debug, Clone, Default)]
#[must_use = "the image may be removed from the cache as soon as this is dropped"]
pub struct Hold {
    _token: Option<Arc<()>>,
}

impl Hold {
    /// One of the holds that `token` counts.
    pub fn on(token: &Arc<()>) -> Self {
        Self { _token: Some(Arc::clone(token)) }
    }
}

/// A base image that can't be removed meanwhile.
#[derive(Debug, Clone)]
pub struct HeldImage {
    /// The image.
    pub image: BaseImage,
    /// What keeps it.
    pub hold: Hold,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_sha256_in_hex() {
        assert!("sha256:".parse::<Checksum>().is_err());
        assert!("g".repeat(64).parse::<Checksum>().is_err());
        let upper = format!("sha256:{}", "AB".repeat(32)).parse::<Checksum>().unwrap();
        assert_eq!(upper.hex(), "ab".repeat(32));
    }

    #[test]
    fn template_names_cannot_be_paths() {
        for name in ["", "../x", "a/b", "A", "-a", ".a", &"a".repeat(64)] {
            assert!(name.parse::<TemplateName>().is_err(), "{name}");
        }
    }
}
