//! The cache on real files, with publishers that do what a test wants.

mod altered;
mod counted;
mod ensure;
mod leftovers;
mod listed;
mod publisher;
mod removal;
mod replayed;
mod updates;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::{
    AppError, Arch, Checksum, Condition, DigestList, ErrorKind, Firmware, HashAlgorithm,
    ListFormat, Proof, Signature, Template, TemplateName,
};
use ghost_core::ports::Images;
use ghost_core::testing::FakeClock;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use self::publisher::TestPublisher;
use super::qcow2::tests::image as qcow2;
use super::*;

/// A folder, and those who bring images out.
struct Rig {
    dir: TempDir,
    clock: Arc<FakeClock>,
    publisher: Arc<TestPublisher>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, clock: Arc::default(), publisher: Arc::default() }
    }

    fn gated() -> Self {
        Self { publisher: Arc::new(TestPublisher::gated()), ..Self::new() }
    }

    fn open_within(&self, patience: Duration) -> Result<ImageCache, OpenError> {
        // What is free where the tests run is not theirs to say.
        self.open_with(patience, Bytes(0))
    }

    fn open_keeping(&self, keep_free: Bytes) -> ImageCache {
        self.open_with(Duration::from_secs(5), keep_free).unwrap()
    }

    fn open_with(&self, patience: Duration, keep_free: Bytes) -> Result<ImageCache, OpenError> {
        let limits = Limits { size: Bytes(1 << 20), keep_free, ..Limits::default() };
        let (publisher, clock) = (Arc::clone(&self.publisher), Arc::clone(&self.clock));
        ImageCache::with_origin(&self.images(), limits, publisher, clock, patience)
    }

    /// The tasks of a cache that was dropped may still be ending.
    fn open(&self) -> ImageCache {
        self.open_within(Duration::from_secs(5)).unwrap()
    }

    fn images(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    fn image(&self, checksum: &Checksum) -> PathBuf {
        self.images().join(format!("{}.qcow2", checksum.hex()))
    }

    fn facts(&self, checksum: &Checksum) -> PathBuf {
        self.images().join(format!("{}.json", checksum.hex()))
    }

    fn pointer(&self, template: &Template) -> PathBuf {
        self.images().join(format!("templates/{}.json", template.name))
    }

    /// The names of what lies in a folder below the cache's.
    fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.images().join(below)).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Names of the images.
    fn cached(&self) -> Vec<String> {
        self.names("").into_iter().filter(|name| name.ends_with(".qcow2")).collect()
    }
}

fn sha256(content: &[u8]) -> Checksum {
    let hex: String = Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect();
    hex.parse().unwrap()
}

/// An image that differs from those of other `n`.
fn version(n: u8) -> Vec<u8> {
    let mut image = qcow2();
    image[150_000] = n;
    image
}

fn template(name: &str, proof: Proof) -> Template {
    Template {
        name: name.parse().unwrap(),
        arch: Arch::HOST,
        url: format!("https://user:secret@mirror.example/{name}.qcow2").parse().unwrap(),
        proof,
        default_user: "debian".to_owned(),
        min_disk: None,
        firmware: Firmware::of(Arch::HOST),
    }
}

/// A template whose publisher brings out new versions.
fn listed(name: &str) -> Template {
    let list = DigestList {
        url: "https://mirror.example/SHA512SUMS".parse().unwrap(),
        format: ListFormat::Gnu,
        algorithm: HashAlgorithm::Sha512,
        file: format!("{name}.qcow2"),
        signature: Signature::Unsigned { reason: "for a test".to_owned() },
    };
    template(name, Proof::Listed(Box::new(list)))
}

/// A template whose image the catalogue names.
fn pinned(name: &str, file: &[u8]) -> Template {
    template(name, Proof::Pinned((&sha256(file)).into()))
}

fn nobody(_: &Checksum) -> bool {
    false
}

/// Waits until what is told is as it should be.
async fn until<T>(told: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    tokio::time::timeout(Duration::from_secs(20), told.wait_for(wanted)).await.unwrap().unwrap();
}

#[track_caller]
fn assert_says(error: &AppError, kind: ErrorKind, words: &str) {
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.to_string().contains("; "), "names no remedy: {error}");
    assert_eq!(error.kind(), kind, "{error}");
}

/// Writes to a read-only file, as root or an owner can.
fn overwrite(path: &Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
}
