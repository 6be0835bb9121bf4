//! `ControlPlane` on the wire: convert, ask the plane, convert back.

use std::sync::Arc;
use std::time::Duration;

use ghost_proto::controlplane::control_plane_server::ControlPlane;
use ghost_proto::controlplane::{
    EnrollRequest, EnrollResponse, HeartbeatRequest, HeartbeatResponse, RegisterRequest,
    RegisterResponse, RenewRequest, RenewResponse, ReportEventsRequest, ReportEventsResponse,
};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::{Instrument as _, Span};

use super::caller::Caller;
use super::finish::to_the_end;
use super::{convert, status};
use crate::domain::event::MOST_AT_ONCE;
use crate::plane::{EnrolRequest, Plane};
use crate::refusal::Refusal;

type Reply<T> = Result<Response<T>, Status>;

/// Longest call of an agent, which waits for the disk at most.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// What agents talk to.
#[derive(Debug, Clone)]
pub(super) struct AgentsApi {
    pub(super) plane: Arc<Plane>,
    pub(super) tasks: TaskTracker,
}

impl AgentsApi {
    fn answer<T>(&self, outcome: Result<T, Refusal>) -> Reply<T> {
        let refused = |refusal| status::refused(&refusal, &self.plane.counters);
        outcome.map(Response::new).map_err(refused)
    }

    async fn change<T, F>(&self, work: impl FnOnce(Arc<Plane>) -> F) -> Reply<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        self.answer(to_the_end(&self.tasks, CALL_LIMIT, work(Arc::clone(&self.plane))).await)
    }
}

/// Of one call, by the id that the agent's own log has it under.
fn span<T>(rpc: &'static str, request: &Request<T>) -> Span {
    let id = request.metadata().get("x-request-id").and_then(|id| id.to_str().ok());
    let fits = |id: &&str| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic());
    // At a level that no setting of the log turns off.
    tracing::error_span!("call", rpc, request_id = id.filter(fits))
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
        let span = span("Enroll", &request);
        self.change(|plane| enrol(plane, request)).instrument(span).await
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Reply<RenewResponse> {
        let span = span("Renew", &request);
        self.change(|plane| renew(plane, request)).instrument(span).await
    }

    async fn register(&self, request: Request<RegisterRequest>) -> Reply<RegisterResponse> {
        let span = span("Register", &request);
        self.change(|plane| register(plane, request)).instrument(span).await
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Reply<HeartbeatResponse> {
        span("Heartbeat", &request).in_scope(|| self.answer(heartbeat(&self.plane, request)))
    }

    async fn report_events(
        &self,
        request: Request<ReportEventsRequest>,
    ) -> Reply<ReportEventsResponse> {
        let span = span("ReportEvents", &request);
        self.change(|plane| report(plane, request)).instrument(span).await
    }
}
