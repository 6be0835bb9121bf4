use std::os::unix::fs::PermissionsExt;

use futures_util::FutureExt;
use futures_util::future::join_all;
use ghost_core::domain::FetchStage;
use jiff::SignedDuration;

use super::publisher::{Mood, packed};
use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn an_image_is_fetched_once_and_named_and_sealed_and_then_given_at_once() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &version(1));
    let cache = rig.open();
    let image = cache.ensure_cached(&debian).await.unwrap().image;
    assert_eq!(cache.ensure_cached(&debian).await.unwrap().image, image);

    assert_eq!(rig.publisher.counts(), (1, 1));
    assert_eq!(image.checksum, sha256(&version(1)));
    assert_eq!(image.path, rig.image(&image.checksum));
    assert_eq!(image.virtual_size, Bytes(2 << 30));
    assert_eq!(fs::read(&image.path).unwrap(), version(1));
    assert_eq!((mode(&image.path), mode(&rig.images())), (0o444, 0o755));
    assert_eq!(rig.names("parts"), Vec::<String>::new());
    assert!(cache.fetching().borrow().is_empty());

    let listed = cache.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].current_of, std::slice::from_ref(&debian.name));
    assert_eq!(listed[0].condition, Condition::Proven);
    assert!(listed[0].size.0 >= version(1).len() as u64 / 2, "{:?}", listed[0].size);
}

#[tokio::test]
async fn what_is_cached_outlives_the_agent() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &packed(&version(1)));
    let before = rig.open();
    let image = before.ensure_cached(&debian).await.unwrap().image;
    let known = before.list().await.unwrap();
    drop(before);
    let cache = rig.open();
    assert_eq!(cache.list().await.unwrap(), known);
    assert_eq!(cache.ensure_cached(&debian).await.unwrap().image, image);
    assert_eq!(rig.publisher.counts(), (1, 1));
}

#[tokio::test]
async fn eight_who_want_two_templates_with_one_digest_share_one_fetch_and_are_shown_with_it() {
    let rig = Rig::gated();
    let templates = ["debian-12", "mine"].map(|name| pinned(name, &version(1)));
    templates.iter().for_each(|template| rig.publisher.offer(template, &version(1)));
    let cache = rig.open();
    let mut fetching = cache.fetching();
    let all = join_all(templates.iter().cycle().take(8).map(|t| cache.ensure_cached(t)));
    let opens = async {
        until(&mut fetching, |rows| rows.iter().any(|row| row.templates.len() == 2)).await;
        let rows = fetching.borrow_and_update().clone();
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0].stage, FetchStage::Downloading);
        assert!(rows[0].url.starts_with("https://mirror.example/"), "{}", rows[0].url);
        rig.publisher.gate.add_permits(1);
        until(&mut fetching, Vec::is_empty).await;
    };
    let (images, ()) = tokio::join!(all, opens);
    assert!(images.iter().all(Result::is_ok), "{images:?}");
    assert_eq!(rig.publisher.counts(), (0, 1));
    assert_eq!(cache.list().await.unwrap()[0].current_of.len(), 2);
}

#[tokio::test]
async fn a_fetch_goes_on_when_who_asked_leaves() {
    let rig = Rig::gated();
    let debian = listed("debian-12");
    rig.publisher.offer(&debian, &version(1));
    let cache = rig.open();
    let mut fetching = cache.fetching();
    {
        let mut first = cache.ensure_cached(&debian);
        while rig.publisher.counts().1 == 0 {
            assert!(first.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    }
    rig.publisher.gate.add_permits(1);
    until(&mut fetching, Vec::is_empty).await;
    assert_eq!(cache.list().await.unwrap()[0].current_of, std::slice::from_ref(&debian.name));
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!(rig.publisher.counts(), (1, 1));
}

#[tokio::test]
async fn a_fetch_that_fails_or_panics_is_forgotten_and_the_next_begins_anew() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &version(1));
    let cache = rig.open();
    let failures = [
        (Mood::BreaksOff, ErrorKind::NetworkUnavailable, "sent nothing"),
        (Mood::Panics, ErrorKind::ShuttingDown, "was interrupted"),
    ];
    for (mood, kind, words) in failures {
        rig.publisher.next_is(mood);
        let error = cache.ensure_cached(&debian).await.unwrap_err();
        assert_says(&error, kind, words);
        assert!(cache.fetching().borrow().is_empty());
        assert_eq!(rig.cached(), Vec::<String>::new());
        assert!(!rig.pointer(&debian).exists());
    }
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!(rig.publisher.counts(), (3, 3));
}

#[tokio::test]
async fn a_pinned_template_follows_the_catalogue_and_back_without_another_fetch() {
    let rig = Rig::new();
    let (one, two) = (pinned("mine", &version(1)), pinned("mine", &version(2)));
    let cache = rig.open();
    rig.publisher.offer(&one, &version(1));
    cache.ensure_cached(&one).await.unwrap();
    rig.publisher.offer(&two, &version(2));
    assert_eq!(cache.ensure_cached(&two).await.unwrap().image.checksum, sha256(&version(2)));
    assert_eq!(cache.ensure_cached(&one).await.unwrap().image.checksum, sha256(&version(1)));
    assert_eq!(rig.publisher.counts(), (0, 2));
    let former = cache.list().await.unwrap().into_iter().find(|i| i.current_of.is_empty()).unwrap();
    assert_eq!(former.former_of, [("mine".parse().unwrap(), 1)]);
}

#[tokio::test]
async fn a_packed_image_is_named_by_what_qemu_reads_and_known_by_what_is_published() {
    let (rig, cirros) = (Rig::new(), pinned("cirros", &packed(&version(1))));
    rig.publisher.offer(&cirros, &packed(&version(1)));
    let cache = rig.open();
    let image = cache.ensure_cached(&cirros).await.unwrap().image;
    assert_eq!(image.checksum, sha256(&version(1)));
    assert_eq!(fs::read(&image.path).unwrap(), version(1));
    assert_eq!(mode(&image.path), 0o444);
    assert_eq!(rig.names("parts"), Vec::<String>::new());
    let again = template("again", cirros.proof.clone());
    assert_eq!(cache.ensure_cached(&again).await.unwrap().image, image);
    assert_eq!(rig.publisher.counts(), (0, 1));
}

#[tokio::test]
async fn of_two_files_that_unpack_to_the_same_image_the_first_stays() {
    let (rig, plain) = (Rig::new(), pinned("plain", &version(1)));
    let zipped = pinned("zipped", &packed(&version(1)));
    rig.publisher.offer(&plain, &version(1));
    rig.publisher.offer(&zipped, &packed(&version(1)));
    let cache = rig.open();
    let first = cache.ensure_cached(&plain).await.unwrap().image;
    let written = fs::metadata(&first.path).unwrap().modified().unwrap();
    assert_eq!(cache.ensure_cached(&zipped).await.unwrap().image, first);
    assert_eq!(fs::metadata(&first.path).unwrap().modified().unwrap(), written);
    assert_eq!(rig.names("parts"), Vec::<String>::new());
}

#[tokio::test]
async fn the_right_file_that_is_not_fit_to_be_an_image_is_deleted() {
    let with = |at: usize, byte: u8| {
        let mut image = qcow2();
        image[at] = byte;
        image
    };
    let cases = [
        (with(15, 4), "has a backing file"),
        (with(79, 4), "has an external data file"),
        (with(24, 0x10), "has a virtual size of"),
        (Vec::new(), "is not a qcow2 but empty"),
        (vec![0; 4096], "perhaps a raw disk image"),
        (qcow2()[..180_000].to_vec(), "has its L1 table outside"),
        (packed(&with(15, 4)), "has a backing file"),
        (packed(&packed(&qcow2())), "compressed with gzip"),
        (packed(b"damaged"), "cannot be unpacked: a checksum differs"),
        (packed(&vec![0; 2 << 20]), "is larger than"),
    ];
    for (file, words) in cases {
        let (rig, mine) = (Rig::new(), pinned("mine", &file));
        rig.publisher.offer(&mine, &file);
        let cache = rig.open();
        let error = cache.ensure_cached(&mine).await.unwrap_err();
        assert_says(&error, ErrorKind::Validation, words);
        assert_eq!(error.violations()[0].field, "template");
        assert_eq!(rig.names("parts"), Vec::<String>::new(), "{words}");
        assert_eq!(rig.cached(), Vec::<String>::new(), "{words}");
    }
}

#[tokio::test]
async fn a_use_is_written_down_once_an_hour_and_never_stands_in_the_way() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &version(1));
    let cache = rig.open();
    let image = cache.ensure_cached(&debian).await.unwrap().image;
    let facts = rig.facts(&image.checksum);
    let fetched_at = cache.list().await.unwrap()[0].fetched_at;
    let at_first = fs::read(&facts).unwrap();
    rig.clock.jump(3000);
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!(fs::read(&facts).unwrap(), at_first);
    rig.clock.jump(3000);
    cache.ensure_cached(&debian).await.unwrap();
    assert_ne!(fs::read(&facts).unwrap(), at_first);
    let used_at = cache.list().await.unwrap()[0].used_at;
    assert!(used_at.duration_since(fetched_at) >= SignedDuration::from_secs(6000), "{used_at}");

    fs::remove_file(&facts).unwrap();
    fs::create_dir(&facts).unwrap();
    rig.clock.jump(-90_000);
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!(rig.publisher.counts(), (1, 1));
}

#[tokio::test]
async fn an_image_of_this_host_is_copied() {
    let rig = Rig::new();
    let source = rig.dir.path().join("my image.qcow2");
    fs::write(&source, version(1)).unwrap();
    let url = url::Url::from_file_path(&source).unwrap();
    let mine = Template { url, ..pinned("mine", &version(1)) };
    let (limits, clock, no_mirrors) = (Limits::default(), rig.clock.clone(), Default::default());
    let cache = ImageCache::open(&rig.images(), limits, no_mirrors, clock).unwrap();
    let image = cache.ensure_cached(&mine).await.unwrap().image;
    fs::remove_file(source).unwrap();
    assert_eq!(fs::read(&image.path).unwrap(), version(1));
    assert_eq!(cache.ensure_cached(&mine).await.unwrap().image, image);
}
