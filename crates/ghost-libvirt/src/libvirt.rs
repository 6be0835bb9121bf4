//! The handle that the agent wires: one libvirt, behind the ports of `ghost-core`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ghost_core::domain::{AppError, Arch, cause};
use ghost_core::ports::{Events, Hypervisor, Network, Storage};
use uuid::Uuid;

use crate::acceleration::Acceleration;
use crate::connections::Connections;
use crate::domain_xml::Platform;
use crate::executor::{Effort, Executor, Limits};
use crate::facts::{self, LibvirtFacts};
use crate::failure::Failure;
use crate::hypervisor::LibvirtHypervisor;
use crate::nat_network::NatNetwork;
use crate::observer::{CallObserver, Unobserved};
use crate::preflight::{self, FilterSeen};
use crate::storage_pool::StoragePool;
use crate::sys::LibvirtError;
use crate::threads;
use crate::tuning::{Cgroups, Tuning};
use crate::vitals::{Policy, Vitals};
use crate::watch::{ConnectionState, Contact, Memory, Watch};

/// How long [`Libvirt::facts`] may take.
const FACTS_LIMIT: Duration = Duration::from_secs(5);

/// What the agent's configuration says of libvirt.
#[derive(Debug, Clone)]
pub struct LibvirtConfig {
    /// libvirt's connection URI (`libvirt.uri`).
    pub uri: String,
    /// The network that VMs are attached to (`libvirt.network`); it needs a DHCP range.
    pub network: String,
    /// The pool for disks, seeds and console logs (`libvirt.storage_pool`); of a type that holds
    /// files, such as dir.
    pub storage_pool: String,
    /// What runs the guests; see [`crate::acceleration::detect`].
    pub acceleration: Acceleration,
    /// The agent's id, kept in the mark of each domain.
    pub agent: Uuid,
    /// What VMs are held to, for the owner's sake.
    pub tuning: Tuning,
    /// Deadline of questions and small changes.
    pub call_timeout: Duration,
    /// Deadline of starting, defining, destroying, making volumes.
    pub slow_call_timeout: Duration,
    /// Is told of each call.
    pub observer: Arc<dyn CallObserver>,
}

impl Default for LibvirtConfig {
    fn default() -> Self {
        Self {
            uri: "qemu:///system".to_owned(),
            network: "default".to_owned(),
            storage_pool: "default".to_owned(),
            acceleration: Acceleration::Kvm,
            agent: Uuid::nil(),
            tuning: Tuning::default(),
            call_timeout: Duration::from_secs(10),
            slow_call_timeout: Duration::from_secs(30),
            observer: Arc::new(Unobserved),
        }
    }
}

/// One libvirt. It need not be there: it is connected to as soon as it is, and again when it was
/// lost; until then calls fail at once, or at their deadline, with `HYPERVISOR_ERROR` and a remedy.
#[derive(Debug)]
pub struct Libvirt {
    config: LibvirtConfig,
    calls: Arc<Executor>,
    watch: Arc<Watch>,
    hypervisor: Arc<LibvirtHypervisor>,
    network: Arc<NatNetwork>,
    storage: Arc<StoragePool>,
    filter: FilterSeen,
}

impl Libvirt {
    /// Starts the threads and begins to connect; does not wait for a connection.
    ///
    /// # Errors
    /// `HYPERVISOR_ERROR` if the system has no threads for us.
    pub fn connect(config: LibvirtConfig) -> Result<Self, AppError> {
        let connections = Arc::new(Connections::new(&config.uri));
        let limits = Limits { quick: config.call_timeout, slow: config.slow_call_timeout };
        let observer = Arc::clone(&config.observer);
        let calls = Arc::new(Executor::start(Arc::clone(&connections), limits, observer)?);
        let memory = Memory::default();
        let told = Arc::downgrade(&calls);
        let on_contact = move |contact| match (told.upgrade(), contact) {
            (Some(calls), Contact::Made) => calls.libvirt_is_back(),
            (Some(calls), Contact::Lost(reason)) => calls.libvirt_is_lost(reason),
            (None, Contact::Made | Contact::Lost(_)) => {}
        };
        let watch = Watch::start(connections, memory.clone(), on_contact).map_err(|e| {
            Failure::Unavailable {
                source: LibvirtError::own(
                    virt_sys::VIR_ERR_SYSTEM_ERROR,
                    format!("no thread for libvirt's events: {e}"),
                ),
            }
        })?;
        let pool: Arc<str> = config.storage_pool.as_str().into();
        let platform = Arc::new(Platform {
            arch: Arch::HOST,
            acceleration: config.acceleration,
            network: config.network.clone(),
            agent: config.agent,
            tuning: config.tuning.clone(),
        });
        Ok(Self {
            hypervisor: Arc::new(LibvirtHypervisor {
                calls: Arc::clone(&calls),
                memory,
                platform,
                pool: Arc::clone(&pool),
                strangers: std::sync::Mutex::default(),
                cgroups: Cgroups::of_host(),
                refusals: Arc::default(),
            }),
            network: Arc::new(NatNetwork::new(Arc::clone(&calls), config.network.as_str().into())),
            storage: Arc::new(StoragePool { calls: Arc::clone(&calls), pool }),
            watch: Arc::new(watch),
            filter: FilterSeen::default(),
            calls,
            config,
        })
    }

    /// The domains.
    #[must_use]
    pub fn hypervisor(&self) -> Arc<dyn Hypervisor> {
        Arc::clone(&self.hypervisor) as Arc<dyn Hypervisor>
    }

    /// What libvirt tells unasked.
    #[must_use]
    pub fn events(&self) -> Arc<dyn Events> {
        Arc::clone(&self.watch) as Arc<dyn Events>
    }

    /// The addresses.
    #[must_use]
    pub fn network(&self) -> Arc<dyn Network> {
        Arc::clone(&self.network) as Arc<dyn Network>
    }

    /// The volumes.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage) as Arc<dyn Storage>
    }

    /// How the connection for events stands, now and whenever it changes.
    #[must_use]
    pub fn state(&self) -> tokio::sync::watch::Receiver<ConnectionState> {
        self.watch.state()
    }

    /// Whether libvirt is there.
    #[must_use]
    pub fn connected(&self) -> bool {
        *self.watch.state().borrow() == ConnectionState::Connected
    }

    /// What is missing for VMs to be made: a reachable libvirt, the network with its DHCP range, the pool,
    /// the network filter. Each finding names its remedy, and what it is of as its [`PART`](crate::PART) unless libvirt itself
    /// is not there; none means that all is well.
    pub async fn check(&self) -> Vec<AppError> {
        let (network, pool) = (self.config.network.clone(), self.config.storage_pool.clone());
        let look = move |conn: &crate::sys::Conn| preflight::findings(conn, &network, &pool);
        match self.calls.call("look at its network and pool", Effort::Quick, look).await {
            Ok(findings) => {
                self.filter.note(&findings);
                findings
            }
            Err(error) => vec![AppError::from(error).with("uri", &self.config.uri)],
        }
    }

    /// How libvirt is, what calls it, and what guests are held to, from memory.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        let filter = self.filter.enforcement().map(|state| (Policy::NetworkFilter, state));
        let held = self.config.tuning.policies(&self.hypervisor.refusals);
        Vitals {
            connected: self.connected(),
            breaker: self.calls.breaker_state(),
            workers: self.calls.workers(),
            policies: filter.into_iter().chain(held).collect(),
        }
    }

    /// What a bug report needs to know of libvirt, within 5 s. What can't be found out is said in its place.
    pub async fn facts(&self) -> LibvirtFacts {
        let look = facts::Look::of(&self.config);
        let call = self.calls.call("describe itself", Effort::Quick, move |conn| Ok(look.at(conn)));
        let told = match tokio::time::timeout(FACTS_LIMIT, call).await {
            Ok(Ok(told)) => told,
            Ok(Err(error)) => LibvirtFacts::without(&AppError::from(error)),
            Err(_elapsed) => LibvirtFacts::without(&"libvirt did not answer within 5 s"),
        };
        told.headed(&self.config.uri, &self.state().borrow())
    }

    /// Holds this agent's VMs to [`LibvirtConfig::tuning`], which may be newer than they are: running ones
    /// at once, others from their next start. Limits that are no longer set stay as they are until the VM is
    /// defined anew (CPUs, disk) or started (weights, memory, network). A start does the same for its VM.
    ///
    /// # Errors
    /// As the ports' if libvirt can't be asked for the domains; else the first VM's that could not be tied to
    /// its CPUs, after all others were. What the host can't hold at all is a warning in the log.
    pub async fn tune_running(&self) -> Result<(), AppError> {
        self.hypervisor.tune_all().await
    }

    /// Refuses further calls, lets those under way end, closes the connections, and joins the threads:
    /// within 2 seconds; what hangs in libvirt for longer is left behind, and then [`crate::leave`] is
    /// the process's safe end. Guests are not touched.
    pub async fn shutdown(&self) {
        self.calls.stop();
        self.watch.stop();
        let groups = [self.calls.threads(), self.watch.threads()];
        let joined = tokio::task::spawn_blocking(move || {
            let deadline = Instant::now() + threads::PATIENCE;
            groups.iter().map(|threads| threads.join_before(deadline)).sum()
        });
        match joined.await {
            Ok(behind) => threads::warn_of(behind),
            Err(error) => tracing::warn!(
                error = cause(&error),
                "cannot wait for the threads that call libvirt"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::tests::slow_end;

    #[tokio::test]
    async fn a_shutdown_waits_until_what_workers_keep_for_themselves_is_destroyed() {
        let uri = "test:///default".to_owned();
        let libvirt = Libvirt::connect(LibvirtConfig { uri, ..LibvirtConfig::default() }).unwrap();
        let (slow, told) = slow_end();
        let call = libvirt.calls.call("keep something", Effort::Quick, move |_| {
            slow();
            Ok(())
        });
        call.await.unwrap();
        libvirt.shutdown().await;
        assert_eq!(told.try_recv(), Ok(()));
    }
}
