//! The catalogue as data. Invariant: every row names what proves its image; a file that nothing proves
//! never backs a disk.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use super::super::resources::Gib;
use super::super::validation::Invalid;
use super::{Arch, Checksum, TemplateName};

/// A url without user, password, query and fragment, which may hold secrets.
#[must_use]
pub fn shown_url(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

/// A row of the catalogue: where an image comes from and how it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What a caller asks for.
    pub name: TemplateName,
    /// What the image runs on.
    pub arch: Arch,
    /// `file://`, `http://` or `https://`: a qcow2 image, plain or compressed with xz, zstd or gzip.
    pub url: Url,
    /// The image's proof.
    pub proof: Proof,
    /// The user that gets the SSH keys.
    pub default_user: String,
    /// The smallest disk that the image's system runs on, where that is known before the download.
    pub min_disk: Option<Gib>,
    /// What boots it.
    pub firmware: Firmware,
}

/// What begins to run in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// The PC's; x86_64 only.
    Bios,
    /// UEFI.
    Uefi,
}

impl Firmware {
    /// What an architecture's images boot with unless their row says otherwise.
    #[must_use]
    pub const fn of(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self::Bios,
            Arch::Aarch64 => Self::Uefi,
        }
    }
}

impl FromStr for Firmware {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "bios" => Ok(Self::Bios),
            "uefi" => Ok(Self::Uefi),
            _ => Err(Invalid::new("allowed: bios, uefi")),
        }
    }
}

/// What says which file the right one is. A digest is always that of the file as it is downloaded,
/// before it is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The catalogue itself: the image never changes.
    Pinned(PublishedDigest),
    /// The publisher, who replaces the image from time to time.
    Listed(Box<DigestList>),
}

/// A publisher's list of digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestList {
    /// `https://` (or `http://`, `file://` of a mirror of one's own).
    pub url: Url,
    /// How it is written.
    pub format: ListFormat,
    /// What it counts.
    pub algorithm: HashAlgorithm,
    /// The image's name in it.
    pub file: String,
    /// Who vouches for the list.
    pub signature: Signature,
}

/// How a list of digests is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListFormat {
    /// `sha256sum`'s: `<hex>  <file>`, or `<hex> *<file>`.
    Gnu,
    /// `sha256sum --tag`'s: `SHA256 (<file>) = <hex>`.
    Bsd,
    /// One digest and nothing else, or one line of `sha256sum`.
    Single,
}

impl FromStr for ListFormat {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "gnu" => Ok(Self::Gnu),
            "bsd" => Ok(Self::Bsd),
            "single" => Ok(Self::Single),
            _ => Err(Invalid::new("allowed: gnu, bsd, single")),
        }
    }
}

/// An OpenPGP signature of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// None: the list is as good as the connection that it came through.
    Unsigned {
        /// Why, in the catalogue's words.
        reason: String,
    },
    /// In a file of its own.
    Detached {
        /// Where.
        url: Url,
        /// The name of the key that must have made it, among those that are built in.
        key: String,
    },
    /// Around the list's text.
    Clearsigned {
        /// As above.
        key: String,
    },
}

/// A hash function that publishers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    /// Hexadecimal digits of a digest.
    #[must_use]
    pub const fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// As a line in BSD's style begins: `SHA256`, `SHA512`.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    /// Its name in lists and on the command line: `sha256`, `sha512`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl FromStr for HashAlgorithm {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(Invalid::new("allowed: sha256, sha512")),
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The digest of a file as its publisher offers it, written `sha256:…` or `sha512:…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawDigest")]
pub struct PublishedDigest {
    algorithm: HashAlgorithm,
    hex: String,
}

#[derive(Deserialize)]
struct RawDigest {
    algorithm: HashAlgorithm,
    hex: String,
}

impl TryFrom<RawDigest> for PublishedDigest {
    type Error = Invalid;

    fn try_from(raw: RawDigest) -> Result<Self, Invalid> {
        Self::new(raw.algorithm, &raw.hex)
    }
}

impl PublishedDigest {
    /// A digest of so many hexadecimal digits as the function gives; kept in lower case.
    ///
    /// # Errors
    /// If it has others, or not as many.
    pub fn new(algorithm: HashAlgorithm, hex: &str) -> Result<Self, Invalid> {
        let (digits, name) = (algorithm.digits(), algorithm.tag());
        if hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self { algorithm, hex: hex.to_ascii_lowercase() })
        } else {
            Err(Invalid::new(format!("must be a {name}: {digits} hexadecimal digits")))
        }
    }

    /// The function.
    #[must_use]
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The lower-case hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for PublishedDigest {
    type Err = Invalid;

    /// Bare digits are a SHA-256, as in the catalogues of earlier versions.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once(':') {
            Some((algorithm, digits)) => Self::new(algorithm.parse()?, digits),
            None => Self::new(HashAlgorithm::Sha256, text),
        }
    }
}

impl From<&Checksum> for PublishedDigest {
    fn from(checksum: &Checksum) -> Self {
        Self { algorithm: HashAlgorithm::Sha256, hex: checksum.hex().to_owned() }
    }
}

impl fmt::Display for PublishedDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}

/// The templates that this agent offers on its architecture.
#[derive(Debug, Clone, Default)]
pub struct Catalog(BTreeMap<TemplateName, Template>);

impl Catalog {
    /// The rows that run on `arch`; a later row replaces an earlier one of the same name.
    pub fn new(arch: Arch, rows: impl IntoIterator<Item = Template>) -> Self {
        Self(rows.into_iter().filter(|t| t.arch == arch).map(|t| (t.name.clone(), t)).collect())
    }

    /// The template of that name.
    ///
    /// # Errors
    /// Names the templates there are.
    pub fn get(&self, name: &TemplateName) -> Result<&Template, Invalid> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(TemplateName::as_str).collect();
            Invalid::new(match known.as_slice() {
                [] => format!("'{name}' is unknown: the catalogue is empty; set images.catalog in the agent's config"),
                known => format!("'{name}' is unknown; known are {}", known.join(", ")),
            })
        })
    }

    /// All templates, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Template> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(name: &str, arch: Arch) -> Template {
        Template {
            name: name.parse().unwrap(),
            arch,
            url: "file:///images/a.qcow2".parse().unwrap(),
            proof: Proof::Pinned("0".repeat(64).parse().unwrap()),
            default_user: "debian".to_owned(),
            min_disk: None,
            firmware: Firmware::of(arch),
        }
    }

    #[test]
    fn secrets_in_a_url_are_not_shown() {
        let url = "https://user:pass@mirror.example:8443/a.qcow2?token=x#y".parse().unwrap();
        assert_eq!(shown_url(&url), "https://mirror.example:8443/a.qcow2");
    }

    #[test]
    fn an_unknown_template_is_refused_with_the_known_ones() {
        let rows = [template("debian-12", Arch::X86_64), template("arm-only", Arch::Aarch64)];
        let catalog = Catalog::new(Arch::X86_64, rows);
        let why = catalog.get(&"windows".parse().unwrap()).unwrap_err();
        assert_eq!(why.to_string(), "'windows' is unknown; known are debian-12");
    }

    #[test]
    fn a_digest_has_the_length_of_its_function() {
        let digest = |algorithm, n| PublishedDigest::new(algorithm, &"A".repeat(n));
        assert_eq!(digest(HashAlgorithm::Sha512, 128).unwrap().hex(), "a".repeat(128));
        assert!(digest(HashAlgorithm::Sha512, 64).is_err());
        assert!(digest(HashAlgorithm::Sha256, 128).is_err());
        assert!(PublishedDigest::new(HashAlgorithm::Sha256, &"g".repeat(64)).is_err());
    }

    #[test]
    fn a_digest_that_was_stored_is_looked_at_when_it_is_read() {
        let digest = PublishedDigest::new(HashAlgorithm::Sha256, &"0".repeat(64)).unwrap();
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<PublishedDigest>(&json).unwrap(), digest);
        let short = json.replace("0000", "");
        assert!(serde_json::from_str::<PublishedDigest>(&short).is_err());
    }

    #[test]
    fn a_hash_is_read_in_either_case_and_written_with_its_algorithm() {
        for (text, algorithm) in [
            (format!("sha256:{}", "Ab".repeat(32)), HashAlgorithm::Sha256),
            ("AB".repeat(32), HashAlgorithm::Sha256),
            (format!("sha512:{}", "aB".repeat(64)), HashAlgorithm::Sha512),
        ] {
            let read: PublishedDigest = text.parse().unwrap();
            assert_eq!(read.algorithm(), algorithm);
            let again = format!("{algorithm}:{}", "ab".repeat(algorithm.digits() / 2));
            assert_eq!(read.to_string(), again);
        }
    }

    #[test]
    fn what_is_no_hash_of_its_algorithm_is_refused() {
        let wrong = ["", "ab", "md5:ab", "sha256:", "sha1:00"].map(str::to_owned);
        let lengths = ["0".repeat(63), "g".repeat(64), format!("sha512:{}", "0".repeat(64))];
        for text in wrong.into_iter().chain(lengths) {
            assert!(text.parse::<PublishedDigest>().is_err(), "{text}");
        }
    }
}
