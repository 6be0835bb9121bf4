use super::publisher::Mood;
use super::*;

#[tokio::test]
async fn an_image_that_came_in_counts_with_its_bytes_and_only_once() {
    let (dir, file) = (tempfile::tempdir().unwrap(), version(1));
    let source = dir.path().join("debian.qcow2");
    fs::write(&source, &file).unwrap();
    let clock = Arc::new(FakeClock::default());
    let (images, none) = (dir.path().join("images"), Mirrors::new(Vec::new()).unwrap());
    let cache = ImageCache::open(&images, Limits::default(), none, clock).unwrap();
    let url = format!("file://{}", source.display()).parse().unwrap();
    let debian = Template { url, ..pinned("debian-12", &file) };
    for _ in 0..2 {
        drop(cache.ensure_cached(&debian).await.unwrap());
    }
    let downloads = cache.downloads();
    assert_eq!((downloads.succeeded(), downloads.failed()), (1, 0));
    assert_eq!(downloads.received(), Bytes(file.len() as u64));
}

#[tokio::test]
async fn one_that_did_not_come_in_counts_as_failed() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &version(1));
    let cache = rig.open();
    rig.publisher.next_is(Mood::BreaksOff);
    cache.ensure_cached(&debian).await.unwrap_err();
    let downloads = cache.downloads();
    assert_eq!((downloads.succeeded(), downloads.failed()), (0, 1));
    drop(cache.ensure_cached(&debian).await.unwrap());
    assert_eq!((downloads.succeeded(), downloads.failed()), (1, 1));
}
