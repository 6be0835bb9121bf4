//! Images on real libvirt: fetched once, proven, replaced for new VMs only.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ghost_e2e::agent::{Home, Image};
use ghost_e2e::publisher::Publisher;
use ghost_e2e::wait::eventually;

const FILE: &str = "mini.qcow2";

fn mini() -> Vec<u8> {
    std::fs::read(Image::mini().unwrap().path).unwrap()
}

/// The same system in another file, as a publisher's next version is.
fn next_version() -> Vec<u8> {
    let mut image = mini();
    image.extend(vec![0; 64 << 10]);
    image
}

/// A home whose template `mini` comes from a publisher.
async fn home() -> (Home, Arc<Publisher>) {
    let home = Home::new().await.unwrap();
    let publisher = Arc::new(Publisher::open().unwrap());
    publisher.offer(FILE, mini());
    std::fs::write(home.path().join("catalog.yaml"), publisher.row("mini", FILE)).unwrap();
    (home, publisher)
}

/// The file of the image with that digest.
fn cached(home: &Home, digest: &serde_json::Value) -> PathBuf {
    let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
    home.path().join(format!("images/{hex}.qcow2"))
}

#[tokio::test]
async fn an_image_is_fetched_once_replaced_for_new_vms_and_goes_with_its_last_vm() {
    let (home, publisher) = home().await;
    let agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();
    let (one, other) = tokio::join!(ctl.create("e2e-old"), ctl.create("e2e-other"));
    assert_eq!(
        (&one.unwrap()["status"], &other.unwrap()["status"]),
        (&"running".into(), &"running".into())
    );
    assert_eq!(publisher.asked_for(FILE), [0], "two creates, one fetch");
    let list = ctl.json(&["image", "list", "--all"]).await.unwrap();
    let old = list["images"].as_array().unwrap().iter().find(|i| i["template"] == "mini").unwrap();
    assert_eq!((&old["status"], &old["proof"]), (&"current".into(), &"listed".into()), "{list}");
    assert_eq!(old["used_by"], serde_json::json!(["e2e-old", "e2e-other"]));
    ctl.json(&["vm", "delete", "e2e-other", "--yes"]).await.unwrap();

    publisher.offer(FILE, next_version());
    let updated = ctl.run(["image", "update"]).await.unwrap();
    assert_eq!(updated.code, Some(0), "{updated:?}");
    // The VM goes on, on its own base, through a restart.
    assert!(cached(&home, &old["digest"]).exists());
    ctl.json(&["vm", "stop", "e2e-old", "--force"]).await.unwrap();
    assert_eq!(ctl.json(&["vm", "start", "e2e-old"]).await.unwrap()["status"], "running");
    assert_eq!(ctl.create("e2e-new").await.unwrap()["status"], "running");
    assert_eq!(publisher.asked_for(FILE), [0, 0]);

    let refused = ctl.run(["image", "remove", "mini", "--yes"]).await.unwrap();
    assert!(refused.stderr.contains("e2e-new, e2e-old"), "{refused:?}");
    ctl.json(&["vm", "delete", "e2e-old", "--yes"]).await.unwrap();
    let updated = ctl.run(["image", "update", "mini"]).await.unwrap();
    assert_eq!(updated.code, Some(0), "{updated:?}");
    assert!(!cached(&home, &old["digest"]).exists(), "nothing refers to it any more");
    ctl.json(&["vm", "delete", "e2e-new", "--yes"]).await.unwrap();
    agent.stop().await.unwrap();
}

/// Waits until that much of an image lies on the disk.
async fn part_of(home: &Home, bytes: u64) -> anyhow::Result<()> {
    let parts = home.path().join("images/parts");
    eventually("that much of an image", Duration::from_secs(60), async || {
        let mut parts = std::fs::read_dir(&parts)?.flatten();
        let large = |entry: std::fs::DirEntry| entry.metadata().is_ok_and(|m| m.len() >= bytes);
        Ok(parts.any(large).then_some(()))
    })
    .await
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_of_a_fetch_goes_on_where_it_was() {
    let (home, publisher) = home().await;
    publisher.hold_at(4 << 20);
    let mut agent = home.start().await.unwrap();
    let creating = {
        let ctl = home.ctl(&agent).unwrap();
        async move { ctl.create("e2e-cut").await }
    };
    let killing = async {
        part_of(&home, 1 << 20).await.unwrap();
        agent.kill().await.unwrap();
    };
    let (created, ()) = tokio::join!(creating, killing);
    assert!(created.is_err(), "{created:?}");
    publisher.go_on();

    let agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();
    assert_eq!(ctl.create("e2e-cut").await.unwrap()["status"], "running");
    let asked = publisher.asked_for(FILE);
    assert!(asked.len() == 2 && asked[1] > 0, "it began anew: {asked:?}");
    ctl.json(&["vm", "delete", "e2e-cut", "--yes"]).await.unwrap();
    home.ensure_nothing_left().await.unwrap();
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn an_image_altered_on_disk_is_put_aside_and_fetched_again() {
    let (home, publisher) = home().await;
    let agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();
    let pulled = ctl.run(["image", "pull", "mini"]).await.unwrap();
    assert_eq!(pulled.code, Some(0), "{pulled:?}");
    let list = ctl.json(&["image", "list"]).await.unwrap();
    let image =
        list["images"].as_array().unwrap().iter().find(|i| i["template"] == "mini").unwrap();
    let path = cached(&home, &image["digest"]);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o444);

    // As root, or as a failing disk, and without a trace in size or time.
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    file.write_all(b"rot").unwrap();
    file.set_modified(before).unwrap();
    drop(file);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();

    let verified = ctl.run(["image", "verify"]).await.unwrap();
    assert_ne!(verified.code, Some(0), "{verified:?}");
    assert!(verified.stdout.contains("quarantined"), "{verified:?}");
    assert!(!path.exists(), "an altered image is still in its place");
    assert_eq!(ctl.create("e2e-rot").await.unwrap()["status"], "running");
    assert_eq!(publisher.asked_for(FILE), [0, 0]);
    ctl.json(&["vm", "delete", "e2e-rot", "--yes"]).await.unwrap();
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_listed_but_reads_other_files_never_reaches_qemu() {
    let (home, publisher) = home().await;
    let mut image = mini();
    // The length of a backing file's name and where it is (qcow2's specification, "Header").
    image[8..20].copy_from_slice(&[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 11]);
    image[0x200..0x20b].copy_from_slice(b"/etc/shadow");
    publisher.offer(FILE, image);
    let agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();
    let refused = ctl.create("e2e-backing").await.unwrap_err().to_string();
    assert!(refused.contains("backing file"), "{refused}");
    let left: Vec<_> = std::fs::read_dir(home.path().join("images"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "qcow2"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    home.ensure_nothing_left().await.unwrap();
    agent.stop().await.unwrap();
}
