use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ghost_core::testing::FakeClock;

use super::super::super::qcow2::tests::image as qcow2;
use super::super::Store;
use super::*;

/// Every read of its begin is refused with `EIO`.
const UNREADABLE: &str = "/proc/self/mem";

/// A folder with one image in it.
fn store() -> (tempfile::TempDir, Store, Checksum) {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Store::open(dir.path(), Arc::<FakeClock>::default(), Duration::from_secs(5)).unwrap();
    let hash = <sha2::Sha256 as sha2::Digest>::new_with_prefix(qcow2());
    let image = file::checksum(hash).unwrap();
    fs::write(store.folder.image(&image), qcow2()).unwrap();
    (dir, store, image)
}

fn opened(path: &Path) -> Opened {
    match file::look(path).unwrap() {
        Found::Regular(opened) => opened,
        found => panic!("{found:?}"),
    }
}

#[tokio::test]
async fn an_image_that_the_disk_does_not_give_is_quarantined_and_comes_back_when_it_does() {
    let (_dir, store, image) = store();
    let mut suspected = store.books.lock().await.suspect(&image).unwrap().unwrap();
    suspected.opened = opened(Path::new(UNREADABLE));
    let verified = store.judged(&image, suspected).await.unwrap();
    let Condition::Quarantined { why } = verified.condition else { panic!("it is proven") };
    assert_eq!(why, "it cannot be read: Input/output error (os error 5)");
    assert_eq!(verified.read, Bytes(0));
    let is_there =
        || [store.folder.image(&image), store.folder.quarantined(&image)].map(|path| path.exists());
    assert_eq!(is_there(), [false, true]);

    let mut suspected = store.books.lock().await.suspect(&image).unwrap().unwrap();
    suspected.opened = opened(Path::new(UNREADABLE));
    let verified = store.judged(&image, suspected).await.unwrap();
    assert_eq!((verified.condition, is_there()), (Condition::Quarantined { why }, [false, true]));

    assert_eq!(store.verify(&image).await.unwrap().condition, Condition::Proven);
    assert_eq!(is_there(), [true, false]);
}

#[test]
fn want_of_memory_is_not_the_disks_fault() {
    for (errno, lost) in [(Errno::IO, true), (Errno::BADMSG, true), (Errno::NOMEM, false)] {
        assert_eq!(is_of_the_disk(&errno.into()), lost, "{errno}");
    }
}

#[tokio::test]
async fn a_quarantined_copy_goes_when_a_proven_one_came_while_it_was_hashed() {
    let (_dir, store, image) = store();
    store.verify(&image).await.unwrap();
    let books = || store.books.lock();
    books().await.quarantine(&image, "for a test", Timestamp::UNIX_EPOCH).unwrap();
    let suspected = books().await.suspect(&image).unwrap().unwrap();
    fs::write(store.folder.image(&image), qcow2()).unwrap();
    let proven = store.verify(&image).await.unwrap();
    assert_eq!(proven.condition, Condition::Proven);

    let verified = store.judged(&image, suspected).await.unwrap();
    assert_eq!(verified.condition, Condition::Proven);
    assert!(store.folder.image(&image).exists());
    assert_eq!(fs::read_dir(store.folder.quarantine()).unwrap().count(), 0);
}
