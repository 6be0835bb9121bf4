//! Disks that are full, outputs that hang.

use std::process::Command;
use std::sync::mpsc;

use super::super::file::{LogFile, Rules};
use super::super::queue::{Batch, Queue, Sink, Told};
use super::*;

/// Set in the run that has a small disk; names its folder.
const DISK: &str = "GHOST_TEST_LOG_DISK";

#[test]
fn a_full_disk_costs_lines_that_are_counted_and_told_and_nothing_else() {
    if let Some(disk) = std::env::var_os(DISK) {
        return fill_up(Path::new(&disk));
    }
    let disk = tempfile::tempdir().unwrap();
    let name = "a_full_disk_costs_lines_that_are_counted_and_told_and_nothing_else";
    let module = module_path!().split_once("::").unwrap().1;
    let mount = "mount -t tmpfs -o size=64k none \"$1\" && shift && exec \"$@\"";
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]);
    again.arg(disk.path()).arg(std::env::current_exe().unwrap());
    again.args(["--exact", &format!("{module}::{name}"), "--nocapture"]).env(DISK, disk.path());
    let output = again.output().unwrap();
    let said = format!("{output:?}");
    if !output.status.success() && said.contains("unshare") {
        eprintln!("may not mount here");
        return;
    }
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn fill_up(disk: &Path) {
    let path = disk.join("agent.log");
    let rules =
        Rules { max_size: Bytes(1 << 20), max_age: Duration::from_secs(86_400), max_files: 3 };
    let notice = Box::new(|lost| format!("lost {lost}\n"));
    let mut file = LogFile::open(&path, rules, Arc::new(FakeClock::default()), notice).unwrap();
    std::fs::write(disk.join("ballast"), vec![0; 40 << 10]).unwrap();
    let mut batch = Batch::default();
    (0..300).for_each(|n| batch.push(format!("{n:099}\n").as_bytes()));
    let lost = file.write(&batch);
    assert!((1..300).contains(&lost), "{lost}");
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(u64::try_from(kept.lines().count()).unwrap(), 300 - lost);
    assert!(kept.ends_with(&format!("{:099}\n", 299 - lost)), "no line is cut");
    assert_eq!(file.tell_lost(lost), Told::NotNow);
    std::fs::remove_file(disk.join("ballast")).unwrap();
    assert_eq!(file.tell_lost(lost), Told::Yes);
    assert_eq!(file.write(&batch), 0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(&format!("{kept}lost {lost}\n{:099}\n", 0)));
}

/// A sink that hangs until it is let go, and keeps what it got.
struct Hung {
    go: mpsc::Receiver<()>,
    got: mpsc::Sender<String>,
}

impl Sink for Hung {
    fn write(&mut self, batch: &Batch) -> u64 {
        self.got.send("begun".to_owned()).unwrap();
        let _until_let_go = self.go.recv();
        for line in batch.lines() {
            self.got.send(String::from_utf8(line.to_vec()).unwrap()).unwrap();
        }
        0
    }

    fn tell_lost(&mut self, lost: u64) -> Told {
        self.got.send(format!("lost {lost}")).unwrap();
        Told::Yes
    }
}

#[test]
fn an_output_that_hangs_blocks_nobody_and_takes_bounded_memory_and_the_loss_is_told_after_it() {
    let (go, wait) = mpsc::channel();
    let (got, lines) = mpsc::channel();
    let queue = Queue::start("log-test", Hung { go: wait, got }).unwrap();
    queue.push(b"first");
    assert_eq!(lines.recv_timeout(SOON).unwrap(), "begun");
    let line = vec![b'x'; 1 << 16];
    (0..100).for_each(|_| queue.push(&line));
    let dropped = queue.dropped();
    assert_eq!(dropped, 100 - 16, "a mebibyte has room for 16");
    drop(go);
    assert_eq!(lines.recv_timeout(SOON).unwrap(), "first");
    assert_eq!(lines.recv_timeout(SOON).unwrap(), "begun");
    let mut after = Vec::new();
    while after.last().is_none_or(|line: &String| !line.starts_with("lost")) {
        after.push(lines.recv_timeout(SOON).unwrap());
    }
    assert_eq!(after.pop().unwrap(), format!("lost {dropped}"));
    assert_eq!(after.len(), 100 - usize::try_from(dropped).unwrap());
    queue.close();
}

#[test]
fn a_flush_of_an_output_that_hangs_ends() {
    let (_go, wait) = mpsc::channel();
    let (got, _lines) = mpsc::channel();
    let queue = Queue::start("log-test", Hung { go: wait, got }).unwrap();
    queue.push(b"line");
    let began = std::time::Instant::now();
    queue.flush(Duration::from_millis(50));
    assert!((Duration::from_millis(50)..SOON).contains(&began.elapsed()));
}

#[test]
fn what_a_full_output_cuts_is_a_line_of_its_own() {
    let (mut reader, writer) = io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    let out = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
    let notice = Box::new(|lost| format!("lost {lost}\n"));
    let mut stdout = super::super::stdout::Stdout::to(out, notice);
    let mut batch = Batch::default();
    (0..1000).for_each(|n| batch.push(format!("{n:099}\n").as_bytes()));
    let lost = stdout.write(&batch);
    assert!((1..1000).contains(&lost), "{lost}");
    let mut taken = vec![0; 100_000];
    let bytes = reader.read(&mut taken).unwrap();
    assert_eq!(u64::try_from(bytes / 100).unwrap(), 1000 - lost);
    assert_eq!(stdout.tell_lost(lost), Told::Yes);
    drop(stdout);
    let mut after = String::new();
    reader.read_to_string(&mut after).unwrap();
    let cut = if bytes % 100 == 0 { "" } else { "\n" };
    assert_eq!(after, format!("{cut}lost {lost}\n"));
}

/// Set in the run that dies; names its log.
const DYING: &str = "GHOST_TEST_LOG_DYING";

#[test]
fn a_panic_is_in_the_log_though_the_process_dies_of_it() {
    if let Some(file) = std::env::var_os(DYING) {
        let _log = super::super::init(&logging(Path::new(&file)), None).unwrap();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            hook(panic);
            std::process::abort();
        }));
        panic!("the last word");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.log");
    let module = module_path!().split_once("::").unwrap().1;
    let name = format!("{module}::a_panic_is_in_the_log_though_the_process_dies_of_it");
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", &name, "--nocapture"]).env(DYING, &file);
    assert!(!again.output().unwrap().status.success());
    let said = std::fs::read_to_string(&file).unwrap();
    assert!(said.contains("the last word"), "{said:?}");
}
