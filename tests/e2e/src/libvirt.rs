//! A libvirtd that tests may use, and what runs below it: the host's own or a lab's.

use std::process::Command;

use rustix::process::Pid;

use crate::processes::{self, Process};
use crate::root;

/// The host's own.
const SYSTEM: &str = "qemu:///system";
/// Seconds that a call may take.
const LIMIT: &str = "60";

/// A libvirtd, alive or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Libvirt {
    uri: String,
    /// The first process of the lab's namespaces.
    init: Option<Pid>,
}

impl Libvirt {
    /// The host's own.
    #[must_use]
    pub fn of_the_host() -> Self {
        Self { uri: SYSTEM.to_owned(), init: None }
    }

    pub(crate) fn of_a_lab(uri: String, init: Pid) -> Self {
        Self { uri, init: Some(init) }
    }

    /// Where it listens.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Runs virsh on it.
    ///
    /// # Errors
    /// With what it complained.
    pub async fn virsh(&self, args: &[&str]) -> anyhow::Result<String> {
        let (libvirt, args) = (self.clone(), args.iter().map(|&arg| arg.to_owned()));
        let args: Vec<String> = args.collect();
        tokio::task::spawn_blocking(move || libvirt.call(&args)).await?
    }

    /// As [`Self::virsh`], where nothing can be awaited.
    pub(crate) fn call<S: AsRef<str>>(&self, args: &[S]) -> anyhow::Result<String> {
        let args = args.iter().map(AsRef::as_ref);
        let mut virsh = Command::new("timeout");
        virsh.args([LIMIT, "virsh", "-q", "-c", &self.uri]).args(args.clone());
        root::succeeded(&format!("virsh {:?}", args.collect::<Vec<_>>()), &virsh.output()?)
    }

    /// The processes below it, or below the whole host without those in labs.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut all = processes::all();
        match self.init {
            // What daemonises in a lab becomes a child of its first process.
            Some(init) => all.retain(|p| p.parent == init.as_raw_pid()),
            None => {
                let depth = processes::our_depth();
                all.retain(|p| p.depth == depth);
            }
        }
        all
    }

    /// The QEMU processes of domains that an agent named.
    pub(crate) fn qemus(&self) -> Vec<Process> {
        let mut all = self.processes();
        all.retain(|process| process.line.contains("guest=ghost-"));
        all
    }
}
