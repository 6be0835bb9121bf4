//! `Admin` on the wire. Invariant: who it was is known to the kernel; a command that was begun goes on
//! when its operator hangs up.

use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::{CallId, Origin};
use ghost_proto::admin::admin_server::Admin;
use ghost_proto::admin::{
    CreateTokenRequest, CreateTokenResponse, ListAgentsRequest, ListAgentsResponse,
    ListAuditRequest, ListAuditResponse, ListEventsRequest, ListEventsResponse, PlaceVmRequest,
    PlaceVmResponse, RemoveVmRequest, RemoveVmResponse, RevokeAgentRequest, RevokeAgentResponse,
};
use rustls::crypto::ring;
use tokio_util::task::TaskTracker;
use tonic::Request;
use tonic::transport::server::UdsConnectInfo;
use tracing::Span;

use super::call::{Call, Reply, Told};
use super::convert;
use crate::commander::{CREATE_LIMIT, Commander, DELETE_LIMIT};
use crate::domain::placement::Wanted;
use crate::domain::text::cut;
use crate::plane::{Placing, Plane};
use crate::refusal::Refusal;

/// Longest call that waits for the disk only.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// What a command takes besides the agent's own time: to connect to it, and to write it down.
const GRACE: Duration = Duration::from_secs(20);

/// What operators talk to.
#[derive(Debug, Clone)]
pub(super) struct AdminApi {
    pub(super) plane: Arc<Plane>,
    pub(super) commander: Commander,
    pub(super) tasks: TaskTracker,
}

impl AdminApi {
    async fn change<T, F>(
        &self,
        call: Call,
        limit: Duration,
        work: impl FnOnce(Self) -> F,
    ) -> Reply<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        call.change((&self.tasks, limit, &self.plane.counters), work(self.clone())).await
    }
}

/// As the audit record names an operator.
fn who<T>(request: &Request<T>) -> String {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match peer.map(|peer| (peer.uid(), peer.pid())) {
        Some((uid, Some(pid))) => format!("uid {uid} (pid {pid})"),
        Some((uid, None)) => format!("uid {uid}"),
        None => "unknown".to_owned(),
    }
}

fn open<T>(rpc: &'static str, request: &Request<T>) -> Call {
    Call::open(rpc, request, None, &who(request), Told::Always)
}

async fn create_token(
    api: AdminApi,
    request: Request<CreateTokenRequest>,
) -> Result<CreateTokenResponse, Refusal> {
    let mut random = [0; 32];
    let filled = ring::default_provider().secure_random.fill(&mut random);
    filled.map_err(|_| {
        Refusal::BadRequest("this host has no random numbers; look at its kernel's log".to_owned())
    })?;
    let who = who(&request);
    let CreateTokenRequest { ttl_seconds, agent_id } = request.into_inner();
    let ttl = Duration::from_secs(ttl_seconds.into());
    let token = api.plane.create_token(&who, ttl, &agent_id, random).await?;
    Ok(CreateTokenResponse { key: token.key, expires_at: Some(convert::stamp(token.expires_at)) })
}

/// The create's id: its caller's, or else a new one, which is then the call's too unless the call has its own.
fn create_id(ask: &mut PlaceVmRequest) -> Option<String> {
    let vm = ask.vm.as_mut()?;
    if vm.request_id.is_empty() {
        vm.request_id = CallId::generate().to_string();
    }
    Some(vm.request_id.clone())
}

async fn place(
    api: AdminApi,
    who: String,
    origin: Origin,
    ask: PlaceVmRequest,
) -> Result<PlaceVmResponse, Refusal> {
    let missing = || Refusal::BadRequest("vm is missing; say what the VM shall be".to_owned());
    let vm = ask.vm.ok_or_else(missing)?;
    // A name may be anything until the agent has looked at it.
    Span::current().record("vm_name", cut(&vm.name, 64));
    if vm.request_id.parse::<CallId>().is_err() {
        return Err(Refusal::BadRequest(
            "request_id has to be 1 to 128 visible ASCII characters; choose another".to_owned(),
        ));
    }
    let wanted = Wanted {
        template: vm.template.clone(),
        vcpu: vm.vcpu,
        ram_gib: vm.ram_gb,
        disk_gib: vm.disk_gb,
    };
    let (request_id, vm_name) = (vm.request_id.clone(), vm.name.clone());
    let placing = Placing { agent: ask.agent, wanted, request_id, vm_name };
    let target = api.plane.place(&who, &placing).await?;
    Span::current().record("agent_id", target.id.to_string());
    tracing::info!("creating");
    let outcome = api.commander.create_vm(&target, vm, &origin).await;
    let on = format!("{} on {} {}", placing.vm_name, target.name, target.id);
    match outcome {
        Ok(vm) => {
            let detail = format!("{on}: {} {} {}", vm.status, vm.vm_id, vm.ip_address);
            api.plane.note(&who, "vm placed", detail).await;
            Ok(PlaceVmResponse {
                agent_id: target.id.to_string(),
                agent_name: target.name,
                vm: Some(vm),
            })
        }
        Err(error) => {
            api.plane.note(&who, "vm not placed", format!("{on}: {error}")).await;
            Err(Refusal::Command(error))
        }
    }
}

async fn remove(
    api: AdminApi,
    who: String,
    origin: Origin,
    ask: RemoveVmRequest,
) -> Result<RemoveVmResponse, Refusal> {
    if ask.agent.is_empty() || ask.vm.is_empty() {
        return Err(Refusal::BadRequest(
            "agent and vm are both needed; look at: ghost-api agents".to_owned(),
        ));
    }
    Span::current().record("vm_name", cut(&ask.vm, 64));
    let target = api.plane.commandable(&ask.agent)?;
    Span::current().record("agent_id", target.id.to_string());
    let on = format!("{} on {} {}", ask.vm, target.name, target.id);
    let asked = format!("{on} (request {})", origin.request_id);
    api.plane.record(&who, "vm delete asked", asked).await?;
    let outcome = api.commander.delete_vm(&target, ask.vm, &origin).await;
    match outcome {
        Ok(()) => {
            api.plane.note(&who, "vm removed", on).await;
            Ok(RemoveVmResponse {})
        }
        Err(error) => {
            api.plane.note(&who, "vm not removed", format!("{on}: {error}")).await;
            Err(Refusal::Command(error))
        }
    }
}

#[tonic::async_trait]
impl Admin for AdminApi {
    async fn create_token(&self, ask: Request<CreateTokenRequest>) -> Reply<CreateTokenResponse> {
        let call = open("CreateToken", &ask);
        self.change(call, CALL_LIMIT, |api| create_token(api, ask)).await
    }

    async fn list_agents(&self, ask: Request<ListAgentsRequest>) -> Reply<ListAgentsResponse> {
        open("ListAgents", &ask).read(&self.plane.counters, || {
            let all = self.plane.list().into_iter();
            let agents = all.map(|(agent, presence)| convert::agent(agent, presence)).collect();
            Ok(ListAgentsResponse { agents })
        })
    }

    async fn revoke_agent(&self, ask: Request<RevokeAgentRequest>) -> Reply<RevokeAgentResponse> {
        let (call, who, agent) = (open("RevokeAgent", &ask), who(&ask), ask.into_inner().agent);
        self.change(call, CALL_LIMIT, |api| async move {
            api.plane.revoke(&who, &agent).await.map(|()| RevokeAgentResponse {})
        })
        .await
    }

    async fn list_events(&self, ask: Request<ListEventsRequest>) -> Reply<ListEventsResponse> {
        let call = open("ListEvents", &ask);
        let ListEventsRequest { agent, limit } = ask.into_inner();
        self.change(call, CALL_LIMIT, |api| async move {
            let events = api.plane.events(&agent, limit).await?;
            let events = events.into_iter().map(convert::kept_event).collect();
            Ok(ListEventsResponse { events })
        })
        .await
    }

    async fn place_vm(&self, ask: Request<PlaceVmRequest>) -> Reply<PlaceVmResponse> {
        let mut ask = ask;
        let (who, id) = (who(&ask), create_id(ask.get_mut()));
        let call = Call::open("PlaceVM", &ask, id.as_deref(), &who, Told::Always);
        let origin = call.origin().clone();
        let work = |api| place(api, who, origin, ask.into_inner());
        self.change(call, CREATE_LIMIT + GRACE, work).await
    }

    async fn remove_vm(&self, ask: Request<RemoveVmRequest>) -> Reply<RemoveVmResponse> {
        let (call, who) = (open("RemoveVM", &ask), who(&ask));
        let origin = call.origin().clone();
        let work = |api| remove(api, who, origin, ask.into_inner());
        self.change(call, DELETE_LIMIT + GRACE, work).await
    }

    async fn list_audit(&self, ask: Request<ListAuditRequest>) -> Reply<ListAuditResponse> {
        let (call, limit) = (open("ListAudit", &ask), ask.get_ref().limit);
        self.change(call, CALL_LIMIT, |api| async move {
            let records = api.plane.audit(limit).await?;
            let records = records.into_iter().map(convert::audit_record).collect();
            Ok(ListAuditResponse { records })
        })
        .await
    }
}
