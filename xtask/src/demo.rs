//! The main job, for people: a real agent, a real guest, commanded over mutual TLS. Invariant: what
//! a demo made is in one folder and in the VMs of one agent, so `--clean` finds all of it.

mod agent;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use crate::guest::{self, Guest};
use crate::run::{self, Child, Stages};
use crate::test;
use agent::Agent;

/// The VM of the demo.
const VM: &str = "demo";

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
    let agent =
        Agent::find(&stage.folder).context("no demo runs here; start one with: ./dev demo")?;
    stage.agentctl(&agent).args(args).exit_code()
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
        stages.run("build the agent and agentctl", || test::binaries().wait())?;
        let image = stages.run("build the guest's image", || guest::ensure(Guest::Mini))?;
        let agent = stages.run("start the agent", || {
            self.prepare(&image)?;
            Agent::start(&self.folder, &self.binaries.join("ghost-agent"))
        })?;
        stages.run("create a VM over mutual TLS", || self.ensure_vm(&agent))?;
        let address = self.address(&agent)?;
        stages.run("ask the guest for an answer", || {
            run::command("ping").args(["-c", "3", "-i", "0.3", "-W", "5", &address]).wait()
        })?;
        stages.print_table();
        println!();
        self.agentctl(&agent).args(["vm", "list"]).wait()?;
        println!("{}", self.what_next());
        Ok(())
    }

    fn clean(&self, stages: &mut Stages) -> anyhow::Result<()> {
        if !self.folder.exists() {
            println!("there is nothing to clean");
            return Ok(());
        }
        if !self.binaries.join("ghost-agent").exists() || !self.binaries.join("agentctl").exists() {
            stages.run("build the agent and agentctl", || test::binaries().wait())?;
        }
        let agent = match Agent::find(&self.folder) {
            Some(agent) => agent,
            None => Agent::start(&self.folder, &self.binaries.join("ghost-agent"))?,
        };
        stages.run("delete the demo's VMs", || self.delete_all(&agent))?;
        stages.run("stop the agent", || agent.stop())?;
        fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }

    /// Certificates, catalogue and configuration; those that are there are kept.
    fn prepare(&self, image: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755))?;
        if !self.folder.join("certs").exists() {
            let init = run::command(self.binaries.join("agentctl")).args(["certs", "init"]);
            init.arg(self.folder.join("certs")).stdout()?;
        }
        let checksum: String =
            Sha256::digest(fs::read(image)?).iter().map(|byte| format!("{byte:02x}")).collect();
        let (arch, image) = (std::env::consts::ARCH, image.display());
        let catalog = format!(
            "- name: mini\n  arch: {arch}\n  url: file://{image}\n  checksum: sha256:{checksum}\n  default_user: root\n"
        );
        fs::write(self.folder.join("catalog.yaml"), catalog)?;
        fs::write(self.folder.join("agent.yaml"), self.config())?;
        Ok(())
    }

    fn config(&self) -> String {
        let home = self.folder.display();
        format!(
            "# Written by ./dev demo.
agent:
  name: demo
  state_dir: {home}/state
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
  listen_addr: 127.0.0.1:0
  unix_socket: {home}/agent.sock
  tls_cert: {home}/certs/agent.crt
  tls_key: {home}/certs/agent.key
  tls_ca: {home}/certs/ca.crt
metrics:
  listen_addr: 127.0.0.1:0
"
        )
    }

    fn ensure_vm(&self, agent: &Agent) -> anyhow::Result<()> {
        let status = self.agentctl(agent).args(["-o", "json", "vm", "status", VM]);
        if status.succeeds() {
            println!("    the VM is there from an earlier demo: starting it if it is off");
            return self.agentctl(agent).args(["vm", "start", VM]).wait();
        }
        let create =
            ["vm", "create", VM, "--vcpu", "1", "--ram", "1", "--disk", "10", "--template", "mini"];
        println!("    agentctl {}", create.join(" "));
        self.agentctl(agent).args(create).wait()
    }

    fn address(&self, agent: &Agent) -> anyhow::Result<String> {
        let json = self.agentctl(agent).args(["-o", "json", "vm", "status", VM]).stdout()?;
        let status: serde_json::Value = serde_json::from_str(&json)?;
        let address = status["ip_address"].as_str().unwrap_or_default();
        ensure!(!address.is_empty(), "the agent reports no address: {json}");
        Ok(address.to_owned())
    }

    fn delete_all(&self, agent: &Agent) -> anyhow::Result<()> {
        let json = self.agentctl(agent).args(["-o", "json", "vm", "list"]).stdout()?;
        let list: serde_json::Value = serde_json::from_str(&json)?;
        let ids = list.as_array().or_else(|| list["vms"].as_array()).into_iter().flatten();
        let ids: Vec<&str> = ids.filter_map(|vm| vm["vm_id"].as_str()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.agentctl(agent).args(["vm", "delete", "--yes"]).args(ids).wait()
    }

    fn agentctl(&self, agent: &Agent) -> Child {
        run::command(self.binaries.join("agentctl"))
            .args(["--addr", &agent.address.to_string(), "--certs"])
            .arg(self.folder.join("certs"))
    }

    fn what_next(&self) -> String {
        format!(
            "
The VM runs until you delete it, also while the agent is stopped. What you can do now:

  ./dev ctl vm status {VM}       what it uses
  ./dev ctl vm stop {VM}         power it off; `vm start {VM}` gives it the same address
  ./dev ctl vm delete {VM}       remove it and everything that was made for it
  ./dev ctl vm create --help     make another
  ./dev demo --clean             remove the VMs, the agent and its files

`./dev ctl` is agentctl with this agent's address and certificates; its log is {}/agent.log",
            self.folder.display()
        )
    }
}
