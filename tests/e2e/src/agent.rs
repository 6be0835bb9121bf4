//! A running `ghost-agent`. Dropping it kills it.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::failpoint;
pub use crate::home::Home;
pub use crate::image::Image;

/// Longest start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest stop: the agent's own limit for calls under way, and a reserve.
const STOP_LIMIT: Duration = Duration::from_secs(180);

/// The lines of some outputs, as they come.
pub(crate) fn follow<const N: usize, R>(outputs: [R; N]) -> watch::Receiver<Vec<String>>
where
    R: AsyncRead + Unpin + Send + 'static,
{
    let (lines, seen) = watch::channel(Vec::new());
    let lines = Arc::new(lines);
    for output in outputs {
        let (lines, mut reader) = (Arc::clone(&lines), BufReader::new(output).lines());
        let following = async move {
            while let Ok(Some(line)) = reader.next_line().await {
                lines.send_modify(|all| all.push(line));
            }
        };
        #[expect(clippy::disallowed_methods, reason = "ends with the output")]
        tokio::spawn(following);
    }
    seen
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    seen: watch::Receiver<Vec<String>>,
    address: Mutex<Option<SocketAddr>>,
    home: PathBuf,
}

impl Agent {
    /// Starts it, and does not wait until it is ready.
    pub(crate) fn spawn(mut command: Command, home: PathBuf) -> anyhow::Result<Self> {
        let mut child = command.spawn().context("the agent's program")?;
        let outputs: [Box<dyn AsyncRead + Unpin + Send>; 2] = [
            Box::new(child.stdout.take().context("no stdout")?),
            Box::new(child.stderr.take().context("no stderr")?),
        ];
        Ok(Self { child, seen: follow(outputs), address: Mutex::new(None), home })
    }

    /// Waits until its doors are open.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        self.until(r#""message":"ready""#, START_LIMIT).await.map(drop)
    }

    /// The steps that it has taken so far, if it was started with `FAILPOINT_TRACE` as `1`.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let lines = self.log();
        let steps = lines.iter().filter_map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let step = (line.get("message")? == "step").then(|| line.get("step"))??;
            step.as_str().map(str::to_owned)
        });
        steps.collect()
    }

    /// Waits until it holds still at the fail point that it was started with.
    ///
    /// # Errors
    /// If it does not come there in time.
    pub async fn held(&self) -> anyhow::Result<()> {
        self.until("held at ", failpoint::LIMIT).await.map(drop)
    }

    /// Lets it go on from where it holds still.
    ///
    /// # Errors
    /// If it does not hold still.
    pub async fn release(&self) -> anyhow::Result<()> {
        self.held().await?;
        failpoint::release(&self.home).await
    }

    /// Waits for its end by `SIGKILL`, from itself or from us.
    ///
    /// # Errors
    /// If it does not end in time, or otherwise.
    pub async fn crashed(&mut self) -> anyhow::Result<()> {
        let status = self.ended().await?;
        let by = status.signal();
        ensure!(by == Some(Signal::KILL.as_raw()), "the agent ended with {status}");
        Ok(())
    }

    /// Kills it as `kill -9` does, and waits for its end.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.crashed().await
    }

    /// Everything that it has logged.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.seen.borrow().clone()
    }

    /// Waits for a line of its log that has `text`.
    ///
    /// # Errors
    /// With the whole log, if it does not come in time or the agent ends first.
    pub async fn until(&self, text: &str, limit: Duration) -> anyhow::Result<String> {
        let find = |lines: &Vec<String>| lines.iter().find(|line| line.contains(text)).cloned();
        let mut seen = self.seen.clone();
        let waiting = seen.wait_for(|lines| find(lines).is_some());
        let found = tokio::time::timeout(limit, waiting).await;
        let found = found.ok().and_then(Result::ok).and_then(|lines| find(&lines));
        found.with_context(|| format!("no '{text}' in the agent's log:\n{}", self.log().join("\n")))
    }

    /// Where it listens for mutual TLS.
    ///
    /// # Errors
    /// If its log does not say.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        let mut known = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = *known {
            return Ok(address);
        }
        let lines = self.log();
        let said =
            lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut said = said.filter_map(|line| line.get("address")?.as_str()?.parse().ok());
        let address = said.next().context("the agent's log names no address")?;
        *known = Some(address);
        Ok(address)
    }

    /// Its process.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        let id = self.child.id().context("the agent has ended")?;
        Pid::from_raw(i32::try_from(id)?).context("not a process")
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(tokio::time::timeout(STOP_LIMIT, self.child.wait())
            .await
            .context("the agent does not end")??)
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// If it does not, or not well.
    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        ensure!(status.success(), "the agent ended with {status}:\n{}", self.log().join("\n"));
        Ok(())
    }

    /// As [`Self::terminate`], for the last time.
    ///
    /// # Errors
    /// As [`Self::terminate`].
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.terminate().await
    }
}

impl Drop for Agent {
    /// When this returns it does no more: what is left then is left.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log().join("\n"));
        }
        let Ok(pid) = self.pid() else { return };
        if kill_process(pid, Signal::KILL).is_ok() {
            // Its end only: tokio waits for the child itself.
            let _its_own = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        }
    }
}
