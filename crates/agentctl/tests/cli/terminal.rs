//! What a person at a terminal sees; the terminal is a pseudo-terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::fake_agent::FakeAgent;
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
    master.write_all(typed.as_bytes()).unwrap();
    let mut screen = Vec::new();
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
