//! What signals do to the real daemon before it is one.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// logrotate may come while the agent starts. It is held there by a catalogue that is a pipe: opening it for writing
/// waits until the agent reads it.
#[test]
fn a_hangup_during_the_start_does_not_end_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let made = Command::new("mkfifo").arg(path("catalog.yaml")).status().unwrap();
    assert!(made.success());
    let config = format!(
        "agent: {{name: pc, state_dir: {}}}\nimages: {{catalog: {}}}\ngrpc: {{tls_enabled: false, listen_addr: \"127.0.0.1:0\"}}\n",
        path("state").display(),
        path("catalog.yaml").display(),
    );
    std::fs::write(path("agent.yaml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ghost-agent"));
    command.env_clear().arg("--config").arg(path("agent.yaml"));
    let agent = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut catalog = OpenOptions::new().write(true).open(path("catalog.yaml")).unwrap();
    kill_process(Pid::from_child(&agent), Signal::HUP).unwrap();
    catalog.write_all(b"no catalogue").unwrap();
    drop(catalog);
    let ended = agent.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(78), "{}: {said}", ended.status);
    assert!(said.contains("catalog.yaml"), "{said}");
}
