//! What the control plane is told of this agent, gathered from memory: libvirt is not asked.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use uuid::Uuid;

use crate::application::{NodeQuery, Registry};
use crate::domain::control::{AgentStatus, HeartbeatReport, Profile, Registration};
use crate::domain::{Arch, Catalog, NodeResources, VmStatus};
use crate::ports::{Clock, EventQueue, Meter, SelfKnowledge};

/// From which difference of the clocks on it is a trouble: certificates and the order of events depend on them.
const LARGEST_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Who {
    /// Of this process: made at its start.
    pub instance: Uuid,
    /// The agent's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `kvm` or `tcg`.
    pub acceleration: &'static str,
    /// The boot of the host.
    pub boot: Uuid,
}

/// Everything that is asked.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented by its type")]
pub struct Facts {
    pub who: Who,
    pub catalog: Arc<Catalog>,
    pub node: Arc<NodeQuery>,
    pub registry: Arc<Registry>,
    pub queue: Arc<dyn EventQueue>,
    pub knowledge: Arc<dyn SelfKnowledge>,
    pub clock: Arc<dyn Clock>,
    pub meter: Arc<dyn Meter>,
}

impl Facts {
    pub(super) fn registration(&self) -> Registration {
        let resources = self.resources().ok();
        let Who { instance, name, version, acceleration, boot } = self.who.clone();
        let profile = Profile {
            name,
            version,
            address: self.knowledge.address(),
            architecture: Arch::HOST,
            acceleration,
            templates: self.catalog.iter().map(|template| template.name.clone()).collect(),
            templates_cached: self.knowledge.templates_cached(),
            boot,
            totals: resources.as_ref().map(Profile::totals),
        };
        Registration { instance, profile, resources }
    }

    pub(super) fn heartbeat(&self, skew: SignedDuration) -> HeartbeatReport {
        self.report(AgentStatus::with(self.troubles(skew)))
    }

    pub(super) fn farewell(&self) -> HeartbeatReport {
        self.report(AgentStatus::Draining)
    }

    fn report(&self, status: AgentStatus) -> HeartbeatReport {
        let views = self.registry.views();
        HeartbeatReport {
            instance: self.who.instance,
            sent_at: self.clock.now(),
            resources: self.resources().ok(),
            vms_running: views.iter().filter(|vm| vm.status == VmStatus::Running).count(),
            vms: views.len(),
            version: self.who.version.clone(),
            status,
            boot: self.who.boot,
        }
    }

    fn resources(&self) -> Result<NodeResources, String> {
        self.node.run().map(|node| node.resources).map_err(|error| error.to_string())
    }

    fn troubles(&self, skew: SignedDuration) -> Vec<String> {
        let mut troubles = Vec::new();
        match self.registry.age(self.clock.monotonic()) {
            Some(age) => troubles.push(libvirt_away(age)),
            None => troubles.extend(self.resources().err()),
        }
        troubles.extend(skewed(skew));
        troubles.extend(self.queue.trouble());
        troubles.extend(self.knowledge.troubles());
        troubles
    }
}

fn libvirt_away(age: Duration) -> String {
    let seconds = age.as_secs();
    format!(
        "libvirt has not answered for {seconds} s; guests are not affected; see whether it runs: systemctl status libvirtd"
    )
}

/// What to say of clocks that differ by so much; `None` if it is little.
pub(super) fn skewed(skew: SignedDuration) -> Option<String> {
    (skew.abs() > LARGEST_SKEW).then(|| {
        let (seconds, how) =
            (skew.abs().as_secs(), if skew.is_positive() { "behind" } else { "ahead of" });
        format!("the host's clock is {seconds} s {how} the control plane's; set it (timedatectl)")
    })
}
