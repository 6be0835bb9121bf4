//! The file: its size, its age, and what happens to it from outside.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::super::file::LogFile;
use super::super::file::Rules;
use super::super::handle::Hangups;
use super::super::queue::{Batch, Sink};
use super::*;

const DAY: i64 = 86_400;

/// A file of at most 1000 bytes and seven days.
struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<FakeClock>,
    rules: Rules,
}

impl Bench {
    fn new() -> Self {
        let week = Duration::from_secs(7 * 86_400);
        let rules = Rules { max_size: Bytes(1000), max_age: week, max_files: 3 };
        let folder = tempfile::tempdir().unwrap();
        Self { folder, clock: Arc::new(FakeClock::default()), rules }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("agent.log")
    }

    fn open(&self) -> LogFile {
        let notice = Box::new(|lost| format!("lost {lost}\n"));
        LogFile::open(&self.path(), self.rules, self.clock.clone(), notice).unwrap()
    }

    /// The names in the folder once nothing is compressed any more, without the dates.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What is in the moved files, the oldest first, and in the file.
    fn all(&self) -> Vec<String> {
        let read = |name: &String| {
            let path = self.folder.path().join(name);
            match name.ends_with(".gz") {
                true => unzipped(&path).unwrap(),
                false => std::fs::read_to_string(path).unwrap(),
            }
        };
        let mut names = self.names();
        let current = names.remove(0);
        names.iter().chain([&current]).map(read).collect()
    }
}

fn batch(lines: &[String]) -> Batch {
    let mut batch = Batch::default();
    lines.iter().for_each(|line| batch.push(line.as_bytes()));
    batch
}

/// `count` lines of 100 bytes.
fn hundreds(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n:099}\n")).collect()
}

#[test]
fn a_file_that_would_be_too_large_is_moved_and_compressed_and_no_line_is_lost_or_cut() {
    let bench = Bench::new();
    let mut file = bench.open();
    let lines = hundreds(25);
    assert_eq!(file.write(&batch(&lines[..7])), 0);
    assert_eq!(file.write(&batch(&lines[7..])), 0);
    file.settle();
    let kept = bench.all();
    assert_eq!(kept.iter().map(String::len).collect::<Vec<_>>(), [1000, 1000, 500]);
    assert_eq!(kept.concat(), lines.concat());
    let names = bench.names();
    assert_eq!(names[0], "agent.log");
    assert!(
        names[1].starts_with("agent.log.20260101T0000") && names[1].ends_with(".gz"),
        "{names:?}"
    );
    let mode = bench.path().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_line_that_is_larger_than_the_file_may_be_is_written_all_the_same() {
    let bench = Bench::new();
    let mut file = bench.open();
    let long = format!("{}\n", "x".repeat(1500));
    assert_eq!(file.write(&batch(&["a\n".to_owned(), long.clone(), "b\n".to_owned()])), 0);
    file.settle();
    assert_eq!(bench.all(), ["a\n", &long, "b\n"]);
}

#[test]
fn a_file_whose_first_line_is_too_old_is_moved_even_by_another_start_and_without_a_new_line() {
    let bench = Bench::new();
    let mut file = bench.open();
    let line = |clock: &FakeClock| {
        use ghost_core::ports::Clock as _;
        format!("{{\"timestamp\":\"{:.3}\"}}\n", clock.now())
    };
    file.write(&batch(&[line(&bench.clock)]));
    bench.clock.jump(6 * DAY);
    let mut file = bench.open();
    file.write(&batch(&[line(&bench.clock)]));
    file.look_after();
    file.settle();
    assert_eq!(bench.names(), ["agent.log"], "six days are not seven");
    bench.clock.jump(DAY + 60);
    let mut file = bench.open();
    file.look_after();
    file.settle();
    assert_eq!(bench.names().len(), 2, "{:?}", bench.names());
    assert_eq!(bench.all()[0].lines().count(), 2);
    assert_eq!(bench.all()[1], "");

    file.write(&batch(&["young\n".to_owned()]));
    bench.clock.jump(7 * DAY + 60);
    file.write(&batch(&["new\n".to_owned()]));
    file.settle();
    assert_eq!(bench.all(), ["young\n", "new\n"], "and what was moved eight days ago is gone");
}

#[test]
fn only_so_many_moved_files_are_kept_and_what_is_not_ours_is_left() {
    let bench = Bench::new();
    for name in ["agent.log.1", "agent.log.bak.gz", "other.log.20250101T000000000Z.gz"] {
        std::fs::write(bench.folder.path().join(name), name).unwrap();
    }
    let mut file = bench.open();
    for line in hundreds(60).chunks(10) {
        file.write(&batch(line));
        file.settle();
        bench.clock.jump(60);
    }
    file.look_after();
    file.settle();
    let names = bench.names();
    let ours: Vec<_> = names.iter().filter(|name| name.contains("2026")).collect();
    assert_eq!(ours.len(), 3, "{names:?}");
    assert!(ours[0].contains("T0003"), "the oldest went: {names:?}");
    assert_eq!(names.len(), 3 + 3 + 1);
}

#[test]
fn what_a_crash_left_in_the_middle_of_a_rotation_is_finished_by_the_next_start() {
    let bench = Bench::new();
    let at = |name: &str| bench.folder.path().join(name);
    // Moved, compressed by half.
    std::fs::write(at("agent.log.20260101T000000001Z"), "first\n").unwrap();
    std::fs::write(at("agent.log.20260101T000000001Z.gz.tmp"), "half").unwrap();
    // Compressed, not yet removed.
    std::fs::write(at("agent.log.20260101T000000002Z"), "second\n").unwrap();
    let mut encoder = flate2::write::GzEncoder::new(
        std::fs::File::create(at("agent.log.20260101T000000002Z.gz")).unwrap(),
        flate2::Compression::fast(),
    );
    std::io::Write::write_all(&mut encoder, b"second\n").unwrap();
    encoder.finish().unwrap();
    // The power went in the middle of a line.
    std::fs::write(bench.path(), "whole\nhal").unwrap();
    let mut file = bench.open();
    file.write(&batch(&["next\n".to_owned()]));
    file.settle();
    assert_eq!(bench.all(), ["first\n", "second\n", "whole\nhal\nnext\n"]);
    let gz = bench.names().iter().filter(|name| name.ends_with("Z.gz")).count();
    assert_eq!((gz, bench.names().len()), (2, 3));
}

#[test]
fn a_file_that_is_moved_removed_or_emptied_by_others_is_noticed() {
    let bench = Bench::new();
    let mut file = bench.open();
    file.write(&batch(&["1\n".to_owned()]));
    let aside = bench.folder.path().join("aside");
    std::fs::rename(bench.path(), &aside).unwrap();
    file.write(&batch(&["2\n".to_owned()]));
    assert_eq!(std::fs::read_to_string(bench.path()).unwrap(), "2\n");
    assert_eq!(std::fs::read_to_string(&aside).unwrap(), "1\n");
    std::fs::remove_file(bench.path()).unwrap();
    file.write(&batch(&["3\n".to_owned()]));
    assert_eq!(std::fs::read_to_string(bench.path()).unwrap(), "3\n");
    std::fs::write(bench.path(), "").unwrap();
    file.write(&batch(&["4\n".to_owned()]));
    assert_eq!(std::fs::read_to_string(bench.path()).unwrap(), "4\n");
    std::fs::remove_dir_all(bench.folder.path()).unwrap();
    assert_eq!(file.write(&batch(&["5\n".to_owned()])), 0);
    assert_eq!(std::fs::read_to_string(bench.path()).unwrap(), "5\n");
}

#[test]
fn neither_a_link_nor_a_fifo_is_written_to() {
    let bench = Bench::new();
    let victim = bench.folder.path().join("victim");
    std::fs::write(&victim, "precious\n").unwrap();
    std::os::unix::fs::symlink(&victim, bench.path()).unwrap();
    let open = |bench: &Bench| {
        let notice = Box::new(|_| String::new());
        LogFile::open(&bench.path(), bench.rules, bench.clock.clone(), notice).map(drop)
    };
    open(&bench).unwrap_err();
    assert!(super::super::look(&logging(&bench.path())).is_err());
    std::fs::remove_file(bench.path()).unwrap();
    let made = std::process::Command::new("mkfifo").arg(bench.path()).status().unwrap();
    assert!(made.success());
    open(&bench).unwrap_err();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious\n");
}

#[test]
fn a_hangup_opens_the_file_anew() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hangups = Hangups::awaited(&runtime).unwrap();
    runtime.block_on(a_hangup_opens_it_anew(hangups));
}

async fn a_hangup_opens_it_anew(hangups: Hangups) {
    // Only errors are written: no line shows the writer that the file was moved.
    let rig = Rig::new(|logging| logging.level = LogLevel::Error);
    let keep = rig.log.clone().keep(hangups);
    let hang_up = async {
        let aside = rig.folder.path().join("aside");
        tracing::error!("before");
        rig.log.flush(SOON);
        std::fs::rename(rig.path(), &aside).unwrap();
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::HUP).unwrap();
        let again = async {
            while !rig.path().exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, again).await.unwrap();
        std::fs::read_to_string(aside).unwrap()
    };
    let before = tokio::select! {
        () = keep => panic!("keeps for ever"),
        before = hang_up => before,
    };
    assert_eq!(json(&before).len(), 1, "{before}");
    assert_eq!(rig.text(), "");
}

#[test]
fn a_clock_that_was_set_back_keeps_no_line_for_ever_and_costs_no_new_one() {
    let bench = Bench::new();
    for day in 1..=3 {
        let name = format!("agent.log.2037010{day}T000000000Z");
        std::fs::write(bench.folder.path().join(name), "from the future\n").unwrap();
    }
    std::fs::write(bench.path(), "{\"timestamp\":\"2037-01-04T00:00:00.000Z\"}\n").unwrap();
    let mut file = bench.open();
    let lines = hundreds(25);
    file.write(&batch(&lines));
    file.settle();
    file.look_after();
    file.settle();
    let kept = bench.all().concat();
    assert!(lines.iter().all(|line| kept.contains(line)), "{:?}", bench.names());

    std::fs::write(bench.path(), "{\"timestamp\":\"2037-01-04T00:00:00.000Z\"}\n").unwrap();
    let mut file = bench.open();
    file.look_after();
    bench.clock.jump(7 * DAY + 60);
    file.look_after();
    file.settle();
    assert_eq!(std::fs::read_to_string(bench.path()).unwrap(), "");
}

#[test]
fn a_link_by_the_name_of_a_moved_file_is_left_alone() {
    let bench = Bench::new();
    let victim = bench.folder.path().join("victim");
    std::fs::write(&victim, "precious\n").unwrap();
    let link = bench.folder.path().join("agent.log.20260101T000000001Z");
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    bench.open().settle();
    assert_eq!(bench.names(), ["agent.log", "agent.log.20260101T000000001Z", "victim"]);
}
