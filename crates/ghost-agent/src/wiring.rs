//! Puts the parts together: adapters into ports, ports into use cases, use cases into the API.

mod control_plane;
pub mod debug;
mod health;
mod images;
mod metrics;
mod owner;

pub use metrics::Beside;

use std::sync::Arc;
use std::time::Duration;

use ghost_core::application::{
    CreateVm, DeleteVm, ImageLibrary, Limits, ListVms, Node, NodeQuery, OnAddressTimeout,
    Reconcile, Registry, StartVm, StopVm, Upkeep, VmStatusQuery, WatchVms, Watcher,
};
use ghost_core::domain::{AppError, Catalog, VmId, cause};
use ghost_core::ports::{Clock, Host as _, Ports};
use ghost_host::{
    AgentState, AgentStateFile, Downloads, EventDir, LedgerDir, NoCloudSeed, ProcHost, SystemClock,
};
use ghost_libvirt::{Acceleration, AccelerationChoice, Detected, Libvirt, LibvirtConfig, Tuning};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::config::{self, Config};
use crate::grpc::quotas::Quotas;
use crate::grpc::{About, AgentApi};
use crate::health::Pulse;
use crate::observability::metrics::Metrics;

/// How often the counters of all guests are read (design, "The cache").
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Everything that runs, apart from the doors.
#[derive(Debug)]
pub struct Parts {
    /// The use cases behind the API.
    pub api: AgentApi,
    ports: Ports,
    registry: Arc<Registry>,
    node: Arc<Node>,
    libvirt: Arc<Libvirt>,
    limits: Limits,
    summary: Summary,
    upkeep: Arc<Upkeep>,
    events: EventDir,
    downloads: Arc<Downloads>,
}

impl Parts {
    /// Takes the ledger, begins to connect to libvirt, and reads what there is. `metrics` counts from then on.
    ///
    /// # Errors
    /// What kept it from starting. libvirt being away does not: the agent outlives it.
    pub async fn start(
        config: &Config,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let ledger = LedgerDir::open(&config.agent.state_dir)?;
        let file = AgentStateFile::of(&ledger);
        let state = file.load_or_create(crate::VERSION).await?;
        let events = EventDir::open(&ledger);
        tracing::info!(agent_id = %state.agent_id, "this agent");
        images::warn_of_weak_rows(&catalog);
        let acceleration = acceleration(config)?;
        let libvirt = connect(config, state.agent_id, acceleration, &metrics).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let images = images::cache(config, Arc::clone(&clock))?;
        let downloads = images.downloads();
        let ports = Ports {
            hypervisor: libvirt.hypervisor(),
            events: libvirt.events(),
            network: libvirt.network(),
            storage: libvirt.storage(),
            images: Arc::new(images),
            seeds: Arc::new(NoCloudSeed),
            ledger: Arc::new(ledger),
            host: Arc::new(ProcHost),
            clock,
            meter: Arc::clone(&metrics) as _,
        };
        #[cfg(feature = "failpoints")]
        let ports = crate::failpoints::armed(ports)?;
        let boot = ports.boot_moment().await?.boot;
        let (registry, limits) = (Arc::new(Registry::default()), limits(config));
        Reconcile::new(ports.clone(), Arc::clone(&registry), limits).adopt().await?;
        let acceleration = match acceleration {
            Acceleration::Kvm => "kvm",
            Acceleration::Tcg => "tcg",
        };
        let name = config.agent.name.clone();
        let about = About { agent_id: state.agent_id, name, acceleration, boot };
        let node = Arc::default();
        let quotas = Arc::new(Quotas::new(&config.rates));
        let retention = images::retention(config);
        let images = ImageLibrary::new(ports.clone(), Arc::clone(&registry), catalog, retention);
        let upkeep = Arc::new(Upkeep::new(images.clone(), images::upkeep_plan(config)));
        let api = api(&ports, &registry, &node, limits, images, about, (quotas, metrics));
        let summary = Summary { file, state };
        Ok(Self { api, ports, registry, node, libvirt, limits, summary, upkeep, events, downloads })
    }

    /// What keeps the registry true and the summary written, for ever; and what becomes true when the
    /// ledger and libvirt were reconciled for the first time, or libvirt was found to be away.
    /// Nothing is begun any more for VMs once `closing` is cancelled. `pulse` beats as long as it turns.
    pub fn watch(
        &self,
        closing: CancellationToken,
        pulse: Pulse,
    ) -> (impl Future<Output = ()> + Send + 'static, watch::Receiver<bool>) {
        let (ports, registry) = (self.ports.clone(), Arc::clone(&self.registry));
        let node = Arc::clone(&self.node);
        let watcher = Watcher::new(ports, registry, node, self.limits, SAMPLE_EVERY);
        let first_pass = watcher.first_pass();
        let pulse = pulse.keep(Arc::clone(&self.ports.clock));
        let (mut summary, registry) = (self.summary.clone(), Arc::clone(&self.registry));
        let watching = async move {
            let mut ids = registry.ids();
            let summarise = async {
                loop {
                    let vms = ids.borrow_and_update().clone();
                    summary.write(vms).await;
                    if ids.changed().await.is_err() {
                        return;
                    }
                }
            };
            let watching = futures_util::future::join(watcher.run(closing.cancelled()), summarise);
            // Neither end is the pulse's.
            futures_util::future::select(std::pin::pin!(watching), std::pin::pin!(pulse)).await;
        };
        (watching, first_pass)
    }

    /// Holds the guests that run to what the configuration says now: they may have been started by an agent with another
    /// reservation.
    pub fn tune(&self) -> impl Future<Output = ()> + Send + 'static {
        let libvirt = Arc::clone(&self.libvirt);
        async move {
            if let Err(error) = libvirt.tune_running().await {
                tracing::warn!(
                    error = cause(&error),
                    "not all guests that run are held to the owner's reservation; their next start does it"
                );
            }
        }
    }

    /// Keeps the cached images up, for ever.
    pub fn keep_images_up(&self) -> impl Future<Output = ()> + Send + 'static {
        let upkeep = Arc::clone(&self.upkeep);
        async move { upkeep.run(fastrand::f64).await }
    }

    /// Writes the summary a last time and closes the connections to libvirt. No guest is touched.
    pub async fn stop(mut self) {
        let vms = self.registry.ids().borrow().clone();
        self.summary.write(vms).await;
        self.libvirt.shutdown().await;
    }
}

/// `agent-state.json`: never the source of truth, so a failure to write it is only logged.
#[derive(Debug, Clone)]
struct Summary {
    file: AgentStateFile,
    state: AgentState,
}

impl Summary {
    async fn write(&mut self, vms: Vec<VmId>) {
        (self.state.vms, self.state.version) = (vms, crate::VERSION.to_owned());
        if let Err(error) = self.file.save(&self.state).await {
            let error = AppError::from(error);
            tracing::warn!(error = cause(&error), "cannot write the summary agent-state.json");
        }
    }
}

fn api(
    ports: &Ports,
    registry: &Arc<Registry>,
    node: &Arc<Node>,
    limits: Limits,
    images: ImageLibrary,
    about: About,
    (quotas, metrics): (Arc<Quotas>, Arc<Metrics>),
) -> AgentApi {
    let (p, r) = (|| ports.clone(), || Arc::clone(registry));
    AgentApi {
        create: Arc::new(CreateVm::new(p(), r(), limits)),
        delete: Arc::new(DeleteVm::new(p(), r())),
        start: Arc::new(StartVm::new(p(), r(), limits)),
        stop: Arc::new(StopVm::new(p(), r(), limits)),
        status: Arc::new(VmStatusQuery::new(r())),
        list: Arc::new(ListVms::new(r())),
        catalog: Arc::clone(images.catalog()),
        node: Arc::new(NodeQuery::new(Arc::clone(node), r(), limits)),
        watch: Arc::new(WatchVms::new(r(), about.agent_id)),
        images: Arc::new(images),
        cache: r(),
        clock: Arc::clone(&ports.clock),
        about: Arc::new(about),
        closing: CancellationToken::new(),
        tasks: TaskTracker::new(),
        quotas,
        metrics,
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        address_timeout: config.vm.address_timeout,
        stop_timeout: config.vm.stop_timeout,
        on_address_timeout: match config.vm.keep_failed {
            true => OnAddressTimeout::Keep,
            false => OnAddressTimeout::Undo,
        },
        reserved: config.resources.reservation(),
        overcommit: config.resources.overcommit(),
        ..Limits::default()
    }
}

/// Begins to connect to libvirt, and says what is wrong there by now.
async fn connect(
    config: &Config,
    agent: Uuid,
    acceleration: Acceleration,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Arc<Libvirt>> {
    let host = ProcHost.facts().await?;
    owner::warn_of_too_much(config, &host);
    let tuning = owner::tuning(config, &host, acceleration);
    let libvirt = Libvirt::connect(LibvirtConfig {
        observer: Arc::clone(metrics) as _,
        ..libvirt_config(config, agent, acceleration, tuning)
    })?;
    for finding in libvirt.check().await {
        tracing::error!(error = cause(&finding), "libvirt is not as the agent needs it");
    }
    Ok(Arc::new(libvirt))
}

fn libvirt_config(
    config: &Config,
    agent: Uuid,
    acceleration: Acceleration,
    tuning: Tuning,
) -> LibvirtConfig {
    LibvirtConfig {
        tuning,
        agent,
        uri: config.libvirt.uri.as_str().to_owned(),
        network: config.libvirt.network.as_str().to_owned(),
        storage_pool: config.libvirt.storage_pool.as_str().to_owned(),
        acceleration,
        ..LibvirtConfig::default()
    }
}

fn acceleration(config: &Config) -> anyhow::Result<Acceleration> {
    let choice = match config.hypervisor.acceleration {
        config::Acceleration::Kvm => AccelerationChoice::Kvm,
        config::Acceleration::Auto => AccelerationChoice::Auto,
        config::Acceleration::Tcg => AccelerationChoice::Tcg,
    };
    let Detected { acceleration, obstacle } = ghost_libvirt::acceleration::detect(choice)?;
    match acceleration {
        Acceleration::Kvm => tracing::info!("guests run on KVM"),
        Acceleration::Tcg => {
            let why = obstacle.map_or("hypervisor.acceleration is tcg".to_owned(), |o| {
                format!("{}; {}", o.cause, o.remedy)
            });
            tracing::warn!(
                why,
                "guests are emulated: slow, and isolated from the host by no hardware"
            );
        }
    }
    Ok(acceleration)
}
