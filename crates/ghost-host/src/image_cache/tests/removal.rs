use ghost_core::domain::Update;

use super::super::qcow2::tests::splitmix;
use super::*;

/// A cache whose template has a former and a current image.
async fn updated() -> (Rig, Template, ImageCache, [Checksum; 2]) {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    let cache = rig.open();
    rig.publisher.offer(&debian, &version(1));
    cache.ensure_cached(&debian).await.unwrap();
    rig.publisher.offer(&debian, &version(2));
    let Update::New { from, to } = cache.update(&debian).await.unwrap() else { panic!() };
    (rig, debian, cache, [from, to])
}

#[tokio::test]
async fn a_former_image_is_removed_and_forgotten() {
    let (rig, debian, cache, [former, current]) = updated().await;
    let size = cache.list().await.unwrap()[0].size;
    assert_eq!(cache.ensure_removed(&former, &nobody).await.unwrap(), size);
    assert_eq!(cache.ensure_removed(&former, &nobody).await.unwrap(), Bytes(0));
    assert_eq!(rig.cached(), [format!("{}.qcow2", current.hex())]);
    assert!(!rig.facts(&former).exists());
    assert!(!fs::read_to_string(rig.pointer(&debian)).unwrap().contains(former.hex()));
    assert_eq!(cache.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_image_of_new_vms_is_not_removed() {
    let (rig, debian, cache, [_, current]) = updated().await;
    let error = cache.ensure_removed(&current, &nobody).await.unwrap_err();
    assert_says(&error, ErrorKind::WrongState, "is what new VMs of debian-12 get; update");
    cache.ensure_forgotten(&debian.name).await.unwrap();
    assert!(cache.ensure_removed(&current, &nobody).await.unwrap().0 > 0);
    assert_eq!(rig.cached().len(), 1);
}

#[tokio::test]
async fn an_image_that_is_held_or_under_a_vm_is_not_removed() {
    let (rig, debian, cache, [_, current]) = updated().await;
    let held = cache.ensure_cached(&debian).await.unwrap();
    cache.ensure_forgotten(&debian.name).await.unwrap();
    let error = cache.ensure_removed(&current, &nobody).await.unwrap_err();
    assert_says(&error, ErrorKind::Busy, "is being used for a new VM or verified; try again");
    // It stays, so new VMs get it without asking the publisher, who may be away.
    let still = cache.list().await.unwrap().into_iter().find(|i| i.checksum == current).unwrap();
    assert_eq!(still.current_of, std::slice::from_ref(&debian.name));
    cache.ensure_forgotten(&debian.name).await.unwrap();
    let other = held.clone();
    drop(held);
    assert_eq!(cache.ensure_removed(&current, &nobody).await.unwrap_err().kind(), ErrorKind::Busy);
    drop(other);
    cache.ensure_forgotten(&debian.name).await.unwrap();
    let users = {
        let current = current.clone();
        move |image: &Checksum| *image == current
    };
    let error = cache.ensure_removed(&current, &users).await.unwrap_err();
    assert_says(&error, ErrorKind::WrongState, "is under the disk of a VM; delete the VMs");
    assert_eq!(rig.cached().len(), 2);
    cache.ensure_forgotten(&debian.name).await.unwrap();
    assert!(cache.ensure_removed(&current, &nobody).await.unwrap().0 > 0);
}

#[tokio::test]
async fn a_quarantined_image_is_removed_with_its_note() {
    let (rig, _debian, cache, [former, _]) = updated().await;
    overwrite(&rig.image(&former), &version(9));
    cache.verify(&former).await.unwrap();
    assert_eq!(rig.names("quarantine").len(), 2);
    assert!(cache.ensure_removed(&former, &nobody).await.unwrap().0 > 0);
    assert_eq!(rig.names("quarantine"), Vec::<String>::new());
    assert_eq!(cache.list().await.unwrap().len(), 1);
}

/// While one task takes the image again and again and looks at its file, another tries to remove it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removal_never_takes_an_image_from_who_holds_it() {
    let (rig, debian) = (Rig::new(), listed("debian-12"));
    rig.publisher.offer(&debian, &version(1));
    let cache = Arc::new(rig.open());
    let image = sha256(&version(1));
    let remover = async {
        let mut state = 1;
        loop {
            cache.ensure_forgotten(&debian.name).await.unwrap();
            for _ in 0..splitmix(&mut state) % 4 {
                tokio::task::yield_now().await;
            }
            if let Err(error) = cache.ensure_removed(&image, &nobody).await {
                let refused = matches!(error.kind(), ErrorKind::Busy | ErrorKind::WrongState);
                assert!(refused, "{error}");
            }
        }
    };
    let takers = (0..3).map(|seed| {
        let (cache, debian) = (Arc::clone(&cache), debian.clone());
        async move {
            let mut state = seed;
            for _round in 0..200 {
                let held = cache.ensure_cached(&debian).await.unwrap();
                for _ in 0..splitmix(&mut state) % 4 {
                    tokio::task::yield_now().await;
                    let there = fs::metadata(&held.image.path);
                    assert!(there.is_ok(), "taken from under a hold: {there:?}");
                }
                drop(held);
                tokio::task::yield_now().await;
            }
        }
    });
    let taking: tokio::task::JoinSet<()> = takers.collect();
    tokio::select! {
        () = remover => {}
        _ = taking.join_all() => {}
    }
    // Nobody holds it any more.
    cache.ensure_cached(&debian).await.unwrap();
    cache.ensure_forgotten(&debian.name).await.unwrap();
    assert!(cache.ensure_removed(&image, &nobody).await.unwrap().0 > 0);
}
