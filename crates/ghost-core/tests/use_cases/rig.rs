//! A host in memory with every use case on it.

use std::sync::Arc;
use std::time::Duration;

use ghost_core::application::{
    CreateVm, CreatedVm, DeleteVm, Limits, ListVms, Node, NodeQuery, Reconcile, Registry, StartVm,
    StopVm, VmStatusQuery, WatchVms, Watcher,
};
use ghost_core::domain::{AppError, VmRef};
use ghost_core::ports::Ports;
use ghost_core::testing::{World, samples};

/// The id of every rig's agent.
pub(crate) const AGENT: uuid::Uuid = uuid::Uuid::from_u128(7);

pub(crate) struct Rig {
    pub(crate) world: Arc<World>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) create: Arc<CreateVm>,
    pub(crate) delete: DeleteVm,
    pub(crate) start: StartVm,
    pub(crate) stop: StopVm,
    pub(crate) status: VmStatusQuery,
    pub(crate) list: ListVms,
    pub(crate) reconcile: Reconcile,
    pub(crate) node: Arc<Node>,
    pub(crate) node_info: NodeQuery,
    pub(crate) watch_vms: WatchVms,
    ports: Ports,
    limits: Limits,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::on(World::new(), limits)
    }

    /// A new process on a host that may have VMs already.
    pub(crate) fn on(world: Arc<World>, limits: Limits) -> Self {
        let ports = world.ports();
        Self::over(world, ports, limits)
    }

    /// As [`Self::on`], by ports to that host that may do more than its own.
    pub(crate) fn over(world: Arc<World>, ports: Ports, limits: Limits) -> Self {
        let registry = Arc::new(Registry::default());
        let node = Arc::new(Node::default());
        let (p, r) = (|| ports.clone(), || Arc::clone(&registry));
        Self {
            create: Arc::new(CreateVm::new(p(), r(), limits)),
            delete: DeleteVm::new(p(), r()),
            start: StartVm::new(p(), r(), limits),
            stop: StopVm::new(p(), r(), limits),
            status: VmStatusQuery::new(r()),
            list: ListVms::new(r()),
            reconcile: Reconcile::new(p(), r(), limits),
            limits,
            ports: p(),
            node_info: NodeQuery::new(node.clone(), r(), limits),
            watch_vms: WatchVms::new(r(), AGENT),
            node,
            registry: r(),
            world,
        }
    }

    /// Follows events in the background, as the daemon does.
    pub(crate) fn watch(&self) -> tokio::task::JoinHandle<()> {
        let (ports, registry) = (self.ports.clone(), Arc::clone(&self.registry));
        let watcher =
            Watcher::new(ports, registry, self.node.clone(), self.limits, Duration::from_secs(5));
        #[expect(clippy::disallowed_methods, reason = "a test's task ends with its runtime")]
        tokio::spawn(watcher.run(std::future::pending()))
    }

    pub(crate) async fn vm(&self, name: &str) -> Result<CreatedVm, AppError> {
        self.create.run(samples::spec(name), &samples::origin("r")).await
    }

    pub(crate) fn status_of(&self, name: &str) -> Option<&'static str> {
        self.status.run(&by_name(name)).ok().map(|view| view.status.as_str())
    }

    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.world.left(), Vec::<String>::new());
        assert!(self.registry.views().is_empty(), "{:?}", self.registry.views());
    }
}

pub(crate) fn by_name(name: &str) -> VmRef {
    name.parse().unwrap()
}
