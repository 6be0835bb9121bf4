//! The main job, for people: a control plane, a real agent that enrols with it, a real guest that is placed through it.
//! Invariant: what a demo made is in one folder and in the VMs of one agent, so `--clean` finds all of it.

mod process;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use crate::guest::{self, Guest};
use crate::run::{self, Child, Stages};
use crate::test;
use process::{Process, Program};

/// The VM of the demo.
const VM: &str = "demo";
/// The agent's files in the folder.
const AGENT: &str = "agent";
/// The control plane's.
const PLANE: &str = "plane";
/// How long the agent may take to be seen by its control plane.
const SEEN_LIMIT: Duration = Duration::from_secs(60);

/// What the demo is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Show the main job.
    Show,
    /// Remove everything that a demo made.
    Clean,
}

/// Where everything of the demo is.
#[derive(Debug)]
struct Stage {
    folder: PathBuf,
    binaries: PathBuf,
}

/// Runs the demo, or removes what it made.
pub(crate) fn demo(stages: &mut Stages, act: Act) -> anyhow::Result<()> {
    let stage = Stage::find()?;
    match act {
        Act::Show => stage.show(stages),
        Act::Clean => stage.clean(stages),
    }
}

/// Runs agentctl on the demo's agent.
pub(crate) fn ctl(args: &[String]) -> anyhow::Result<std::process::ExitCode> {
    let stage = Stage::find()?;
    let agent = Process::find(&stage.folder, AGENT);
    let agent = agent.context("no demo runs here; start one with: ./dev demo")?;
    stage.agentctl(&agent)?.args(args).exit_code()
}

impl Stage {
    /// QEMU must reach the base image, which a home folder often forbids; /var/tmp outlives a
    /// reboot, as the VMs do.
    fn find() -> anyhow::Result<Self> {
        let user = run::command("id").arg("-u").stdout()?;
        let folder = PathBuf::from(format!("/var/tmp/ghost-demo-{}", user.trim()));
        Ok(Self { folder, binaries: run::target_dir()?.join("debug") })
    }

    fn show(&self, stages: &mut Stages) -> anyhow::Result<()> {
        stages.run("build the programs", || test::binaries().wait())?;
        let image = stages.run("build the guest's image", || guest::ensure(Guest::Mini))?;
        let plane = stages.run("start the control plane", || self.plane())?;
        let agent = stages.run("enrol and start the agent", || {
            self.prepare(&image, &plane)?;
            self.agent(true)
        })?;
        stages.run("the agent registers", || self.until_online())?;
        stages.run("place a VM through the control plane", || self.ensure_vm(&agent))?;
        let address = self.address(&agent)?;
        stages.run("ask the guest for an answer", || {
            run::command("ping").args(["-c", "3", "-i", "0.3", "-W", "5", &address]).wait()
        })?;
        stages.print_table();
        println!("\nghost-api agents");
        self.api().arg("agents").wait()?;
        println!("\nghost-api events");
        self.api().arg("events").wait()?;
        println!("\nagentctl status");
        self.agentctl(&agent)?.arg("status").wait()?;
        println!("{}", self.what_next());
        Ok(())
    }

    fn clean(&self, stages: &mut Stages) -> anyhow::Result<()> {
        if !self.folder.exists() {
            println!("there is nothing to clean");
            return Ok(());
        }
        let missing = |program: &&str| !self.binaries.join(program).exists();
        if ["ghost-agent", "agentctl", "ghost-api"].iter().any(missing) {
            stages.run("build the programs", || test::binaries().wait())?;
        }
        let agent = match Process::find(&self.folder, AGENT) {
            Some(agent) => agent,
            None => self.agent(false)?,
        };
        stages.run("delete the demo's VMs", || self.delete_all(&agent))?;
        stages.run("stop agent and control plane", || {
            agent.stop()?;
            Process::find(&self.folder, PLANE).map_or(Ok(()), |plane| plane.stop())
        })?;
        fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }

    /// The control plane, on the port that it had before: the agent knows it by that.
    fn plane(&self) -> anyhow::Result<Process> {
        let dir = self.folder.join(PLANE);
        fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755))?;
        if !dir.join("ca.key").exists() {
            self.api().args(["init", "--name", "127.0.0.1"]).stdout()?;
        }
        let port_file = self.folder.join("plane.port");
        let port = fs::read_to_string(&port_file).unwrap_or_else(|_| "0".to_owned());
        let listen = format!("127.0.0.1:{}", port.trim());
        let args =
            ["serve", "--listen", &listen, "--http", "127.0.0.1:0", "--heartbeat-interval", "5"];
        let plane = Process::start(
            &self.folder,
            &Program {
                name: PLANE,
                path: self.binaries.join("ghost-api"),
                args: [&["--dir", &dir.display().to_string()], args.as_slice()]
                    .concat()
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
                env: Vec::new(),
                ready: "listening",
            },
        )?;
        fs::write(port_file, plane.address.port().to_string())?;
        Ok(plane)
    }

    /// The agent, with a one-time key if it has no certificate yet.
    fn agent(&self, enrols: bool) -> anyhow::Result<Process> {
        let key = match enrols && !self.folder.join("identity/agent.crt").exists() {
            true => self.api().args(["token", "create", "--ttl", "10m"]).stdout()?,
            false => String::new(),
        };
        let program = Program {
            name: AGENT,
            path: self.binaries.join("ghost-agent"),
            args: vec!["--config".to_owned(), self.folder.join("agent.yaml").display().to_string()],
            env: vec![("GHOST_API_KEY", key.trim())],
            ready: "ready",
        };
        Process::start(&self.folder, &program)
    }

    /// Waits until the control plane knows how the agent is.
    fn until_online(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let agents = self.api().args(["-o", "json", "agents"]).stdout()?;
            let agents: serde_json::Value = serde_json::from_str(&agents)?;
            match agents[0]["status"].as_str() {
                Some("online" | "degraded") => return Ok(()),
                status => ensure!(
                    began.elapsed() < SEEN_LIMIT,
                    "the control plane does not see the agent ({status:?}); look at {}/agent.log",
                    self.folder.display()
                ),
            }
            run::command("sleep").arg("0.2").wait()?;
        }
    }

    /// Catalogue and configuration.
    fn prepare(&self, image: &Path, plane: &Process) -> anyhow::Result<()> {
        fs::create_dir_all(self.folder.join("identity"))?;
        let checksum: String =
            Sha256::digest(fs::read(image)?).iter().map(|byte| format!("{byte:02x}")).collect();
        let (arch, image) = (std::env::consts::ARCH, image.display());
        let catalog = format!(
            "- name: mini\n  arch: {arch}\n  url: file://{image}\n  checksum: sha256:{checksum}\n  default_user: root\n"
        );
        fs::write(self.folder.join("catalog.yaml"), catalog)?;
        let port_file = self.folder.join("agent.port");
        let port = match fs::read_to_string(&port_file) {
            Ok(port) => port.trim().parse()?,
            // Freed at once: the agent takes it.
            Err(_) => TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
        };
        fs::write(port_file, port.to_string())?;
        fs::write(self.folder.join("agent.yaml"), self.config(plane.address, port))?;
        Ok(())
    }

    fn config(&self, plane: SocketAddr, port: u16) -> String {
        let home = self.folder.display();
        format!(
            "# Written by ./dev demo.
agent:
  name: demo
  state_dir: {home}/state
  api_url: https://{plane}
  advertise_addr: 127.0.0.1:{port}
hypervisor:
  acceleration: auto
libvirt:
  image_cache: {home}/images
images:
  catalog: {home}/catalog.yaml
resources:
  cpu_overcommit: 8
  disk_overcommit: 8
grpc:
  listen_addr: 127.0.0.1:{port}
  unix_socket: {home}/agent.sock
  tls_cert: {home}/identity/agent.crt
  tls_key: {home}/identity/agent.key
  tls_ca: {home}/identity/ca.crt
metrics:
  listen_addr: 127.0.0.1:0
"
        )
    }

    fn ensure_vm(&self, agent: &Process) -> anyhow::Result<()> {
        let status = self.agentctl(agent)?.args(["-o", "json", "vm", "status", VM]);
        if status.succeeds() {
            println!("    the VM is there from an earlier demo: starting it if it is off");
            return self.agentctl(agent)?.args(["vm", "start", VM]).wait();
        }
        let create = ["vm", "create", "--any", "--name", VM, "--template", "mini"];
        println!("    ghost-api {}", create.join(" "));
        self.api().args(create).wait()
    }

    fn address(&self, agent: &Process) -> anyhow::Result<String> {
        let json = self.agentctl(agent)?.args(["-o", "json", "vm", "status", VM]).stdout()?;
        let status: serde_json::Value = serde_json::from_str(&json)?;
        let address = status["ip_address"].as_str().unwrap_or_default();
        ensure!(!address.is_empty(), "the agent reports no address: {json}");
        Ok(address.to_owned())
    }

    fn delete_all(&self, agent: &Process) -> anyhow::Result<()> {
        let json = self.agentctl(agent)?.args(["-o", "json", "vm", "list"]).stdout()?;
        let list: serde_json::Value = serde_json::from_str(&json)?;
        let ids = list.as_array().or_else(|| list["vms"].as_array()).into_iter().flatten();
        let ids: Vec<&str> = ids.filter_map(|vm| vm["vm_id"].as_str()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.agentctl(agent)?.args(["vm", "delete", "--yes"]).args(ids).wait()
    }

    /// As the operator whose certificate the control plane made; the agent's has a name in it, no address.
    fn agentctl(&self, agent: &Process) -> anyhow::Result<Child> {
        let state = fs::read_to_string(self.folder.join("state/agent-state.json"))?;
        let state: serde_json::Value = serde_json::from_str(&state)?;
        let id = state["agent_id"].as_str().context("agent-state.json names no agent")?;
        Ok(run::command(self.binaries.join("agentctl"))
            .args(["--addr", &agent.address.to_string()])
            .args(["--server-name", &format!("{id}.agents.ghost.internal"), "--certs"])
            .arg(self.folder.join(PLANE)))
    }

    fn api(&self) -> Child {
        run::command(self.binaries.join("ghost-api")).arg("--dir").arg(self.folder.join(PLANE))
    }

    fn what_next(&self) -> String {
        format!(
            "
The VM runs until you delete it, also while the agent is stopped. What you can do now:

  ./dev ctl status               is all well, what runs, what it costs, what to do
  ./dev ctl vm status {VM}       what it uses
  ./dev ctl vm stop {VM}         power it off; `vm start {VM}` gives it the same address
  ./dev ctl vm delete {VM}       remove it and everything that was made for it
  ./dev ctl vm create --help     make another
  ./dev demo --clean             remove the VMs, agent, control plane and their files

`./dev ctl` is agentctl with this agent's address and the operator's certificate; the logs are
{folder}/agent.log and {folder}/plane.log. The control plane's own command line:

  {api} --dir {folder}/plane agents | events | audit | vm create --help",
            folder = self.folder.display(),
            api = self.binaries.join("ghost-api").display()
        )
    }
}
