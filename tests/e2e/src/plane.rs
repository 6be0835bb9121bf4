//! The reference control plane on loopback. Dropping it kills it.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::agent::{Home, follow};
use crate::path_from;
use crate::wait::eventually;

/// Longest start, and longest command.
const LIMIT: Duration = Duration::from_secs(200);
/// One request, and the server closes the connection.
const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: plane\r\nConnection: close\r\n\r\n";

/// A control plane that serves.
#[derive(Debug)]
pub struct Plane {
    folder: TempDir,
    server: Child,
    seen: watch::Receiver<Vec<String>>,
    /// Where agents connect.
    pub address: SocketAddr,
    /// Where monitoring asks.
    pub http: SocketAddr,
}

impl Plane {
    /// A new one, with an authority of its own; agents shall beat every so many seconds.
    ///
    /// # Errors
    /// With what it said, if it does not start.
    pub async fn start(interval_seconds: u16) -> anyhow::Result<Self> {
        Self::start_with(interval_seconds, &[]).await
    }

    /// One that lets so many agents enrol from loopback within a minute.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub async fn start_for(interval_seconds: u16, agents: u32) -> anyhow::Result<Self> {
        let agents = agents.to_string();
        Self::start_with(interval_seconds, &["--enrolments-per-minute", &agents]).await
    }

    async fn start_with(interval_seconds: u16, options: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ghost-e2e-plane-").tempdir_in("/var/tmp")?;
        run(folder.path(), &["init", "--name", "127.0.0.1"]).await?;
        let interval = interval_seconds.to_string();
        let mut command = command(folder.path())?;
        command.args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        command.args(["--heartbeat-interval", &interval]).args(options);
        let mut server = command.spawn().context("ghost-api")?;
        let stdout = server.stdout.take().context("no stdout")?;
        let stderr = server.stderr.take().context("no stderr")?;
        let outputs: [Box<dyn tokio::io::AsyncRead + Unpin + Send>; 2] =
            [Box::new(stdout), Box::new(stderr)];
        let seen = follow(outputs);
        let (address, http) = listening(seen.clone()).await?;
        Ok(Self { folder, server, seen, address, http })
    }

    /// A key for one enrolment.
    ///
    /// # Errors
    /// With what ghost-api said.
    pub async fn key(&self) -> anyhow::Result<String> {
        Ok(run(self.folder.path(), &["token", "create", "--ttl", "10m"]).await?.trim().to_owned())
    }

    /// What a command prints with `-o json`.
    ///
    /// # Errors
    /// With what ghost-api said.
    pub async fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let args = [&["-o", "json"], args].concat();
        Ok(serde_json::from_str(&run(self.folder.path(), &args).await?)?)
    }

    /// [`Self::json`] in the trace `traceparent`.
    ///
    /// # Errors
    /// With what ghost-api said.
    pub async fn traced(&self, traceparent: &str, args: &[&str]) -> anyhow::Result<Value> {
        let args = [&["-o", "json"], args].concat();
        let mut command = command(self.folder.path())?;
        command.env("TRACEPARENT", traceparent);
        Ok(serde_json::from_str(&output(command, &args).await?)?)
    }

    /// Asks `agents` until the only one there is has that status.
    ///
    /// # Errors
    /// With what there is instead, if it has not in time.
    pub async fn agent_is(&self, status: &str) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        let asked = eventually(&format!("an agent that is {status}"), LIMIT, async || {
            last = self.json(&["agents"]).await?.get(0).cloned().unwrap_or_default();
            Ok((last["status"] == status).then(|| last.clone()))
        })
        .await;
        asked.with_context(|| format!("it is {last}\n{}", self.log()))
    }

    /// The statuses of a VM that were reported, oldest first; what was told twice (its address came, it is on
    /// its way) once, and without the blink of a start in which QEMU holds the guest.
    ///
    /// # Errors
    /// With what ghost-api said.
    pub async fn statuses(&self, vm: &str) -> anyhow::Result<Vec<String>> {
        let events = self.json(&["events", "--limit", "1000"]).await?;
        let events = events.as_array().cloned().unwrap_or_default();
        let of = events.iter().filter(|event| event["vm_name"] == vm || event["vm"] == vm);
        let statuses = of.filter_map(|event| event["status"].as_str().map(str::to_owned));
        let mut statuses: Vec<String> = statuses.filter(|status| status != "paused").collect();
        statuses.dedup();
        Ok(statuses)
    }

    /// Waits until these were the last statuses of a VM that were reported.
    ///
    /// # Errors
    /// With what was reported instead.
    pub async fn heard(&self, vm: &str, statuses: &[&str]) -> anyhow::Result<()> {
        let wanted: Vec<String> = statuses.iter().map(|status| (*status).to_owned()).collect();
        let mut last = Vec::new();
        let asked = eventually(&format!("{statuses:?} of {vm}"), LIMIT, async || {
            last = self.statuses(vm).await?;
            Ok(last.ends_with(&wanted).then_some(()))
        })
        .await;
        asked.with_context(|| format!("but {last:?}\n{}", self.log()))
    }

    /// Stops its clock and its ears, as a partition does; `CONT` brings both back.
    ///
    /// # Errors
    /// If it has ended.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// See [`Self::freeze`].
    ///
    /// # Errors
    /// If it has ended.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// The server's process.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        let pid = self.server.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        pid.context("ghost-api has ended")
    }

    /// Its authority's certificate, PEM.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn ca(&self) -> anyhow::Result<Vec<u8>> {
        std::fs::read(self.folder.path().join("ca.crt")).context("ca.crt")
    }

    /// A number of its `/metrics`, such as that of `ghost_api_heartbeats_total`.
    ///
    /// # Errors
    /// If it can't be asked, or has no such number.
    pub async fn counted(&self, name: &str) -> anyhow::Result<u64> {
        let asking = async {
            let mut stream = TcpStream::connect(self.http).await?;
            stream.write_all(METRICS).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            anyhow::Ok(text)
        };
        let text = tokio::time::timeout(LIMIT, asking).await.context("no answer to /metrics")??;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {name} among the metrics: {text}"))?.parse()?)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.seen.borrow().join("\n")
    }

    /// A home whose agents belong to this control plane, enrol with a new key, and have no certificate yet.
    ///
    /// # Errors
    /// If there is no key, or no port.
    pub async fn home(&self) -> anyhow::Result<Home> {
        let home = Home::new().await?;
        std::fs::remove_dir_all(home.path().join("certs"))?;
        std::fs::create_dir(home.path().join("certs"))?;
        // Freed at once: an agent of this test takes it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(home
            .with("AGENT__API_URL", format!("https://{}", self.address))
            .with("GRPC__LISTEN_ADDR", port.to_string())
            .with("AGENT__ADVERTISE_ADDR", port.to_string())
            .with("API_KEY", self.key().await?))
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        drop(self.thaw());
        drop(self.server.start_kill());
    }
}

fn command(folder: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(path_from("GHOST_E2E_API")?);
    command.arg("--dir").arg(folder).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

async fn run(folder: &Path, args: &[&str]) -> anyhow::Result<String> {
    output(command(folder)?, args).await
}

async fn output(mut command: Command, args: &[&str]) -> anyhow::Result<String> {
    let ended = tokio::time::timeout(LIMIT, command.args(args).output()).await;
    let ended = ended.with_context(|| format!("ghost-api {args:?} does not end"))??;
    let (out, complaint) =
        (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    ensure!(ended.status.success(), "ghost-api {args:?}: {}: {complaint}{out}", ended.status);
    Ok(out.into_owned())
}

/// The first addresses that its log says agents, and monitoring, connect to.
async fn listening(
    mut seen: watch::Receiver<Vec<String>>,
) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let find = |lines: &Vec<String>| {
        lines.iter().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let http = line.get("http")?.as_str()?;
            Some((line.get("address")?.as_str()?.parse().ok()?, http.parse().ok()?))
        })
    };
    let waiting = seen.wait_for(|lines| find(lines).is_some());
    let found = tokio::time::timeout(LIMIT, waiting).await.ok().and_then(Result::ok);
    let found = found.and_then(|lines| find(&lines));
    found.with_context(|| format!("ghost-api does not listen: {}", seen.borrow().join("\n")))
}
