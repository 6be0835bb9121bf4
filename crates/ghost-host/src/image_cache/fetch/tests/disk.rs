//! Disks that fill up.

use std::process::Command;

use super::part::Part;
use super::*;

#[tokio::test]
async fn a_file_that_would_take_the_space_to_be_left_is_not_begun() {
    let server = Server::start(|_, asked| Reply::ranged(asked, &content(), "\"1\""));
    let rig = Rig::new(Limits { keep_free: Bytes(u64::MAX - LENGTH as u64), ..limits() });
    let error = rig.failure_from(&server.url).await;
    let needed = Bytes(u64::MAX);
    assert!(matches!(error, ImageError::NoSpace { needed: n, .. } if n == needed), "{error:?}");
    assert_eq!((server.asked().len(), rig.waits()), (1, 0));
    assert_eq!(fs::metadata(rig.part()).unwrap().len(), 0);
}

#[test]
fn bytes_that_a_full_disk_refuses_count_for_nothing() {
    let mut part = Part::over(Path::new("/dev/full"));
    let before = part.digests().listed();
    let error = part.append(b"more").unwrap_err();
    assert!(matches!(error, ImageError::DiskFull { kept: Bytes(0), .. }), "{error:?}");
    assert_eq!((part.length(), part.digests().listed()), (Bytes(0), before));
}

/// A command that runs in mounts of its own, with a disk of 4 MiB at `dir`; `None` where neither root nor a
/// user namespace may mount.
fn with_small_disk(dir: &Path, run: &Command) -> Option<Command> {
    let with = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command.arg(dir);
        command
    };
    let mount = "mount -t tmpfs -o size=4m none \"$1\"";
    if !with(mount).output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mut command = with(&format!("{mount} && shift && exec \"$@\""));
    command.arg(run.get_program()).args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Some(command)
}

#[tokio::test]
async fn a_disk_that_fills_up_in_the_middle_keeps_what_came_and_goes_on_when_there_is_space() {
    let name = "a_disk_that_fills_up_in_the_middle_keeps_what_came_and_goes_on_when_there_is_space";
    if let Some(disk) = alone::given() {
        return fill_up(Path::new(&disk)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let again = alone::command(module_path!(), name, dir.path().to_str().unwrap());
    match with_small_disk(dir.path(), &again) {
        Some(mut command) => alone::assert_passed(&command.output().unwrap()),
        None => eprintln!("may not mount here: only /dev/full stands for a full disk"),
    }
}

async fn fill_up(disk: &Path) {
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 2 << 20]).unwrap();
    let server = Server::start(|_, asked| Reply::ranged(asked, &content(), "\"1\"").unannounced());
    let rig = Rig::new(limits());
    let fetch = async || {
        let url = server.url.parse().unwrap();
        rig.fetcher.file(&url, &sha256(&content()), disk, &|_| {}).await
    };
    let error = fetch().await.unwrap_err();
    let ImageError::DiskFull { kept, path, .. } = &error else { panic!("{error:?}") };
    assert!(kept.0 > 1 << 20, "{kept:?}");
    assert_eq!(fs::metadata(path).unwrap().len(), kept.0);
    assert!(error.to_string().contains("the disk is full: cannot write"), "{error}");
    assert!(error.to_string().ends_with("bytes are kept"), "{error}");

    fs::remove_file(ballast).unwrap();
    assert_eq!(fs::read(fetch().await.unwrap().path).unwrap(), content());
    assert_eq!(server.offsets(), [None, Some(usize::try_from(kept.0).unwrap())]);
}
