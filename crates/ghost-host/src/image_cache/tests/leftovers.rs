use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use ghost_core::ports::Clock;

use super::publisher::packed;
use super::*;

#[tokio::test]
async fn a_second_agent_on_the_same_folder_is_refused_with_a_remedy() {
    let rig = Rig::new();
    let first = rig.open();
    let error = rig.open_within(Duration::from_millis(1)).unwrap_err().to_string();
    let folder = rig.images().display().to_string();
    assert!(error.contains(&format!("uses the image cache {folder}; stop it")), "{error}");
    assert!(error.contains("or set libvirt.image_cache to a folder of this one's own"), "{error}");
    drop(first);
    rig.open();
}

#[tokio::test]
async fn an_agent_waits_for_its_predecessor_to_let_go() {
    let rig = Rig::new();
    let first = rig.open();
    let (opening, opens) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            opening.send(()).unwrap();
            rig.open_within(Duration::from_secs(20))
        });
        opens.recv().unwrap();
        drop(first);
        second.join().unwrap().unwrap();
    });
}

#[tokio::test]
async fn a_start_removes_what_a_crash_left_and_keeps_what_can_be_taken_up_again() {
    let rig = Rig::new();
    drop(rig.open());
    let put = |name: &str, days: i64| {
        let path = rig.images().join(name);
        fs::write(&path, "half").unwrap();
        let at = rig.clock.now() - jiff::SignedDuration::from_hours(24 * days);
        File::open(&path).unwrap().set_modified(SystemTime::from(at)).unwrap();
    };
    let hex = sha256(b"").hex().to_owned();
    put(".ghost-a.tmp", 0);
    put("templates/.ghost-b.tmp", 0);
    put("quarantine/.ghost-c.tmp", 0);
    put(&format!("{hex}.x7Gk.part"), 0);
    put(&format!("{hex}.json"), 0);
    put("other", 90);
    put(&format!("parts/{hex}"), 6);
    put("parts/from-the-future", -30);
    put("parts/old", 8);
    put("parts/a.unpacked", 0);
    rig.open();
    let left = rig.names("");
    let mine =
        [".lock", &format!("{hex}.json.damaged-1"), "other", "parts", "quarantine", "templates"];
    assert_eq!(left, mine);
    assert_eq!(rig.names("parts"), [hex.as_str(), "from-the-future"]);
    assert!(rig.names("templates").is_empty() && rig.names("quarantine").is_empty());
}

#[tokio::test]
async fn an_agent_that_runs_for_long_removes_old_parts_too() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    let cache = rig.open();
    let put = |name: &str, days: i64| {
        let path = rig.images().join(name);
        fs::write(&path, "half").unwrap();
        let at = rig.clock.now() - jiff::SignedDuration::from_hours(24 * days);
        File::open(&path).unwrap().set_modified(SystemTime::from(at)).unwrap();
        path
    };
    let (old, new) = (put("parts/old", 8), put("parts/new", 6));
    let busy = put("parts/busy", 8);
    let lock = File::open(&busy).unwrap();
    lock.lock().unwrap();
    rig.publisher.offer(&debian, &version(1));
    cache.ensure_cached(&debian).await.unwrap();
    assert_eq!([&old, &new, &busy].map(|path| path.exists()), [false, true, true]);
}

#[tokio::test]
async fn unpacking_never_takes_the_last_of_the_disk() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &packed(&version(1)));
    let cache = rig.open_keeping(Bytes(1 << 60));
    let error = cache.ensure_cached(&debian).await.unwrap_err();
    assert_says(&error, ErrorKind::ResourceLimit, "the image needs ");
    assert_eq!(rig.cached(), Vec::<String>::new());
}

#[tokio::test]
async fn an_image_of_the_former_layout_is_hashed_once_and_adopted() {
    let (rig, debian) = (Rig::new(), pinned("debian-12", &version(1)));
    fs::create_dir(rig.images()).unwrap();
    let path = rig.image(&sha256(&version(1)));
    fs::write(&path, version(1)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let cache = rig.open();
    assert_eq!(cache.list().await.unwrap()[0].virtual_size, Bytes(2 << 30));
    let image = cache.ensure_cached(&debian).await.unwrap().image;
    assert_eq!((&image.path, rig.publisher.counts()), (&path, (0, 0)));
    let adopted = cache.list().await.unwrap().remove(0);
    assert_eq!(adopted.current_of, std::slice::from_ref(&debian.name));
    assert_eq!(adopted.verified_at.as_second(), rig.clock.now().as_second());
    assert!(rig.facts(&image.checksum).exists());
}

#[tokio::test]
async fn an_image_of_the_former_layout_that_is_another_by_now_is_not_adopted() {
    let (rig, debian) = (Rig::new(), pinned("debian-12", &version(1)));
    rig.publisher.offer(&debian, &version(1));
    fs::create_dir(rig.images()).unwrap();
    fs::write(rig.image(&sha256(&version(1))), version(9)).unwrap();
    let cache = rig.open();
    let image = cache.ensure_cached(&debian).await.unwrap().image;
    assert_eq!(fs::read(image.path).unwrap(), version(1));
    assert_eq!(rig.publisher.counts(), (0, 1));
}

type Kill<'a> = &'a dyn Fn(&Rig, &Template);

/// Each is a moment at which the agent was killed, as the folder looks after it.
#[tokio::test]
async fn killed_at_any_step_of_an_admission_the_agent_loses_and_trusts_nothing() {
    let (image, hex) = (sha256(&version(1)), sha256(&version(1)).hex().to_owned());
    let killed: [(&str, Kill<'_>, usize); 5] = [
        (
            "while it unpacked",
            &|rig, _| {
                fs::remove_file(rig.image(&image)).unwrap();
                fs::write(rig.images().join("parts/a.unpacked"), &version(1)[..9]).unwrap();
            },
            1,
        ),
        (
            "before the facts",
            &|rig, template| {
                fs::remove_file(rig.facts(&image)).unwrap();
                fs::remove_file(rig.pointer(template)).unwrap();
            },
            1,
        ),
        (
            "before the pointer",
            &|rig, template| {
                fs::remove_file(rig.pointer(template)).unwrap();
                fs::write(rig.images().join("parts").join(&hex), packed(&version(1))).unwrap();
            },
            0,
        ),
        (
            "before it was sealed",
            &|rig, _| {
                fs::remove_file(rig.facts(&image)).unwrap();
                fs::set_permissions(rig.image(&image), fs::Permissions::from_mode(0o600)).unwrap();
            },
            0,
        ),
        ("before the image was synced", &|rig, _| overwrite(&rig.image(&image), b""), 1),
    ];
    for (when, kill, fetches) in killed {
        let (rig, debian) = (Rig::new(), listed("debian-12"));
        rig.publisher.offer(&debian, &packed(&version(1)));
        rig.open().ensure_cached(&debian).await.unwrap();
        kill(&rig, &debian);
        let cache = rig.open();
        let held = cache.ensure_cached(&debian).await.unwrap();
        assert_eq!(fs::read(&held.image.path).unwrap(), version(1), "{when}");
        assert_eq!(rig.publisher.counts().1, 1 + fetches, "{when}");
        let mode = fs::metadata(&held.image.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444, "{when}");
        assert!(rig.names("parts").iter().all(|name| !name.ends_with("unpacked")), "{when}");
        let listed = cache.list().await.unwrap();
        assert_eq!((listed.len(), &listed[0].condition), (1, &Condition::Proven), "{when}");
    }
}
