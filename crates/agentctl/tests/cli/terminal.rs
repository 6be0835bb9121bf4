//! What a person at a terminal sees; the terminal is a pseudo-terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use ghost_proto::agentpb::Resource;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::fake_agent::{Ending, FakeAgent, absent, digest, image, outcome, progress};
use crate::run::{BINARY, VARIABLES};

/// What was on the screen, and on standard output, which is no terminal here.
struct Seen {
    screen: String,
    stdout: String,
    code: i32,
}

/// Runs `agentctl ARGS` with standard input and error on a terminal at which `typed` was typed.
fn at_a_terminal(agent: &FakeAgent, args: &[&str], typed: &str, env: &[(&str, &str)]) -> Seen {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let mut command = Command::new(BINARY);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.env("TERM", "xterm").envs(env.iter().copied()).arg("--socket").arg(agent.socket());
    command.args(args).stdin(terminal.try_clone().unwrap()).stdout(Stdio::piped()).stderr(terminal);
    let child = command.spawn().unwrap();
    // The command keeps a copy of the terminal, which would never end then.
    drop(command);
    let mut master = File::from(master);
    let mut screen = Vec::new();
    // The terminal shows what is typed at once: before the question it would stand inside of it.
    while !typed.is_empty() && !screen.ends_with(b"] ") {
        let mut byte = [0];
        master.read_exact(&mut byte).unwrap();
        screen.extend(byte);
    }
    master.write_all(typed.as_bytes()).unwrap();
    // Reading fails with EIO once the last writer is gone: that is the end.
    let _ = master.read_to_end(&mut screen);
    let output = child.wait_with_output().unwrap();
    Seen {
        screen: String::from_utf8_lossy(&screen).into_owned(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        code: output.status.code().unwrap(),
    }
}

#[test]
fn a_create_shows_what_the_agent_reports_meanwhile() {
    let agent = FakeAgent::on_socket();
    let args = ["vm", "create", "slow", "--template", "t"];
    let seen = at_a_terminal(&agent, &args, "", &[]);
    assert_eq!(seen.code, 0, "{}", seen.screen);
    assert!(seen.screen.contains("creating slow (0 s"), "{:?}", seen.screen);
    assert!(seen.screen.contains("; agent reports: creating, address 192."), "{:?}", seen.screen);
    assert!(!seen.stdout.contains("creating"), "{:?}", seen.stdout);
}

#[test]
fn a_create_of_an_uncached_template_shows_its_download_and_then_the_vm() {
    let agent = FakeAgent::on_socket();
    let mut fetching = absent("debian-12");
    fetching.progress = Some(progress("debian-12", "downloading", 221));
    let mut other = absent("other");
    other.progress = Some(progress("other", "downloading", 500));
    agent.state.lock().unwrap().imaging.images = vec![other, fetching];
    let args = ["vm", "create", "fetching", "--template", "debian-12"];
    let seen = at_a_terminal(&agent, &args, "", &[]);
    assert_eq!(seen.code, 0, "{}", seen.screen);
    assert!(seen.screen.contains("; fetching debian-12: 43 % of 512 MiB"), "{:?}", seen.screen);
    assert!(!seen.screen.contains("fetching other"), "{:?}", seen.screen);
    assert!(seen.screen.contains("; agent reports: creating"), "{:?}", seen.screen);
}

#[test]
fn an_agent_that_does_not_tell_its_images_is_asked_once_and_in_silence() {
    let agent = FakeAgent::on_socket();
    agent.state.lock().unwrap().imaging.is_old = true;
    let seen = at_a_terminal(&agent, &["vm", "create", "slow", "--template", "t"], "", &[]);
    assert_eq!(seen.code, 0, "{}", seen.screen);
    assert!(seen.screen.contains("; agent reports: creating"), "{:?}", seen.screen);
    assert!(!seen.screen.contains("nimplemented"), "{:?}", seen.screen);
    assert_eq!(agent.state.lock().unwrap().imaging.list_asks, 1);
}

#[test]
fn a_pull_is_a_bar_that_leaves_no_trace_but_the_digest() {
    let agent = FakeAgent::on_socket();
    let mut unknown = progress("debian-12", "downloading", 3);
    unknown.total_bytes = 0;
    let told = vec![
        unknown,
        progress("debian-12\u{7}", "downloading", 221),
        outcome("debian-12", "updated", 'a'),
    ];
    agent.state.lock().unwrap().imaging.streams.push_back((told, Ending::HangUp));
    let seen = at_a_terminal(&agent, &["image", "pull", "debian-12"], "", &[]);
    assert_eq!(seen.stdout, format!("debian-12: cached now, {}\n", digest('a')));
    assert!(seen.screen.contains("debian-12: 3 MiB"), "{:?}", seen.screen);
    assert!(seen.screen.contains("debian-12\u{fffd}: 43 % of 512 MiB [===="), "{:?}", seen.screen);
    assert!(seen.screen.ends_with("\r\u{1b}[2K"), "{:?}", seen.screen);
}

#[test]
fn a_yes_removes_an_image_and_anything_else_does_not() {
    let agent = FakeAgent::on_socket();
    agent.state.lock().unwrap().imaging.images = vec![image("debian-12", "current", 'a')];
    let no = at_a_terminal(&agent, &["image", "remove", "debian-12"], "n\n", &[]);
    assert_eq!(no.code, 1, "{}", no.screen);
    let question = "Remove the images of debian-12 that no VM is based on? [y/N]";
    assert!(no.screen.contains(question), "{:?}", no.screen);
    assert!(agent.state.lock().unwrap().imaging.removed.is_empty());
    let yes = at_a_terminal(&agent, &["image", "remove", &digest('a')], "y\n", &[]);
    assert_eq!(yes.code, 0, "{}", yes.screen);
    assert!(yes.screen.contains("Remove the image sha256:aaaa"), "{:?}", yes.screen);
    assert_eq!(yes.stdout, "removed sha256:aaaaaaaaaaaa\nfreed 512 MiB\n");
}

#[test]
fn a_yes_deletes_and_anything_else_does_not() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    let no = at_a_terminal(&agent, &["vm", "delete", "web-1"], "n\n", &[]);
    assert_eq!(no.code, 1, "{}", no.screen);
    assert!(no.screen.contains("Delete web-1 with all data? [y/N]"), "{:?}", no.screen);
    assert!(agent.status_of("web-1").is_some());
    let yes = at_a_terminal(&agent, &["vm", "delete", "web-1"], "y\n", &[]);
    assert_eq!((yes.code, yes.stdout.as_str()), (0, "web-1: deleted\n"), "{}", yes.screen);
    assert!(agent.status_of("web-1").is_none());
}

#[test]
fn errors_are_red_unless_no_color_is_set() {
    let agent = FakeAgent::on_socket();
    let args = ["vm", "status", "nobody"];
    let coloured = at_a_terminal(&agent, &args, "", &[]).screen;
    assert!(coloured.contains("\u{1b}[1;31merror:"), "{coloured:?}");
    let plain = at_a_terminal(&agent, &args, "", &[("NO_COLOR", "1")]).screen;
    assert!(plain.contains("error: there is no VM nobody"), "{plain:?}");
    assert!(!plain.contains("\u{1b}[1;31m"), "{plain:?}");
}

/// Opens a pseudo-terminal of this size: its master and its terminal.
fn pseudo_terminal(columns: u16, rows: u16) -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    (File::from(master), terminal)
}

/// Starts `agentctl ARGS` with standard output on `terminal`.
fn shown_on(terminal: OwnedFd, agent: &FakeAgent, args: &[&str], env: &[(&str, &str)]) -> Child {
    let mut command = Command::new(BINARY);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.env("TERM", "xterm").envs(env.iter().copied()).arg("--socket").arg(agent.socket());
    command.args(args).stdin(Stdio::null()).stdout(terminal).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn top_refreshes_until_ctrl_c_and_leaves_the_terminal_as_it_was() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    agent.state.lock().unwrap().watching.rx_step = 1 << 30;
    let (mut master, terminal) = pseudo_terminal(90, 10);
    let args = ["top", "--interval", "1s"];
    let mut child = shown_on(terminal, &agent, &args, &[("NO_COLOR", "1")]);
    let (mut screen, mut bytes, mut cut) = (String::new(), [0; 4096], false);
    // The third table has a rate, of two changes.
    while !(screen.contains("MiB          -") || screen.contains("GiB          -")) {
        let read = master.read(&mut bytes).unwrap();
        assert!(read > 0 && screen.len() < 4096, "{screen:?}");
        screen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        if !cut && screen.contains("web-1") {
            cut = true;
            agent.state.lock().unwrap().watching.cut();
        }
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // Reading fails with EIO once the last writer is gone: that is the end.
    let mut rest = Vec::new();
    let _ = master.read_to_end(&mut rest);
    screen.push_str(&String::from_utf8_lossy(&rest));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(screen.starts_with("\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[H"), "{screen:?}");
    assert!(screen.ends_with("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l"), "{screen:?}");
    assert!(screen.contains("1 VMs, 1 running"), "{screen:?}");
    assert!(screen.contains("trying again") || screen.contains("broke"), "{screen:?}");
}

#[test]
fn a_terminal_that_cannot_be_drawn_on_gets_one_table() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    let (mut master, terminal) = pseudo_terminal(90, 10);
    let mut child = shown_on(terminal, &agent, &["top"], &[("TERM", "dumb")]);
    let mut screen = Vec::new();
    // As above.
    let _ = master.read_to_end(&mut screen);
    let screen = String::from_utf8(screen).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(screen.contains("web-1") && !screen.contains('\u{1b}'), "{screen:?}");
}

#[test]
fn bars_are_as_wide_as_the_terminal_and_coloured_unless_no_color_is_set() {
    let agent = FakeAgent::on_socket();
    let half = Resource { total: 2.0, reserved: 1.0, overcommit: 1.0, ..Default::default() };
    agent.state.lock().unwrap().node.cpu = Some(half);
    let show = |env: &[(&str, &str)]| {
        let (mut master, terminal) = pseudo_terminal(30, 10);
        let mut child = shown_on(terminal, &agent, &["node"], env);
        let mut screen = Vec::new();
        // As above.
        let _ = master.read_to_end(&mut screen);
        child.wait().unwrap();
        String::from_utf8(screen).unwrap()
    };
    let plain = show(&[("NO_COLOR", "1")]);
    assert!(plain.contains("CPU     [==========..........]\r\n"), "{plain:?}");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert!(show(&[]).contains("[\u{1b}[34m=========="), "{plain:?}");
}
