//! The control plane, as its agent sees it.

use async_trait::async_trait;
use tracing::Span;
use tracing::field::Empty;
use uuid::Uuid;

use crate::domain::control::{
    Beat, ControlError, HeartbeatReport, Registered, Registration, VmEvent,
};
use crate::domain::image::TemplateName;

/// The result of a call.
pub type ControlResult<T> = Result<T, ControlError>;

/// The span of one call, `rpc` by the contract's name. Whoever calls opens it, makes the call in it, and says in it what came of
/// it: each line has the call's id then. At a level that no setting of the log turns off.
#[must_use]
pub fn call_span(rpc: &'static str) -> Span {
    tracing::error_span!("control plane", rpc, request_id = Empty, trace_id = Empty)
}

/// The calls. None is tried twice by itself: when to try again is decided by the use cases. Each gives the span that it is made in
/// ([`call_span`]) its id, before it is sent.
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
