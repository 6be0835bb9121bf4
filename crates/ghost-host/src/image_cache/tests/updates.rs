use ghost_core::domain::Update;

use super::*;

#[tokio::test]
async fn an_update_fetches_beside_and_moves_the_pointer() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &version(1));
    let cache = rig.open();
    let one = cache.ensure_cached(&debian).await.unwrap().image;
    assert_eq!(cache.update(&debian).await.unwrap(), Update::Current(one.checksum.clone()));
    rig.publisher.offer(&debian, &version(2));
    assert_eq!(cache.ensure_cached(&debian).await.unwrap().image, one);
    let (from, to) = (one.checksum.clone(), sha256(&version(2)));
    assert_eq!(cache.update(&debian).await.unwrap(), Update::New { from, to: to.clone() });
    assert_eq!(cache.ensure_cached(&debian).await.unwrap().image.checksum, to);

    assert_eq!(fs::read(&one.path).unwrap(), version(1));
    let listed = cache.list().await.unwrap();
    let old = listed.iter().find(|image| image.checksum == one.checksum).unwrap();
    assert_eq!((old.current_of.len(), &old.former_of), (0, &vec![(debian.name.clone(), 1)]));
    drop(cache);
    let names = |images: &[CachedImage]| {
        let name =
            |i: &CachedImage| (i.checksum.clone(), i.current_of.clone(), i.former_of.clone());
        images.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&rig.open().list().await.unwrap()), names(&listed));
}

#[tokio::test]
async fn it_is_known_when_the_publisher_was_last_asked() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &version(1));
    let cache = rig.open();
    let asked_at = async || cache.list().await.unwrap()[0].asked_at;
    cache.ensure_cached(&debian).await.unwrap();
    let first = asked_at().await.unwrap();
    rig.clock.jump(600);
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!(asked_at().await, Some(first));
    cache.update(&debian).await.unwrap();
    let second = asked_at().await.unwrap();
    assert!(second.duration_since(first).as_secs() >= 600, "{first} and {second}");
    rig.publisher.next_is(publisher::Mood::BreaksOff);
    rig.publisher.offer(&debian, &version(2));
    cache.update(&debian).await.unwrap_err();
    assert_eq!(asked_at().await, Some(second));
    cache.ensure_forgotten(&debian.name).await.unwrap();
    assert_eq!(asked_at().await, None);
}

#[tokio::test]
async fn what_was_never_fetched_is_not_updated() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    assert_eq!(rig.open().update(&debian).await.unwrap(), Update::NotCached);
    assert_eq!(rig.publisher.counts(), (0, 0));
}

#[tokio::test]
async fn an_update_that_fails_changes_nothing() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &version(1));
    let cache = rig.open();
    let one = cache.ensure_cached(&debian).await.unwrap().image;
    rig.publisher.offer(&debian, &version(2));
    rig.publisher.next_is(publisher::Mood::BreaksOff);
    assert_says(
        &cache.update(&debian).await.unwrap_err(),
        ErrorKind::NetworkUnavailable,
        "template debian-12: https://mirror.example/debian-12.qcow2 sent nothing",
    );
    assert_eq!(cache.ensure_cached(&debian).await.unwrap().image, one);
}

#[tokio::test]
async fn a_forgotten_template_asks_again_and_fetches_only_what_is_new() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &version(1));
    let cache = rig.open();
    cache.ensure_cached(&debian).await.unwrap();
    for _ in 0..2 {
        cache.ensure_forgotten(&debian.name).await.unwrap();
    }
    let image = cache.list().await.unwrap().remove(0);
    assert_eq!((image.current_of.len(), image.former_of), (0, vec![(debian.name.clone(), 0)]));
    assert_eq!(cache.update(&debian).await.unwrap(), Update::NotCached);
    drop(cache);
    let cache = rig.open();
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!(rig.publisher.counts(), (2, 1));
    assert_eq!(cache.list().await.unwrap()[0].current_of, std::slice::from_ref(&debian.name));
    cache.ensure_forgotten(&"never-seen".parse().unwrap()).await.unwrap();
}
