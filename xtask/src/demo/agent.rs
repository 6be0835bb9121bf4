//! The demo's agent: one background process, found again by what it wrote down.

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

/// A running agent.
#[derive(Debug)]
pub(super) struct Agent {
    /// Where it listens for mutual TLS.
    pub(super) address: SocketAddr,
    pid: u32,
}

impl Agent {
    /// The agent of that folder, if it runs.
    pub(super) fn find(folder: &Path) -> Option<Self> {
        let pid: u32 = fs::read_to_string(pid_file(folder)).ok()?.trim().parse().ok()?;
        // A number alone could be somebody else's by now.
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let is_ours = program.file_name()?.to_str()?.starts_with("ghost-agent");
        let address = address_in(&fs::read_to_string(log_file(folder)).ok()?)?;
        is_ours.then_some(Self { address, pid })
    }

    /// Starts the agent of that folder, in the place of one that runs: its VMs don't notice.
    pub(super) fn start(folder: &Path, program: &Path) -> anyhow::Result<Self> {
        if let Some(former) = Self::find(folder) {
            println!("    an agent of an earlier demo runs: replacing it, its VMs run on");
            former.stop()?;
        }
        let log = fs::File::create(log_file(folder))?;
        let child = Command::new(program)
            .arg("--config")
            .arg(folder.join("agent.yaml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Of its own group, so that Ctrl-C on the demo does not reach it.
            .process_group(0)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let pid = child.id();
        fs::write(pid_file(folder), pid.to_string())?;
        let began = Instant::now();
        loop {
            let log = fs::read_to_string(log_file(folder))?;
            if let (Some(address), true) = (address_in(&log), log.contains(r#""message":"ready""#))
            {
                return Ok(Self { address, pid });
            }
            let gone = fs::read_link(format!("/proc/{pid}/exe")).is_err();
            if gone || began.elapsed() > START_LIMIT {
                bail!("the agent does not start; its log says:\n{log}");
            }
            run::command("sleep").arg(LOOK).wait()?;
        }
    }

    /// Asks the agent to stop, and waits until it has. Its VMs run on.
    pub(super) fn stop(&self) -> anyhow::Result<()> {
        run::command("kill").args(["-TERM", &self.pid.to_string()]).wait()?;
        let began = Instant::now();
        while fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok() {
            if began.elapsed() > STOP_LIMIT {
                bail!("the agent (process {}) does not stop; look at its log", self.pid);
            }
            run::command("sleep").arg(LOOK).wait()?;
        }
        Ok(())
    }
}

fn pid_file(folder: &Path) -> PathBuf {
    folder.join("agent.pid")
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("agent.log")
}

/// The address in the agent's first line that names one.
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
