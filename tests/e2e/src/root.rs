//! What only root may do, for harnesses that run as somebody else: through `sudo -n`, which fails
//! rather than asks.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Seconds that a command may take.
const LIMIT: &str = "30";

/// A command line as root, without a limit.
pub(crate) fn command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", program]);
        sudo
    };
    // An ordinary user's path lacks the folders of libvirtd and mount.
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).stdin(Stdio::null());
    command
}

/// Runs a command line as root to its end, within a limit.
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(
    args: impl IntoIterator<Item = S>,
) -> anyhow::Result<String> {
    let mut command = command("timeout");
    command.arg(LIMIT).args(args);
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    succeeded(&format!("{command:?}"), &output)
}

/// What a command printed, if it succeeded.
pub(crate) fn succeeded(command: &str, output: &Output) -> anyhow::Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command} ended with {}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Sends a signal to a process that may be root's.
pub(crate) fn signal(pid: Pid, signal: Signal) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(kill_process(pid, signal)?);
    }
    let number = format!("-{}", signal.as_raw());
    run(["kill", &number, &pid.to_string()]).map(drop)
}
