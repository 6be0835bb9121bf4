//! `ControlPlane` on the wire: convert, ask the plane, convert back.

use std::sync::Arc;
use std::time::Duration;

use ghost_proto::controlplane::control_plane_server::ControlPlane;
use ghost_proto::controlplane::{
    EnrollRequest, EnrollResponse, HeartbeatRequest, HeartbeatResponse, RegisterRequest,
    RegisterResponse, RenewRequest, RenewResponse, ReportEventsRequest, ReportEventsResponse,
};
use tokio_util::task::TaskTracker;
use tonic::Request;

use super::call::{Call, Reply, Told};
use super::caller::Caller;
use super::convert;
use crate::domain::AgentId;
use crate::domain::event::MOST_AT_ONCE;
use crate::plane::{EnrolRequest, Plane};
use crate::refusal::Refusal;

/// Longest call of an agent, which waits for the disk at most.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// What agents talk to.
#[derive(Debug, Clone)]
pub(super) struct AgentsApi {
    pub(super) plane: Arc<Plane>,
    pub(super) tasks: TaskTracker,
}

impl AgentsApi {
    async fn change<T, F>(&self, call: Call, work: impl FnOnce(Arc<Plane>) -> F) -> Reply<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.plane));
        call.change((&self.tasks, CALL_LIMIT, &self.plane.counters), work).await
    }
}

/// Of one call, by the id that the agent's own log has it under.
fn open<T>(rpc: &'static str, request: &Request<T>, told: Told) -> Call {
    let caller = caller(request).ok();
    let name = caller.as_ref().map(ToString::to_string).unwrap_or_default();
    let call = Call::open(rpc, request, None, &name, told);
    if let Some(bearer) = caller.and_then(|caller| caller.bearer().ok()) {
        call.span().record("agent_id", bearer.agent.to_string());
    }
    call
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Refusal> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or(Refusal::NoCertificate("connection is not known"))
}

async fn enrol(
    plane: Arc<Plane>,
    request: Request<EnrollRequest>,
) -> Result<EnrollResponse, Refusal> {
    let from = caller(&request)?.peer.ip();
    let EnrollRequest { secret, agent_id, csr, agent_name: name } = request.into_inner();
    if let Ok(agent) = agent_id.parse::<AgentId>() {
        tracing::Span::current().record("agent_id", agent.to_string());
    }
    let certified = plane.enrol(from, EnrolRequest { secret, agent_id, csr, name }).await?;
    let (chain, ca) = convert::chain(&certified);
    Ok(EnrollResponse { chain, ca })
}

async fn renew(
    plane: Arc<Plane>,
    request: Request<RenewRequest>,
) -> Result<RenewResponse, Refusal> {
    let bearer = caller(&request)?.bearer()?;
    let (chain, ca) = convert::chain(&plane.renew(&bearer, &request.get_ref().csr).await?);
    Ok(RenewResponse { chain, ca })
}

async fn register(
    plane: Arc<Plane>,
    request: Request<RegisterRequest>,
) -> Result<RegisterResponse, Refusal> {
    let bearer = caller(&request)?.bearer()?;
    // Who is not welcome learns nothing about its request.
    plane.welcome(&bearer)?;
    let registration =
        convert::registration(request.into_inner()).map_err(Refusal::BadRegistration)?;
    let registered = plane.register(&bearer, registration).await?;
    Ok(RegisterResponse {
        server_time: Some(convert::stamp(plane.now())),
        interval_seconds: plane.interval_seconds(),
        last_event: registered.last_event,
        superseded: registered.superseded,
    })
}

fn heartbeat(
    plane: &Plane,
    request: Request<HeartbeatRequest>,
) -> Result<HeartbeatResponse, Refusal> {
    let bearer = caller(&request)?.bearer()?;
    plane.welcome(&bearer)?;
    let beat = convert::beat(request.into_inner()).map_err(Refusal::BadHeartbeat)?;
    Ok(HeartbeatResponse {
        last_event: plane.heartbeat(&bearer, beat)?,
        server_time: Some(convert::stamp(plane.now())),
        interval_seconds: plane.interval_seconds(),
    })
}

async fn report(
    plane: Arc<Plane>,
    request: Request<ReportEventsRequest>,
) -> Result<ReportEventsResponse, Refusal> {
    let bearer = caller(&request)?.bearer()?;
    plane.welcome(&bearer)?;
    let ReportEventsRequest { instance, events } = request.into_inner();
    let bad = |why: &str| Refusal::BadEvents(why.to_owned());
    let instance = convert::instance(&instance).ok_or_else(|| bad("instance is not a UUID"))?;
    // One more than may be, for the refusal's sake.
    let events = events.into_iter().take(MOST_AT_ONCE + 1).map(convert::event).collect();
    Ok(ReportEventsResponse { last_event: plane.report(&bearer, instance, events).await? })
}

#[tonic::async_trait]
impl ControlPlane for AgentsApi {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Reply<EnrollResponse> {
        let call = open("Enroll", &request, Told::Always);
        self.change(call, |plane| enrol(plane, request)).await
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Reply<RenewResponse> {
        let call = open("Renew", &request, Told::Always);
        self.change(call, |plane| renew(plane, request)).await
    }

    async fn register(&self, request: Request<RegisterRequest>) -> Reply<RegisterResponse> {
        let call = open("Register", &request, Told::Always);
        self.change(call, |plane| register(plane, request)).await
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Reply<HeartbeatResponse> {
        let call = open("Heartbeat", &request, Told::OnDemand);
        call.read(&self.plane.counters, || heartbeat(&self.plane, request))
    }

    async fn report_events(
        &self,
        request: Request<ReportEventsRequest>,
    ) -> Reply<ReportEventsResponse> {
        let call = open("ReportEvents", &request, Told::OnDemand);
        self.change(call, |plane| report(plane, request)).await
    }
}
