mod alone;
mod clock;
mod disk;
mod encrypted;
mod interrupted;
mod misbehaving;
mod proxied;
mod redirected;
mod resumed;
mod server;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ghost_core::domain::HashAlgorithm;
use sha2::Digest;
use tempfile::TempDir;

use self::clock::TestClock;
use self::server::{Asked, Reply, Server};
use super::*;

/// Of the file of most tests.
const LENGTH: usize = 3 << 20;
const HALF: usize = LENGTH / 2;

/// A file that looks the same in every test, and nowhere repeats itself.
fn content() -> Vec<u8> {
    let mut content = vec![0; LENGTH];
    fastrand::Rng::with_seed(5).fill(&mut content);
    content
}

fn sha256(content: &[u8]) -> PublishedDigest {
    let hex: String =
        sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    PublishedDigest::new(HashAlgorithm::Sha256, &hex).unwrap()
}

fn limits() -> Limits {
    Limits { keep_free: Bytes(0), ..Limits::default() }
}

/// A fetcher with a folder for its parts.
struct Rig {
    parts: TempDir,
    clock: Arc<TestClock>,
    fetcher: Fetcher,
    told: Mutex<Vec<Told>>,
}

impl Rig {
    fn new(limits: Limits) -> Self {
        let clock = Arc::<TestClock>::default();
        let fetcher = Fetcher::new(limits, Arc::clone(&clock) as Arc<dyn Clock>);
        Self { parts: tempfile::tempdir().unwrap(), clock, fetcher, told: Mutex::default() }
    }

    async fn file(&self, url: &str, digest: &PublishedDigest) -> Result<ProvenFile, ImageError> {
        let told = |told| self.told.lock().unwrap().push(told);
        self.fetcher.file(&url.parse().unwrap(), digest, self.parts.path(), &told).await
    }

    /// The content that came, which must be right.
    async fn content_from(&self, url: &str) -> ProvenFile {
        let file = self.file(url, &sha256(&content())).await.unwrap();
        assert_eq!(fs::read(&file.path).unwrap(), content());
        assert_eq!(file.size, Bytes(LENGTH as u64));
        assert_eq!(file.sha256.hex(), sha256(&content()).hex());
        assert_eq!(self.files(), std::slice::from_ref(&file.path), "more than the file is left");
        file
    }

    /// The failure to get the content.
    async fn failure_from(&self, url: &str) -> ImageError {
        let error = self.file(url, &sha256(&content())).await.unwrap_err();
        let text = error.to_string();
        assert!(!text.contains('\n') && !error.remedy().is_empty(), "{text}");
        error
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.parts.path()).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn part(&self) -> PathBuf {
        self.parts.path().join(format!("sha256-{}.part", sha256(&content()).hex()))
    }

    fn waits(&self) -> usize {
        let told = self.told.lock().unwrap();
        let waits = told.iter().filter(|told| matches!(told, Told::Waiting { .. })).count();
        assert_eq!(self.clock.sleeps().len(), waits, "a pause that was not told");
        waits
    }
}

#[tokio::test]
async fn a_file_comes_with_its_digest_its_length_and_its_progress() {
    let server = Server::start(|_, asked| Reply::ranged(asked, &content(), "\"1\""));
    let rig = Rig::new(limits());
    let file = rig.content_from(&server.url).await;
    assert_eq!((file.path, file.shown), (rig.part(), server.url.clone()));
    let told = |done| Told::Downloading { done: Bytes(done), total: Some(Bytes(LENGTH as u64)) };
    assert_eq!(*rig.told.lock().unwrap(), [told(0), told(LENGTH as u64)]);
    assert_eq!(server.asked()[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn progress_is_told_while_it_comes_but_not_for_every_chunk() {
    let clock = Arc::new(Mutex::new(None::<Arc<TestClock>>));
    let ticking = Arc::clone(&clock);
    let server = Server::start(move |_, _| {
        let clock = Arc::clone(ticking.lock().unwrap().as_ref().unwrap());
        Reply::file(&content()).dripping(clock, Duration::from_millis(1), 4096)
    });
    let rig = Rig::new(limits());
    *clock.lock().unwrap() = Some(Arc::clone(&rig.clock));
    rig.content_from(&server.url).await;
    let told = rig.told.lock().unwrap().len();
    assert!((2..=2 + LENGTH / 4096 / 100).contains(&told), "{told}");
}

#[tokio::test]
async fn a_file_listed_by_its_sha_512_is_proven_by_it_and_still_has_its_sha_256() {
    let server = Server::start(|_, _| Reply::file(&content()));
    let hex: String =
        sha2::Sha512::digest(content()).iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = PublishedDigest::new(HashAlgorithm::Sha512, &hex).unwrap();
    let rig = Rig::new(limits());
    let file = rig.file(&server.url, &digest).await.unwrap();
    assert_eq!(file.sha256.hex(), sha256(&content()).hex());
    let other = PublishedDigest::new(HashAlgorithm::Sha512, &"0".repeat(128)).unwrap();
    let error = rig.file(&server.url, &other).await.unwrap_err().to_string();
    assert!(error.contains(&format!("has the digest sha512:{hex}, the catalogue")), "{error}");
}

#[tokio::test]
async fn a_file_of_the_host_is_copied() {
    let rig = Rig::new(limits());
    let source = tempfile::tempdir().unwrap();
    let path = source.path().join("my image.qcow2");
    fs::write(&path, content()).unwrap();
    let url = Url::from_file_path(&path).unwrap();
    rig.content_from(url.as_str()).await;
    assert_eq!(
        rig.fetcher.document(&url).await.unwrap_err().to_string(),
        format!("{} is longer than 1 MiB, the most that a list of digests may have", shown(&url))
    );
}

#[tokio::test]
async fn what_is_no_file_of_the_host_is_refused_without_waiting_for_it() {
    let rig = Rig::new(limits());
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), dir.path(), Path::new("/dev/zero")] {
        let url = Url::from_file_path(path).unwrap();
        let error = rig.failure_from(url.as_str()).await.to_string();
        assert!(error.ends_with("is not a regular file"), "{error}");
    }
    let error = rig.failure_from("file:///nowhere/a.qcow2").await.to_string();
    assert!(error.contains("/nowhere/a.qcow2: No such file"), "{error}");
}

#[tokio::test]
async fn a_file_of_the_host_that_is_another_one_is_refused() {
    let rig = Rig::new(limits());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.qcow2");
    fs::write(&path, &content()[1..]).unwrap();
    let error = rig.failure_from(Url::from_file_path(&path).unwrap().as_str()).await;
    assert!(matches!(error, ImageError::WrongChecksum { .. }), "{error}");
    assert!(rig.files().is_empty());
}

#[tokio::test]
async fn a_document_comes_as_it_is_and_up_to_its_limit() {
    let server = Server::start(|_, asked| match asked.path() {
        "/announced" => Reply::file(&vec![b'x'; (1 << 20) + 1]),
        "/endless" => Reply::file(&vec![b'x'; (1 << 20) + 1]).unannounced(),
        "/most" => Reply::file(&vec![b'x'; 1 << 20]),
        _ => Reply::file(b"digest  file\n"),
    });
    let rig = Rig::new(limits());
    let document = async |path| rig.fetcher.document(&server.at(path)).await;
    assert_eq!(document("/list").await.unwrap(), b"digest  file\n");
    assert_eq!(document("/most").await.unwrap().len(), 1 << 20);
    for path in ["/announced", "/endless"] {
        let error = document(path).await.unwrap_err();
        assert!(matches!(error, ImageError::LongDocument { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_document_is_tried_again_and_given_up_when_its_server_never_answers() {
    let server = Server::start(|n, _| match n {
        0 => Reply::status("503 Service Unavailable"),
        _ => Reply::file(b"list"),
    });
    let rig = Rig::new(limits());
    assert_eq!(rig.fetcher.document(&server.at("/list")).await.unwrap(), b"list");
    assert_eq!(rig.clock.sleeps().len(), 1);

    let silent = Server::start(|_, _| Reply::silence());
    let (connect, stall) = (Duration::from_millis(500), Duration::from_millis(100));
    let rig = Rig::new(Limits { connect, stall, attempts: 2, ..limits() });
    let error = rig.fetcher.document(&silent.at("/list")).await.unwrap_err().to_string();
    assert!(error.contains("sent nothing for 0.6 s, after 0 bytes"), "{error}");
    assert_eq!(rig.clock.sleeps().len(), 1);
}
