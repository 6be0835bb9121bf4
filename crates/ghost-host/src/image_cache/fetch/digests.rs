//! The digests of what has come. Invariant: they count exactly the bytes that were given, in order.

use ghost_core::domain::{Checksum, HashAlgorithm, PublishedDigest};
use sha2::{Digest, Sha256, Sha512};

/// The SHA-256, which names images, and the digest that the publisher offers.
#[derive(Debug, Clone)]
pub(super) struct Digests {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Digests {
    /// Those of no bytes.
    pub(super) fn new(listed: HashAlgorithm) -> Self {
        let sha512 = match listed {
            HashAlgorithm::Sha256 => None,
            HashAlgorithm::Sha512 => Some(Sha512::new()),
        };
        Self { sha256: Sha256::new(), sha512 }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// The SHA-256 so far.
    #[expect(clippy::expect_used, reason = "32 bytes are 64 hexadecimal digits")]
    pub(super) fn sha256(&self) -> Checksum {
        hex(&self.sha256.clone().finalize()).parse().expect("a SHA-256")
    }

    /// The listed digest so far, in hexadecimal digits.
    pub(super) fn listed(&self) -> String {
        match &self.sha512 {
            Some(sha512) => hex(&sha512.clone().finalize()),
            None => self.sha256().hex().to_owned(),
        }
    }

    pub(super) fn are(&self, digest: &PublishedDigest) -> bool {
        self.listed() == digest.hex()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
