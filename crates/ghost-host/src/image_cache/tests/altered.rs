use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use ghost_core::domain::{HeldImage, Verified};

use super::*;

/// A cache with version 1 of a listed template.
async fn cached() -> (Rig, Template, ImageCache, HeldImage) {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &version(1));
    let cache = rig.open();
    let held = cache.ensure_cached(&debian).await.unwrap();
    (rig, debian, cache, held)
}

fn reset_mtime(path: &Path, change: impl FnOnce()) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    change();
    File::open(path).unwrap().set_modified(before).unwrap();
}

#[tokio::test]
async fn an_altered_image_is_quarantined_and_fetched_anew() {
    let (rig, debian, cache, held) = cached().await;
    overwrite(&held.image.path, &version(9));
    let image = cache.ensure_cached(&debian).await.unwrap().image;
    assert_eq!(fs::read(&image.path).unwrap(), version(1));
    assert_eq!(rig.publisher.counts(), (2, 2));
    // The right one is there again, so the wrong one is of no more use.
    assert_eq!(rig.names("quarantine"), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_quarantined_stays_to_be_looked_at_until_the_image_is_there_again() {
    let (rig, debian, cache, held) = cached().await;
    overwrite(&held.image.path, &version(9));
    rig.publisher.next_is(publisher::Mood::BreaksOff);
    cache.ensure_cached(&debian).await.unwrap_err();
    assert_eq!(rig.cached(), Vec::<String>::new());
    let aside = rig.images().join(format!("quarantine/{}.qcow2", held.image.checksum.hex()));
    assert_eq!(fs::read(aside).unwrap(), version(9));
    let listed = cache.list().await.unwrap();
    let Condition::Quarantined { why } = &listed[0].condition else { panic!("{listed:?}") };
    assert!(why.contains("it was altered: its SHA-256 is now"), "{why}");
    assert_eq!(listed[0].checksum, held.image.checksum);
    let verified = cache.verify(&held.image.checksum).await.unwrap();
    assert_eq!(verified.condition, listed[0].condition);
    drop(cache);
    assert_eq!(rig.open().list().await.unwrap(), listed);
}

/// Version 9 in the place of version 1, which is put aside for it.
async fn quarantined() -> (Rig, Template, ImageCache, Checksum, PathBuf) {
    let (rig, debian, cache, held) = cached().await;
    let image = held.image.checksum;
    overwrite(&held.image.path, &version(9));
    let condition = cache.verify(&image).await.unwrap().condition;
    assert!(matches!(condition, Condition::Quarantined { .. }), "{condition:?}");
    let aside = rig.images().join(format!("quarantine/{}.qcow2", image.hex()));
    (rig, debian, cache, image, aside)
}

#[tokio::test]
async fn an_image_in_quarantine_that_fits_after_all_is_brought_back_by_verifying() {
    let (rig, debian, cache, image, aside) = quarantined().await;
    let fetched_at = cache.list().await.unwrap()[0].fetched_at;
    overwrite(&aside, &version(1));
    rig.clock.jump(86_400);
    let verified = cache.verify(&image).await.unwrap();
    assert_eq!(verified.condition, Condition::Proven);
    assert_eq!(verified.read, Bytes(version(1).len() as u64));
    assert_eq!(rig.names("quarantine"), Vec::<String>::new());
    let listed = cache.list().await.unwrap().remove(0);
    assert_eq!((&listed.condition, listed.fetched_at), (&Condition::Proven, fetched_at));
    assert!(listed.verified_at > fetched_at);
    drop(cache);
    let held = rig.open().ensure_cached(&debian).await.unwrap();
    assert_eq!(fs::read(&held.image.path).unwrap(), version(1));
    assert_eq!(fs::metadata(&held.image.path).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(rig.publisher.counts(), (1, 1));
}

#[tokio::test]
async fn an_image_in_quarantine_that_still_differs_is_read_again_and_stays() {
    let (rig, _debian, cache, image, aside) = quarantined().await;
    let first = cache.list().await.unwrap().remove(0).condition;
    overwrite(&aside, &version(8));
    let verified = cache.verify(&image).await.unwrap();
    assert_eq!((verified.condition, verified.read), (first, Bytes(version(8).len() as u64)));
    assert_eq!((rig.names("quarantine").len(), rig.cached().len()), (2, 0));
}

#[tokio::test]
async fn an_alteration_that_keeps_size_and_time_is_found_by_verifying_only() {
    let (rig, debian, cache, held) = cached().await;
    let path = &held.image.path;
    reset_mtime(path, || overwrite(path, &version(9)));
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!(rig.publisher.counts(), (1, 1));
    let Verified { read, condition, .. } = cache.verify(&held.image.checksum).await.unwrap();
    assert_eq!(read, Bytes(version(9).len() as u64));
    assert!(matches!(condition, Condition::Quarantined { .. }), "{condition:?}");
    assert_eq!(
        fs::read(cache.ensure_cached(&debian).await.unwrap().image.path).unwrap(),
        version(1)
    );
}

#[tokio::test]
async fn a_touched_image_with_the_right_content_is_repaired_without_a_fetch() {
    let (rig, debian, cache, held) = cached().await;
    let path = &held.image.path;
    overwrite(path, &version(1));
    cache.ensure_cached(&debian).await.unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o664)).unwrap();
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(rig.publisher.counts(), (1, 1));
}

#[tokio::test]
async fn verifying_says_what_was_read_and_when() {
    let (rig, _debian, cache, held) = cached().await;
    rig.clock.jump(86_400);
    let before = cache.list().await.unwrap()[0].verified_at;
    let verified = cache.verify(&held.image.checksum).await.unwrap();
    assert_eq!(verified.condition, Condition::Proven);
    assert_eq!(verified.read, Bytes(version(1).len() as u64));
    let after = cache.list().await.unwrap()[0].verified_at;
    assert!(after.duration_since(before).as_secs() >= 86_400, "{before} to {after}");
    drop((held, cache));
    assert_eq!(rig.open().list().await.unwrap()[0].verified_at, after);
}

#[tokio::test]
async fn verifying_what_is_not_cached_says_so() {
    let rig = Rig::new();
    let error = rig.open().verify(&sha256(b"")).await.unwrap_err();
    assert_says(&error, ErrorKind::NotFound, "is cached; list the images");
}

#[tokio::test]
async fn a_pointer_to_an_image_that_is_gone_fetches_it_anew() {
    let (rig, debian, cache, held) = cached().await;
    fs::remove_file(&held.image.path).unwrap();
    assert_eq!(cache.list().await.unwrap(), []);
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!(rig.publisher.counts(), (2, 2));

    drop(cache);
    fs::remove_file(&held.image.path).unwrap();
    rig.open().ensure_cached(&debian).await.unwrap();
    assert_eq!(rig.publisher.counts(), (3, 3));
}

#[tokio::test]
async fn what_is_no_file_is_moved_aside_unread_and_the_image_fetched_anew() {
    let (rig, debian, cache, held) = cached().await;
    let path = &held.image.path;
    let decoy = rig.dir.path().join("decoy");
    fs::write(&decoy, version(1)).unwrap();
    let puts: [(&str, &dyn Fn()); 3] = [
        ("folder", &|| fs::create_dir(path).unwrap()),
        ("link", &|| std::os::unix::fs::symlink(&decoy, path).unwrap()),
        ("pipe", &|| {
            let mode = rustix::fs::Mode::from_raw_mode(0o444);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                .unwrap();
        }),
    ];
    for (n, (what, put)) in puts.into_iter().enumerate() {
        fs::remove_file(path).unwrap();
        put();
        let waited = tokio::time::timeout(Duration::from_secs(20), cache.ensure_cached(&debian));
        waited.await.expect(what).unwrap();
        assert!(fs::symlink_metadata(path).unwrap().is_file(), "{what}");
        assert_eq!(rig.publisher.counts().1, n + 2, "{what}");
        let aside = PathBuf::from(format!("{}.damaged-{}", path.display(), n + 1));
        assert!(fs::symlink_metadata(aside).is_ok(), "{what}");
    }
    assert_eq!(fs::read(decoy).unwrap(), version(1));
}

#[tokio::test]
async fn an_emptied_file_is_quarantined_and_fetched_anew() {
    let (rig, debian, cache, held) = cached().await;
    overwrite(&held.image.path, b"");
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!(fs::read(&held.image.path).unwrap(), version(1));
    assert_eq!(rig.publisher.counts(), (2, 2));
}

#[tokio::test]
async fn garbled_notes_are_moved_aside_and_made_anew() {
    let (rig, debian, cache, held) = cached().await;
    drop(cache);
    let garbled: [&[u8]; 4] = [b"", b"\xff{", b"{\"schema\": 99}", b"[]"];
    for (n, content) in garbled.into_iter().enumerate() {
        fs::write(rig.facts(&held.image.checksum), content).unwrap();
        fs::write(rig.pointer(&debian), content).unwrap();
        let cache = rig.open();
        let image = cache.ensure_cached(&debian).await.unwrap().image;
        assert_eq!(image, held.image);
        let aside = format!("{}.damaged-{}", rig.pointer(&debian).display(), n + 1);
        assert_eq!(fs::read(aside).unwrap(), content);
        assert_eq!(cache.list().await.unwrap()[0].current_of, std::slice::from_ref(&debian.name));
    }
    // The publisher's digest is of another function than the name: only the notes knew it.
    assert_eq!(rig.publisher.counts(), (5, 5));
    assert_eq!(rig.cached().len(), 1);
}

#[tokio::test]
async fn listing_has_touched_images_hashed_by_and_by() {
    let (_rig, _debian, cache, held) = cached().await;
    overwrite(&held.image.path, &version(9));
    let quarantined = async {
        loop {
            let images = cache.list().await.unwrap();
            if matches!(images[0].condition, Condition::Quarantined { .. }) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), quarantined).await.unwrap();
}
