mod server;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use futures_util::future::join_all;
use ghost_core::domain::{Arch, ErrorKind};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use url::Url;

use self::server::{Answer, Server};
use super::qcow2::tests::image as qcow2;
use super::*;

fn template(url: &str, content: &[u8]) -> Template {
    Template {
        name: "debian-12".parse().unwrap(),
        arch: Arch::HOST,
        url: url.parse().unwrap(),
        checksum: store::hex(Sha256::new_with_prefix(content)).parse().unwrap(),
        default_user: "debian".to_owned(),
    }
}

fn cache_with(limits: Limits) -> (TempDir, ImageCache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = ImageCache::open(&dir.path().join("images"), limits).unwrap();
    (dir, cache)
}

fn cache() -> (TempDir, ImageCache) {
    cache_with(Limits::default())
}

fn files(dir: &TempDir) -> Vec<PathBuf> {
    fs::read_dir(dir.path().join("images")).unwrap().map(|e| e.unwrap().path()).collect()
}

/// The error of a fetch that must fail and leave nothing.
async fn failure(url: &str, content: &[u8], limits: Limits) -> ghost_core::domain::AppError {
    let (dir, cache) = cache_with(limits);
    let error = cache.ensure_cached(&template(url, content)).await.unwrap_err();
    assert_eq!(files(&dir), Vec::<PathBuf>::new(), "{error}");
    error
}

#[track_caller]
fn assert_says(error: &ghost_core::domain::AppError, kind: ErrorKind, words: &str) {
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.to_string().contains("; "), "names no remedy: {error}");
    assert_eq!(error.kind(), kind, "{error}");
}

#[tokio::test]
async fn an_image_is_downloaded_once_and_kept_read_only_under_its_digest() {
    let server = Server::start(Answer::file(&qcow2()));
    let (dir, cache) = cache();
    let template = template(&server.url, &qcow2());
    let image = cache.ensure_cached(&template).await.unwrap();
    assert_eq!(fs::metadata(&image.path).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(cache.ensure_cached(&template).await.unwrap(), image);

    assert_eq!(server.requests(), 1);
    assert_eq!(
        image.path,
        dir.path().join("images").join(format!("{}.qcow2", template.checksum.hex()))
    );
    assert_eq!(image.virtual_size, Bytes(2 << 30));
    assert_eq!(fs::read(&image.path).unwrap(), qcow2());
    let folder = fs::metadata(dir.path().join("images")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o755);
    assert_eq!(files(&dir), [image.path]);
}

#[tokio::test]
async fn a_local_image_is_copied() {
    let (dir, cache) = cache();
    let source = dir.path().join("my image.qcow2");
    let large = [qcow2(), vec![7; 3 << 20]].concat();
    fs::write(&source, &large).unwrap();
    let url = Url::from_file_path(&source).unwrap();
    let image = cache.ensure_cached(&template(url.as_str(), &large)).await.unwrap();
    fs::remove_file(source).unwrap();
    assert_eq!(fs::read(&image.path).unwrap(), large);
}

#[tokio::test]
async fn ten_who_ask_at_once_share_one_download() {
    let server = Server::start(Answer::file(&qcow2()));
    let (_dir, cache) = cache();
    let template = template(&server.url, &qcow2());
    let images = join_all((0..10).map(|_| cache.ensure_cached(&template))).await;
    assert!(images.iter().all(Result::is_ok), "{images:?}");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_download_goes_on_when_who_asked_first_leaves() {
    let server = Server::start(Answer { gated: true, ..Answer::file(&qcow2()) });
    let (_dir, cache) = cache();
    let template = template(&server.url, &qcow2());
    {
        let mut first = cache.ensure_cached(&template);
        while server.requests() == 0 {
            assert!(first.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    }
    server.open_gate();
    cache.ensure_cached(&template).await.unwrap();
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn after_a_failure_the_next_who_asks_fetches_again() {
    let server = Server::start(Answer { status: "404 Not Found", ..Answer::file(b"") });
    let (_dir, cache) = cache();
    let template = template(&server.url, &qcow2());
    for _ in 0..2 {
        cache.ensure_cached(&template).await.unwrap_err();
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn another_content_than_the_catalogues_is_refused_with_both_digests() {
    let server = Server::start(Answer::file(b"something else"));
    let error = failure(&server.url, &qcow2(), Limits::default()).await;
    let got = store::hex(Sha256::new_with_prefix(b"something else"));
    assert_says(
        &error,
        ErrorKind::NetworkUnavailable,
        &format!("has the SHA-256 {got}, the catalogue says"),
    );
    assert!(error.to_string().contains(&server.url), "{error}");
}

#[tokio::test]
async fn a_body_that_is_cut_off_leaves_nothing() {
    let server = Server::start(Answer { promised: 5_000, ..Answer::file(&qcow2()) });
    let error = failure(&server.url, &qcow2(), Limits::default()).await;
    assert_says(&error, ErrorKind::NetworkUnavailable, "broke off after 512 bytes");
}

#[tokio::test]
async fn a_missing_file_names_the_servers_answer() {
    let server = Server::start(Answer { status: "404 Not Found", ..Answer::file(b"no") });
    let error = failure(&server.url, &qcow2(), Limits::default()).await;
    assert_says(&error, ErrorKind::NetworkUnavailable, "answers 404 Not Found");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let server = Server::start(Answer { promised: 5_000, gated: true, ..Answer::file(&qcow2()) });
    let limits = Limits { stall: Duration::from_millis(50), ..Limits::default() };
    let error = failure(&server.url, &qcow2(), limits).await;
    assert_says(&error, ErrorKind::NetworkUnavailable, "sent nothing for 0.05 s, after 0 bytes");
}

#[tokio::test]
async fn a_download_that_takes_too_long_in_all_is_given_up() {
    let server = Server::start(Answer { gated: true, ..Answer::file(&qcow2()) });
    let limits = Limits { whole: Duration::from_millis(50), ..Limits::default() };
    let error = failure(&server.url, &qcow2(), limits).await;
    assert_says(&error, ErrorKind::NetworkUnavailable, "took longer than");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_cause() {
    let url = Server::start(Answer::file(b"")).stop();
    let error = failure(&url, &qcow2(), Limits::default()).await;
    assert_says(&error, ErrorKind::NetworkUnavailable, "Connection refused");
}

#[tokio::test]
async fn https_is_spoken_only_to_who_speaks_it_too() {
    let server = Server::start(Answer::file(&qcow2()));
    let url = server.url.replace("http://", "https://");
    let error = failure(&url, &qcow2(), Limits::default()).await;
    assert_says(&error, ErrorKind::NetworkUnavailable, "cannot reach https://127.0.0.1");
}

#[tokio::test]
async fn an_image_beyond_the_limit_is_refused_announced_or_not() {
    let limits = Limits { size: Bytes(100), ..Limits::default() };
    for announced in [true, false] {
        let server = Server::start(Answer { announced, ..Answer::file(&qcow2()) });
        let error = failure(&server.url, &qcow2(), limits).await;
        assert_says(&error, ErrorKind::Validation, "is larger than");
    }
}

#[tokio::test]
async fn an_image_larger_than_the_free_space_is_not_begun() {
    let server = Server::start(Answer { promised: 1 << 60, ..Answer::file(&qcow2()) });
    let limits = Limits { size: Bytes(u64::MAX), ..Limits::default() };
    let error = failure(&server.url, &qcow2(), limits).await;
    assert_says(&error, ErrorKind::ResourceLimit, "are free; free some space there");
}

#[tokio::test]
async fn images_that_read_other_files_or_are_no_qcow2_are_refused_though_the_digest_fits() {
    let with = |at: usize| {
        let mut image = qcow2();
        image[at] = 4;
        image
    };
    let cases = [
        (with(15), "has a backing file"),
        (with(79), "has an external data file"),
        (Vec::new(), "is not a qcow2 but empty"),
        (vec![0; 4096], "perhaps a raw disk image"),
    ];
    for (content, words) in cases {
        let server = Server::start(Answer::file(&content));
        let error = failure(&server.url, &content, Limits::default()).await;
        assert_says(&error, ErrorKind::Validation, words);
        assert_eq!(error.violations()[0].field, "template");
    }
}

#[tokio::test]
async fn a_local_image_that_is_missing_or_a_folder_is_named() {
    let missing = failure("file:///nowhere/a.qcow2", b"", Limits::default()).await;
    assert_says(
        &missing,
        ErrorKind::NetworkUnavailable,
        "cannot read the image /nowhere/a.qcow2: No such file",
    );
    let folder = failure("file:///tmp", b"", Limits::default()).await;
    assert_says(&folder, ErrorKind::NetworkUnavailable, "file:///tmp is not a regular file");
}

#[tokio::test]
async fn a_folder_in_the_images_place_is_named_and_left_alone() {
    let (dir, cache) = cache();
    let template = template("file:///nowhere", &qcow2());
    let taken = dir.path().join("images").join(format!("{}.qcow2", template.checksum.hex()));
    fs::create_dir(&taken).unwrap();
    let error = cache.ensure_cached(&template).await.unwrap_err();
    assert_says(&error, ErrorKind::Internal, "was changed: it is not a regular file");
    assert!(taken.is_dir());
}

#[tokio::test]
async fn a_cached_image_made_writable_is_proven_again() {
    let server = Server::start(Answer::file(&qcow2()));
    let (_dir, cache) = cache();
    let template = template(&server.url, &qcow2());
    let path = cache.ensure_cached(&template).await.unwrap().path;

    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    cache.ensure_cached(&template).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);

    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, [qcow2(), b"!".to_vec()].concat()).unwrap();
    let error = cache.ensure_cached(&template).await.unwrap_err();
    assert_says(&error, ErrorKind::Internal, "no longer has the digest");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn the_next_start_removes_what_a_crash_left_and_nothing_that_is_being_written() {
    let (dir, cache) = cache();
    let part = cache.store.part(&template("file:///a", b"").checksum).unwrap();
    fs::write(dir.path().join("images/abandoned.part"), "half").unwrap();
    fs::write(dir.path().join("images/other"), "mine").unwrap();
    ImageCache::open(&dir.path().join("images"), Limits::default()).unwrap();
    assert_eq!(files(&dir).len(), 2);
    drop(part);
    assert_eq!(files(&dir), [dir.path().join("images/other")]);
}
