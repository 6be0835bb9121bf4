//! GetNodeInfo: the host's resources, from memory. What the host has is read with each sample.

use std::sync::{Arc, PoisonError, RwLock};

use super::limits::Limits;
use super::registry::Registry;
use crate::domain::{AppError, Budget, Capacity, ErrorKind, NodeResources, VmStatus};
use crate::ports::Ports;

/// The host as it was last read.
#[derive(Debug, Default)]
pub struct Node(RwLock<Option<Capacity>>);

impl Node {
    /// Reads what the host has now.
    ///
    /// # Errors
    /// The host's or the pool's; what was known stays.
    pub async fn refresh(&self, ports: &Ports) -> Result<Capacity, AppError> {
        let host = ports.host.facts().await?;
        let pool = ports.storage.space().await?;
        let cpus = u32::try_from(host.cpus.len()).unwrap_or(u32::MAX);
        let capacity = Capacity { cpus, ram: host.ram, disk: pool.total };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(capacity);
        Ok(capacity)
    }

    fn known(&self) -> Option<Capacity> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeInfo {
    /// CPUs, memory, disk.
    pub resources: NodeResources,
    /// VMs of the agent.
    pub vms: usize,
    /// Of these, those that run.
    pub running: usize,
}

/// The use case.
#[derive(Debug)]
pub struct NodeQuery {
    node: Arc<Node>,
    registry: Arc<Registry>,
    limits: Limits,
}

impl NodeQuery {
    /// Over these.
    #[must_use]
    pub fn new(node: Arc<Node>, registry: Arc<Registry>, limits: Limits) -> Self {
        Self { node, registry, limits }
    }

    /// The host now.
    ///
    /// # Errors
    /// `HYPERVISOR_ERROR` if libvirt, or its pool alone, was away since the agent started.
    pub fn run(&self) -> Result<NodeInfo, AppError> {
        let capacity = self.node.known().ok_or_else(|| {
            AppError::new(
                ErrorKind::HypervisorUnavailable,
                "the host's resources are not known: libvirt, or its storage pool, was away since the agent started",
            )
            .remedy("see what is wrong: agentctl status")
        })?;
        let (taken, cpus_used) = self.registry.taken();
        let views = self.registry.views();
        let running = views.iter().filter(|view| view.status == VmStatus::Running).count();
        let budget = budget(capacity, &self.limits);
        Ok(NodeInfo { resources: budget.node(taken, cpus_used), vms: views.len(), running })
    }
}

/// The rule of admission on a host with that capacity.
pub(super) fn budget(capacity: Capacity, limits: &Limits) -> Budget {
    Budget { capacity, reserved: limits.reserved.of(&capacity), overcommit: limits.overcommit }
}
