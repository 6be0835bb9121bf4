//! The demo's two background processes, the control plane and the agent, found again by what they wrote down.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::run;

/// Longest start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest stop: the agent's own limit and a reserve.
const STOP_LIMIT: Duration = Duration::from_secs(45);
/// Between two looks.
const LOOK: &str = "0.1";

/// What to start.
#[derive(Debug)]
pub(super) struct Program<'a> {
    /// Names its files in the folder: `agent`, `plane`.
    pub(super) name: &'static str,
    /// The file.
    pub(super) path: PathBuf,
    /// How to call it.
    pub(super) args: Vec<String>,
    /// What it is told besides.
    pub(super) env: Vec<(&'static str, &'a str)>,
    /// The message that says that it serves.
    pub(super) ready: &'static str,
}

/// A running one.
#[derive(Debug)]
pub(super) struct Process {
    /// Where it listens for mutual TLS.
    pub(super) address: SocketAddr,
    name: &'static str,
    pid: u32,
}

impl Process {
    /// The one of that folder, if it runs.
    pub(super) fn find(folder: &Path, name: &'static str) -> Option<Self> {
        let pid: u32 = fs::read_to_string(pid_file(folder, name)).ok()?.trim().parse().ok()?;
        // A number alone could be somebody else's by now.
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let is_ours = program.file_name()?.to_str()?.starts_with("ghost-");
        let address = address_in(&fs::read_to_string(log_file(folder, name)).ok()?)?;
        is_ours.then_some(Self { address, name, pid })
    }

    /// Starts it, in the place of one that runs.
    pub(super) fn start(folder: &Path, program: &Program<'_>) -> anyhow::Result<Self> {
        let name = program.name;
        if let Some(former) = Self::find(folder, name) {
            println!("    {name}: one of an earlier demo runs: replacing it, VMs run on");
            former.stop()?;
        }
        let log = fs::File::create(log_file(folder, name))?;
        let child = Command::new(&program.path)
            .args(&program.args)
            .envs(program.env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Of its own group, so that Ctrl-C on the demo does not reach it.
            .process_group(0)
            .spawn()
            .with_context(|| program.path.display().to_string())?;
        let pid = child.id();
        fs::write(pid_file(folder, name), pid.to_string())?;
        let began = Instant::now();
        loop {
            let log = fs::read_to_string(log_file(folder, name))?;
            let ready = log.contains(&format!(r#""message":"{}""#, program.ready));
            if let (Some(address), true) = (address_in(&log), ready) {
                return Ok(Self { address, name, pid });
            }
            let gone = fs::read_link(format!("/proc/{pid}/exe")).is_err();
            if gone || began.elapsed() > START_LIMIT {
                bail!("the {name} does not start; its log says:\n{log}");
            }
            run::command("sleep").arg(LOOK).wait()?;
        }
    }

    /// Asks it to stop, and waits until it has. VMs run on.
    pub(super) fn stop(&self) -> anyhow::Result<()> {
        run::command("kill").args(["-TERM", &self.pid.to_string()]).wait()?;
        let began = Instant::now();
        while fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok() {
            if began.elapsed() > STOP_LIMIT {
                bail!("the {} (process {}) does not stop; look at its log", self.name, self.pid);
            }
            run::command("sleep").arg(LOOK).wait()?;
        }
        Ok(())
    }
}

fn pid_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.pid"))
}

fn log_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

/// The address in the first line that names one.
fn address_in(log: &str) -> Option<SocketAddr> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter_map(|line| line["address"].as_str()?.parse().ok()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_among_other_lines() {
        let log = "not json\n{\"message\":\"starting\"}\n{\"message\":\"listening\",\"address\":\"127.0.0.1:4711\"}\n";
        assert_eq!(address_in(log), Some(([127, 0, 0, 1], 4711).into()));
        assert_eq!(address_in("{\"address\":7}"), None);
    }
}
