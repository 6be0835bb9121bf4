//! A home for agents: state, certificates, catalogue. Outlives each of them.
//!
//! Invariant: what its agents left behind when it is dropped fails the test, by its names, and is
//! removed; unless the test fails anyway, or said before that it [`leaves_vms`](Home::leaves_vms).

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::ensure;
use tempfile::TempDir;
use tokio::process::Command;

use crate::agent::Agent;
use crate::certs::Certs;
use crate::client::{self, Client};
use crate::ctl::Ctl;
use crate::failpoint::{self, At};
use crate::host;
use crate::image::Image;
use crate::lab::Lab;
use crate::leaks::{Files, Inventory};
use crate::libvirt::Libvirt;
use crate::nets::Place;
use crate::path_from;

/// A home for agents: state, certificates, catalogue. Outlives each of them.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    /// The development certificates.
    pub certs: Certs,
    /// Settings as in the environment: `GRPC__LISTEN_ADDR` and its value.
    pub settings: BTreeMap<&'static str, String>,
    user: User,
    /// Where the agents are, if not on the host itself.
    place: Option<Place>,
    libvirt: Libvirt,
    lab: Option<Lab>,
    before: Inventory,
    vms: AtTheEnd,
}

/// What is to become of VMs that are there when the home goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtTheEnd {
    /// There are none: they are removed, and the test fails.
    Leaked,
    /// They are removed.
    Expected,
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
    /// A fresh home on the host's libvirt, with ghost-mini as template `mini`, its agents on TCG and a
    /// free port, with nothing reserved and room for a few guests on two cores.
    ///
    /// # Errors
    /// If the host can't give it, or the guest's image is not there.
    pub async fn new() -> anyhow::Result<Self> {
        host::hold().await?;
        Self::on(Libvirt::of_the_host(), None).await
    }

    /// As [`Self::new`], in a lab.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub async fn in_lab(lab: &Lab) -> anyhow::Result<Self> {
        let home = Self::on(lab.libvirt().clone(), Some(lab.clone())).await?;
        Ok(home.with("LIBVIRT__URI", lab.uri()))
    }

    async fn on(libvirt: Libvirt, lab: Option<Lab>) -> anyhow::Result<Self> {
        // QEMU's user must be able to reach the images: /tmp may be private to a service.
        let folder = tempfile::Builder::new().prefix("ghost-e2e-").tempdir_in("/var/tmp")?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let certs = Certs::init(&folder.path().join("certs")).await?;
        std::fs::write(folder.path().join("catalog.yaml"), Image::mini()?.row()?)?;
        let settings = settings(folder.path());
        let files = files(&settings);
        let before = Inventory::take(&libvirt, &files).await?;
        let (user, vms) = (User::Ours, AtTheEnd::Leaked);
        Ok(Self { folder, certs, settings, user, place: None, libvirt, lab, before, vms })
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

    /// Runs the agents somewhere else in the network.
    #[must_use]
    pub fn at(mut self, place: &Place) -> Self {
        self.place = Some(place.clone());
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

    /// Makes VMs that need no boot: template `mini` is a blank disk, and a create keeps what took no
    /// address within a second, with status `error`.
    ///
    /// # Errors
    /// If the disk can't be made.
    pub async fn with_blank_vms(self) -> anyhow::Result<Self> {
        let blank = Image::blank(self.path()).await?;
        let home = self.with("VM__KEEP_FAILED", "true").with("VM__ADDRESS_TIMEOUT", "1s");
        home.with_image(&blank)
    }

    /// Says that VMs may be there when the home goes; they are removed then.
    #[must_use]
    pub fn leaves_vms(mut self) -> Self {
        self.vms = AtTheEnd::Expected;
        self
    }

    /// Fails if there is anything that the agents left behind, or if something else has gone,
    /// since the home was made.
    ///
    /// # Errors
    /// With the list.
    pub async fn ensure_nothing_left(&self) -> anyhow::Result<()> {
        let now = Inventory::take(&self.libvirt, &files(&self.settings)).await?;
        ensure!(self.difference(&now).is_empty(), self.difference(&now));
        Ok(())
    }

    /// What is left and what has gone, a line each.
    fn difference(&self, now: &Inventory) -> String {
        let left = now.left_since(&self.before).into_iter().map(|thing| format!("left: {thing}\n"));
        let gone = now.gone_since(&self.before).into_iter().map(|thing| format!("gone: {thing}\n"));
        left.chain(gone).collect()
    }

    /// Looks a last time, at a libvirt that answers, and removes what is left.
    fn clear_up(&self) -> anyhow::Result<String> {
        if let Some(lab) = &self.lab {
            lab.revive()?;
        }
        let files = files(&self.settings);
        let now = Inventory::take_now(&self.libvirt, &files)?;
        for thing in now.left_since(&self.before) {
            thing.remove_by_force(&self.libvirt);
        }
        Ok(self.difference(&now))
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
            User::Ours => self.program(path_from("GHOST_E2E_AGENT")?),
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

    /// A program where the agents are.
    fn program(&self, program: PathBuf) -> Command {
        let prefix = self.place.as_ref().map(Place::prefix).unwrap_or_default();
        match prefix.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        }
    }

    /// Starts an agent and waits until it is ready.
    ///
    /// # Errors
    /// With what it said, if it is not.
    pub async fn start(&self) -> anyhow::Result<Agent> {
        let agent = Agent::spawn(self.command()?, self.path().to_owned())?;
        agent.ready().await?;
        Ok(agent)
    }

    /// Starts an agent that dies or holds still when it comes to that step (see [`failpoint`]), which
    /// may be before it is ready: so this does not wait for that.
    ///
    /// # Errors
    /// If the program is not there.
    pub fn spawn_failing(&self, step: &str, at: At) -> anyhow::Result<Agent> {
        let mut command = self.command()?;
        command.env("GHOST_FAILPOINT", at.setting(step));
        command.env("GHOST_FAILPOINT_FIFO", failpoint::fifo(self.path())?);
        Agent::spawn(command, self.path().to_owned())
    }

    /// As [`Self::spawn_failing`], for a step that comes after the agent is ready: waits for that.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_failing(&self, step: &str, at: At) -> anyhow::Result<Agent> {
        let agent = self.spawn_failing(step, at)?;
        agent.ready().await?;
        let armed = agent.log().iter().any(|line| line.contains("a fail point is armed"));
        ensure!(armed, "this agent has no fail points; ./dev test builds one that has");
        Ok(agent)
    }

    /// The API of an agent of this home, over mutual TLS, as the operator.
    ///
    /// # Errors
    /// If there is no connection.
    pub async fn api(&self, agent: &Agent) -> anyhow::Result<Client> {
        client::operator(agent.address()?, &self.certs).await
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
    fn drop(&mut self) {
        let left = self.clear_up();
        if std::thread::panicking() {
            return;
        }
        let left = left.unwrap_or_else(|error| format!("cannot tell what is left: {error:#}\n"));
        assert!(left.is_empty() || self.vms == AtTheEnd::Expected, "after the test:\n{left}");
    }
}

/// The settings of an agent whose files are in that folder.
fn settings(folder: &Path) -> BTreeMap<&'static str, String> {
    let path = |name: &str| folder.join(name).display().to_string();
    BTreeMap::from([
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
    ])
}

/// Where an agent with these settings keeps its files.
fn files(settings: &BTreeMap<&'static str, String>) -> Files {
    let path = |key| settings.get(key).map(PathBuf::from).unwrap_or_default();
    Files { state: path("AGENT__STATE_DIR"), images: path("LIBVIRT__IMAGE_CACHE") }
}
