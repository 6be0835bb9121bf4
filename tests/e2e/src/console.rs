//! A guest's serial console. ghost-mini obeys what is written there, one command a line, and
//! answers with a line that begins with `ghost-mini: `.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::agent::follow;
use crate::host::virsh;

/// Longest answer: a probe that nobody answers takes the guest some seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// An open console. Dropping it closes it.
#[derive(Debug)]
pub struct Console {
    terminal: String,
    seen: watch::Receiver<Vec<String>>,
    _reader: Child,
}

impl Console {
    /// Opens the console of a running VM.
    ///
    /// # Errors
    /// If it has none.
    pub async fn open(vm_id: &str) -> anyhow::Result<Self> {
        let terminal = virsh(&["ttyconsole", vm_id]).await?.trim().to_owned();
        let mut reader = Command::new("cat");
        reader.arg(&terminal).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut reader = reader.spawn()?;
        let seen = follow([reader.stdout.take().context("no output")?]);
        Ok(Self { terminal, seen, _reader: reader })
    }

    /// Has the guest obey a command, and gives its answer: the first line that then comes and
    /// begins with `ghost-mini: ` and `answer`, without the former.
    ///
    /// # Errors
    /// If none comes in time.
    pub async fn ask(&self, command: &str, answer: &str) -> anyhow::Result<String> {
        let before = self.seen.borrow().len();
        let wanted = format!("ghost-mini: {answer}");
        let find = |lines: &Vec<String>| {
            let new = lines.iter().skip(before).map(|line| line.trim());
            new.filter(|line| line.starts_with(&wanted)).map(str::to_owned).next()
        };
        let mut terminal = std::fs::OpenOptions::new().append(true).open(&self.terminal)?;
        terminal.write_all(format!("{command}\n").as_bytes())?;
        let mut seen = self.seen.clone();
        let waiting = seen.wait_for(|lines| find(lines).is_some());
        let found = tokio::time::timeout(LIMIT, waiting).await;
        let found = found.ok().and_then(Result::ok).and_then(|lines| find(&lines));
        let found = found.with_context(|| {
            format!("no '{answer}' after '{command}': {:?}", self.seen.borrow())
        })?;
        Ok(found["ghost-mini: ".len()..].to_owned())
    }
}
