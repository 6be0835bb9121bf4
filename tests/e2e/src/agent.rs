//! A real `ghost-agent` with its own state, certificates and ports. Dropping it stops it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::certs::Certs;
use crate::ctl::Ctl;
use crate::host;
use crate::path_from;

/// Longest start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest stop: the agent's own limit for calls under way, and a reserve.
const STOP_LIMIT: Duration = Duration::from_secs(180);

/// A home for agents: state, certificates, catalogue. Outlives each of them.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    /// The development certificates.
    pub certs: Certs,
    /// Settings as in the environment: `GRPC__LISTEN_ADDR` and its value.
    pub settings: BTreeMap<&'static str, String>,
    user: User,
}

/// Whom the agents of a home run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Ours,
    Nobody,
}

/// The user and group `nobody` of every distribution (Linux Standard Base).
const NOBODY: u32 = 65_534;

impl Home {
    /// A fresh home with ghost-mini as template `mini`, its agents on TCG and a free port, with
    /// nothing reserved and room for a few guests on two cores.
    ///
    /// # Errors
    /// If the host can't give it, or the guest's image is not there.
    pub async fn new() -> anyhow::Result<Self> {
        host::hold().await?;
        // QEMU's user must be able to reach the images: /tmp may be private to a service.
        let folder = tempfile::Builder::new().prefix("ghost-e2e-").tempdir_in("/var/tmp")?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let certs = Certs::init(&folder.path().join("certs")).await?;
        std::fs::write(folder.path().join("catalog.yaml"), Image::mini()?.row()?)?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let settings = BTreeMap::from([
            ("AGENT__NAME", "e2e".to_owned()),
            ("AGENT__STATE_DIR", path("state")),
            ("LIBVIRT__IMAGE_CACHE", path("images")),
            ("IMAGES__CATALOG", path("catalog.yaml")),
            ("HYPERVISOR__ACCELERATION", "tcg".to_owned()),
            ("GRPC__LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("GRPC__UNIX_SOCKET", path("agent.sock")),
            ("GRPC__TLS_CERT", path("certs/agent.crt")),
            ("GRPC__TLS_KEY", path("certs/agent.key")),
            ("GRPC__TLS_CA", path("certs/ca.crt")),
            ("RESOURCES__RESERVED_CPU", "0".to_owned()),
            ("RESOURCES__RESERVED_RAM_GB", "0".to_owned()),
            ("RESOURCES__RESERVED_DISK_GB", "0".to_owned()),
            ("RESOURCES__CPU_OVERCOMMIT", "16".to_owned()),
            ("RESOURCES__DISK_OVERCOMMIT", "64".to_owned()),
            ("LOGGING__LEVEL", "debug".to_owned()),
            ("METRICS__LISTEN_ADDR", "127.0.0.1:0".to_owned()),
        ]);
        Ok(Self { folder, certs, settings, user: User::Ours })
    }

    /// Where everything is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The agent's unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path().join("agent.sock")
    }

    /// Changes a setting for the agents that start from now on.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.settings.insert(key, value.into());
        self
    }

    /// Puts one image in the place of the catalogue.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn with_image(self, image: &Image) -> anyhow::Result<Self> {
        std::fs::write(self.path().join("catalog.yaml"), image.row()?)?;
        Ok(self)
    }

    /// Makes the agents run without any privilege: as they are if we are not root, else as `nobody`.
    ///
    /// # Errors
    /// If the home can't be given away.
    pub fn unprivileged(mut self) -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(self);
        }
        std::fs::copy(path_from("GHOST_E2E_AGENT")?, self.path().join("ghost-agent"))?;
        let owner = format!("{NOBODY}:{NOBODY}");
        let given =
            std::process::Command::new("chown").args(["-R", &owner]).arg(self.path()).status()?;
        ensure!(given.success(), "chown: {given}");
        self.user = User::Nobody;
        Ok(self)
    }

    /// The agent's command line and environment, not started.
    ///
    /// # Errors
    /// If the program is not there.
    pub fn command(&self) -> anyhow::Result<Command> {
        let config = self.path().join("agent.yaml");
        std::fs::write(&config, "")?;
        let mut command = match self.user {
            User::Ours => Command::new(path_from("GHOST_E2E_AGENT")?),
            User::Nobody => {
                let mut command = Command::new(self.path().join("ghost-agent"));
                command.uid(NOBODY).gid(NOBODY);
                command
            }
        };
        command.arg("--config").arg(config).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.settings.iter().map(|(key, value)| (format!("GHOST_{key}"), value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }

    /// Starts an agent and waits until it is ready.
    ///
    /// # Errors
    /// With what it said, if it is not.
    pub async fn start(&self) -> anyhow::Result<Agent> {
        let mut child = self.command()?.spawn().context("the agent's program")?;
        let outputs: [Box<dyn AsyncRead + Unpin + Send>; 2] = [
            Box::new(child.stdout.take().context("no stdout")?),
            Box::new(child.stderr.take().context("no stderr")?),
        ];
        let seen = follow(outputs);
        let agent = Agent { child, seen, address: Mutex::new(None) };
        agent.until(r#""message":"ready""#, START_LIMIT).await?;
        Ok(agent)
    }

    /// `agentctl` for this home's agents, over mutual TLS.
    ///
    /// # Errors
    /// If the program is not there, or the agent does not listen on TCP.
    pub fn ctl(&self, agent: &Agent) -> anyhow::Result<Ctl> {
        Ctl::over_tls(agent.address()?, &self.certs)
    }
}

impl Drop for Home {
    /// A test that failed leaves its VMs to nobody: what its ledger knows goes with it.
    fn drop(&mut self) {
        let records = std::fs::read_dir(self.path().join("state/vms"));
        for record in records.into_iter().flatten().flatten() {
            if let Some(id) = record.path().file_stem().and_then(|name| name.to_str()) {
                host::remove_by_force(id);
            }
        }
    }
}

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

/// An image that can be a template.
#[derive(Debug, Clone)]
pub struct Image {
    /// The template's name.
    pub template: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Who gets the SSH keys.
    pub user: &'static str,
}

impl Image {
    /// ghost-mini.
    ///
    /// # Errors
    /// If it was not built.
    pub fn mini() -> anyhow::Result<Self> {
        Ok(Self { template: "mini", path: path_from("GHOST_E2E_GUEST")?, user: "root" })
    }

    /// A full Debian 12.
    ///
    /// # Errors
    /// If it was not built.
    pub fn debian12() -> anyhow::Result<Self> {
        Ok(Self { template: "debian12", path: path_from("GHOST_E2E_DEBIAN12")?, user: "debian" })
    }

    /// Its row of a catalogue.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn row(&self) -> anyhow::Result<String> {
        let image = std::fs::read(&self.path).with_context(|| self.path.display().to_string())?;
        let checksum: String =
            Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect();
        let (name, arch, url, user) =
            (self.template, std::env::consts::ARCH, self.path.display(), self.user);
        Ok(format!(
            "- name: {name}\n  arch: {arch}\n  url: file://{url}\n  checksum: sha256:{checksum}\n  default_user: {user}\n"
        ))
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    seen: watch::Receiver<Vec<String>>,
    address: Mutex<Option<SocketAddr>>,
}

impl Agent {
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
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        ensure!(status.success(), "the agent ended with {status}:\n{}", self.log().join("\n"));
        Ok(())
    }
}
