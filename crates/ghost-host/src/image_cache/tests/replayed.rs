//! Lists that were good once.

use ghost_core::domain::Update;

use super::*;

const MAY: i64 = 1_777_593_600;
const DAY: i64 = 24 * 60 * 60;

/// A cache whose template has version 2, of a list that was signed in May.
async fn cached() -> (Rig, Template, ImageCache) {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    publish(&rig, &debian, 2, MAY);
    let cache = rig.open();
    cache.ensure_cached(&debian).await.unwrap();
    (rig, debian, cache)
}

fn publish(rig: &Rig, template: &Template, n: u8, signed: i64) {
    rig.publisher.offer(template, &version(n));
    rig.publisher.sign(signed);
}

#[track_caller]
fn assert_refused(error: &AppError) {
    let words = "signed on 2026-04-30T00:00:00Z, the present image's on 2026-05-01T00:00:00Z: an old \
                 list was given again; try again later or use another mirror";
    assert_says(error, ErrorKind::NetworkUnavailable, words);
}

#[tokio::test]
async fn an_older_signed_list_does_not_bring_an_older_image_back() {
    let (rig, debian, cache) = cached().await;
    publish(&rig, &debian, 1, MAY - DAY);
    assert_refused(&cache.update(&debian).await.unwrap_err());
    // Nothing was fetched for it, and new VMs get what they got.
    assert_eq!((rig.publisher.counts(), rig.cached().len()), ((2, 1), 1));
    let image = cache.ensure_cached(&debian).await.unwrap().image.checksum;
    assert_eq!(image, sha256(&version(2)));
    drop(cache);
    assert_refused(&rig.open().update(&debian).await.unwrap_err());
}

#[tokio::test]
async fn an_older_signed_list_does_not_stand_in_for_an_image_that_was_lost() {
    let (rig, debian, cache) = cached().await;
    fs::remove_file(rig.image(&sha256(&version(2)))).unwrap();
    publish(&rig, &debian, 1, MAY - DAY);
    assert_refused(&cache.ensure_cached(&debian).await.unwrap_err());
    publish(&rig, &debian, 2, MAY);
    cache.ensure_cached(&debian).await.unwrap();
}

#[tokio::test]
async fn an_owner_who_removes_the_image_starts_anew_with_any_list() {
    let (rig, debian, cache) = cached().await;
    publish(&rig, &debian, 1, MAY - DAY);
    cache.ensure_forgotten(&debian.name).await.unwrap();
    let image = cache.ensure_cached(&debian).await.unwrap().image.checksum;
    assert_eq!(image, sha256(&version(1)));
}

#[tokio::test]
async fn a_wrong_clock_of_this_host_neither_refuses_nor_admits_a_list() {
    let (rig, debian, cache) = cached().await;
    for years in [-20, 40] {
        rig.clock.jump(years * 365 * DAY);
        publish(&rig, &debian, 1, MAY - DAY);
        assert_refused(&cache.update(&debian).await.unwrap_err());
    }
    publish(&rig, &debian, 3, MAY + 1);
    assert!(matches!(cache.update(&debian).await.unwrap(), Update::New { .. }));
}

#[tokio::test]
async fn an_older_list_that_names_the_present_image_is_accepted_and_opens_no_door() {
    let (rig, debian, cache) = cached().await;
    let current = Update::Current(sha256(&version(2)));
    publish(&rig, &debian, 2, MAY - 9 * DAY);
    assert_eq!(cache.update(&debian).await.unwrap(), current);
    publish(&rig, &debian, 1, MAY - DAY);
    assert_refused(&cache.update(&debian).await.unwrap_err());
    // Signed again since, it refuses what was signed between.
    publish(&rig, &debian, 2, MAY + 9 * DAY);
    assert_eq!(cache.update(&debian).await.unwrap(), current);
    publish(&rig, &debian, 3, MAY + DAY);
    let error = cache.update(&debian).await.unwrap_err();
    assert_says(&error, ErrorKind::NetworkUnavailable, "present image's on 2026-05-10T00:00:00Z");
}

#[tokio::test]
async fn a_pointer_of_an_older_agent_is_read_and_takes_the_first_signed_list() {
    let (rig, debian, cache) = cached().await;
    drop(cache);
    let path = rig.pointer(&debian);
    let mut note: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let version_2 = note["versions"][0].as_object_mut().unwrap();
    assert_eq!(version_2.remove("signed_at").unwrap(), "2026-05-01T00:00:00Z");
    fs::write(&path, note.to_string()).unwrap();
    let cache = rig.open();
    publish(&rig, &debian, 1, MAY - DAY);
    assert!(matches!(cache.update(&debian).await.unwrap(), Update::New { .. }));
}

#[tokio::test]
async fn a_publisher_who_signs_nothing_may_take_a_version_back() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    let cache = rig.open();
    for n in [1, 2] {
        rig.publisher.offer(&debian, &version(n));
        cache.ensure_cached(&debian).await.unwrap();
        cache.update(&debian).await.unwrap();
    }
    rig.publisher.offer(&debian, &version(1));
    let (from, to) = (sha256(&version(2)), sha256(&version(1)));
    assert_eq!(cache.update(&debian).await.unwrap(), Update::New { from, to });
}
