//! The control plane, as its agent sees it.

use async_trait::async_trait;
use uuid::Uuid;

use crate::domain::control::{
    Beat, ControlError, HeartbeatReport, Registered, Registration, VmEvent,
};
use crate::domain::image::TemplateName;

/// The result of a call.
pub type ControlResult<T> = Result<T, ControlError>;

/// The calls. None is tried twice by itself: when to try again is decided by the use cases.
#[async_trait]
pub trait ControlPlane: std::fmt::Debug + Send + Sync {
    /// Says who the agent is.
    async fn register(&self, registration: &Registration) -> ControlResult<Registered>;

    /// Says that it lives.
    async fn heartbeat(&self, report: &HeartbeatReport) -> ControlResult<Beat>;

    /// Delivers changes, ascending, at least one and at most 256. Gives the last event that is kept now.
    async fn report(&self, instance: Uuid, events: &[VmEvent]) -> ControlResult<u64>;
}

/// What the agent knows of itself beside its VMs and its host.
pub trait SelfKnowledge: std::fmt::Debug + Send + Sync {
    /// Host and port under which the control plane reaches it; `None` if it does not.
    fn address(&self) -> Option<String>;

    /// The templates whose image is cached.
    fn templates_cached(&self) -> Vec<TemplateName>;

    /// What is wrong, one line each, cause then remedy; empty if all is well.
    fn troubles(&self) -> Vec<String>;
}
