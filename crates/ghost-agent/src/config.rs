//! The daemon's configuration. Invariant: a [`Config`] that exists is complete, valid and free of
//! secrets but the one that never prints; everything wrong with its sources is reported at once.
//!
//! Three layers, the later the stronger: the table's defaults, the YAML file, the environment
//! (`GHOST_SECTION__KEY`). Then the sections are held against each other. What depends on the
//! host, such as its capacity, is left to the daemon.

pub mod check;
pub mod docs;
mod environment;
mod file;
mod listener;
mod model;
mod nearest;
mod problem;
mod reader;
mod rules;
mod secret;
mod table;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use listener::{Grpc, TcpListener, TlsFiles};
pub use model::{
    Acceleration, ClientName, LibvirtUri, ListenAddr, LogFormat, LogLevel, LogOutput, ObjectName,
};
pub use problem::{ConfigErrors, Origin, Problem};
pub use secret::ApiKey;
pub use table::{
    Agent, Hypervisor, Images, Libvirt, Logging, Metrics, Rates, Resources, Tracing, Vm, VmLimits,
    Vpn,
};

use file::Absence;
use listener::{Enrolment, Look};
use reader::{Effective, Reader};
use table::Settings;

/// The file that is read when none is named.
pub const DEFAULT_PATH: &str = "/etc/ghost/agent.yaml";

/// Where the configuration comes from.
#[derive(Clone)]
pub struct ConfigSource {
    /// The file, which must exist; `None` for [`DEFAULT_PATH`], which need not.
    pub path: Option<PathBuf>,
    /// The environment; what does not begin with `GHOST_` is ignored.
    pub env: BTreeMap<String, String>,
    /// The host's name, the default of `agent.name`.
    pub host_name: String,
}

impl ConfigSource {
    /// This process's environment and host, and the file `path`.
    #[must_use]
    pub fn of_process(path: Option<PathBuf>) -> Self {
        let env = std::env::vars_os()
            .map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            })
            .filter(|(name, _)| name.starts_with("GHOST_"))
            .collect();
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { path, env, host_name }
    }

    fn file(&self) -> (&Path, Absence) {
        match &self.path {
            Some(path) => (path, Absence::Refused),
            None => (Path::new(DEFAULT_PATH), Absence::Accepted),
        }
    }
}

impl std::fmt::Debug for ConfigSource {
    /// Without the values of the environment, one of which is a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variables: Vec<&String> = self.env.keys().collect();
        f.debug_struct("ConfigSource")
            .field("path", &self.path)
            .field("env", &variables)
            .field("host_name", &self.host_name)
            .finish()
    }
}

/// The configuration in force. Safe to log.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The agent itself.
    pub agent: Agent,
    /// What runs the guests.
    pub hypervisor: Hypervisor,
    /// The templates.
    pub images: Images,
    /// libvirt on this host.
    pub libvirt: Libvirt,
    /// What the owner keeps.
    pub resources: Resources,
    /// What each VM may take at most.
    pub vm_limits: VmLimits,
    /// How often may be called.
    pub rates: Rates,
    /// Who may command, and where.
    pub grpc: Grpc,
    /// The life of a VM.
    pub vm: Vm,
    /// The log.
    pub logging: Logging,
    /// Metrics and health over HTTP.
    pub metrics: Metrics,
    /// Traces.
    pub tracing: Tracing,
    /// The VPN.
    pub vpn: Vpn,
    /// The enrolment secret, if it was given.
    pub api_key: Option<ApiKey>,
}

/// A configuration and what its reader should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration in force.
    pub config: Config,
    /// What is allowed but deserves a look, one line each, for the log.
    pub notes: Vec<String>,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    effective: Vec<Effective>,
}

impl Config {
    /// Reads the sources. Looks at the file system, but starts and changes nothing.
    ///
    /// # Errors
    /// Every problem of the file, the environment and their combination, at once.
    pub fn load(source: &ConfigSource) -> Result<Loaded, ConfigErrors> {
        load(source, &|path| match std::fs::metadata(path)?.is_file() {
            true => Ok(()),
            false => Err(std::io::Error::other("is not a file")),
        })
    }
}

fn load(source: &ConfigSource, look: Look<'_>) -> Result<Loaded, ConfigErrors> {
    let host_name = reader::label_of(&source.host_name);
    let mut reader = Reader::new(&host_name);
    let (path, absence) = source.file();
    let (file, whole) = match file::text(path, absence) {
        Ok(Some(text)) => (Some(path.to_owned()), file::give(path, &text, &mut reader)),
        Ok(None) => (None, true),
        Err(problem) => {
            reader.problems.push(problem);
            (None, false)
        }
    };
    let api_key = environment::give(&source.env, &mut reader);
    let settings = Settings::read(&mut reader);
    let mut notes = Vec::new();
    // Half a file, held against itself, would give problems that the whole file does not have.
    let config = match whole {
        true => combine(settings, api_key, &mut reader, &mut notes, look),
        false => None,
    };
    let Reader { problems, effective, .. } = reader;
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, notes, file, effective }),
        _ => Err(ConfigErrors::new(problems)),
    }
}

fn combine(
    settings: Settings,
    api_key: Option<ApiKey>,
    reader: &mut Reader<'_>,
    notes: &mut Vec<String>,
    look: Look<'_>,
) -> Option<Config> {
    let Settings {
        agent,
        hypervisor,
        images,
        libvirt,
        resources,
        vm_limits,
        rates,
        grpc,
        vm,
        logging,
        metrics,
        tracing,
        vpn,
    } = settings;
    let enrols = match agent.as_ref().and_then(|agent| agent.api_url.as_ref()) {
        Some(_) => Enrolment::ToCome,
        None => Enrolment::Never,
    };
    let grpc = grpc.and_then(|keys| listener::resolve(keys, enrols, reader, notes, look));
    if let (Some(grpc), Some(metrics)) = (&grpc, &metrics) {
        listener::check_ports(grpc, metrics, reader);
    }
    let version = reader.origin("agent", "version");
    if version != Origin::Default {
        notes.push(format!(
            "{version}: agent.version is ignored; the agent reports its own version"
        ));
    }
    if let Some(metrics) =
        metrics.as_ref().filter(|metrics| !metrics.listen_addr.ip().is_loopback())
    {
        let address = metrics.listen_addr;
        notes.push(format!(
            "metrics.listen_addr is {address}: whoever reaches it may read metrics and health"
        ));
    }
    Some(Config {
        agent: agent?,
        hypervisor: hypervisor?,
        images: images?,
        libvirt: libvirt?,
        resources: resources?,
        vm_limits: vm_limits?,
        rates: rates?,
        grpc: grpc?,
        vm: vm?,
        logging: logging?,
        metrics: metrics?,
        tracing: tracing?,
        vpn: vpn?,
        api_key,
    })
}
