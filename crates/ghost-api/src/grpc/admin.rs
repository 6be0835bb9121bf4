//! `Admin` on the wire. Invariant: who it was is known to the kernel; a command that was begun goes on
//! when its operator hangs up.

use std::sync::Arc;
use std::time::Duration;

use ghost_proto::admin::admin_server::Admin;
use ghost_proto::admin::{
    CreateTokenRequest, CreateTokenResponse, ListAgentsRequest, ListAgentsResponse,
    ListAuditRequest, ListAuditResponse, ListEventsRequest, ListEventsResponse, PlaceVmRequest,
    PlaceVmResponse, RemoveVmRequest, RemoveVmResponse, RevokeAgentRequest, RevokeAgentResponse,
};
use rustls::crypto::ring;
use tokio_util::task::TaskTracker;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

use super::finish::to_the_end;
use super::{convert, status};
use crate::commander::{CREATE_LIMIT, Commander, DELETE_LIMIT};
use crate::domain::placement::Wanted;
use crate::plane::{Placing, Plane};
use crate::refusal::Refusal;

type Reply<T> = Result<Response<T>, Status>;

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
    fn answer<T>(&self, outcome: Result<T, Refusal>) -> Reply<T> {
        let refused = |refusal| status::refused(&refusal, &self.plane.counters);
        outcome.map(Response::new).map_err(refused)
    }

    async fn change<T, F>(&self, limit: Duration, work: impl FnOnce(Self) -> F) -> Reply<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        self.answer(to_the_end(&self.tasks, limit, work(self.clone())).await)
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

async fn place(
    api: AdminApi,
    who: String,
    ask: PlaceVmRequest,
) -> Result<PlaceVmResponse, Refusal> {
    let missing = || Refusal::BadRequest("vm is missing; say what the VM shall be".to_owned());
    let mut vm = ask.vm.ok_or_else(missing)?;
    if vm.request_id.is_empty() {
        vm.request_id = uuid::Uuid::new_v4().to_string();
    }
    if vm.request_id.len() > 128 {
        return Err(Refusal::BadRequest(
            "request_id has more than 128 characters; choose a shorter one".to_owned(),
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
    tracing::info!(vm = placing.vm_name, agent = %target.id, request_id = placing.request_id, "creating");
    let outcome = api.commander.create_vm(&target, vm).await;
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
    ask: RemoveVmRequest,
) -> Result<RemoveVmResponse, Refusal> {
    if ask.agent.is_empty() || ask.vm.is_empty() {
        return Err(Refusal::BadRequest(
            "agent and vm are both needed; look at: ghost-api agents".to_owned(),
        ));
    }
    let target = api.plane.commandable(&ask.agent)?;
    let on = format!("{} on {} {}", ask.vm, target.name, target.id);
    let request_id = uuid::Uuid::new_v4().to_string();
    let asked = format!("{on} (request {request_id})");
    api.plane.record(&who, "vm delete asked", asked).await?;
    let outcome = api.commander.delete_vm(&target, ask.vm, &request_id).await;
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
        self.change(CALL_LIMIT, |api| create_token(api, ask)).await
    }

    async fn list_agents(&self, _: Request<ListAgentsRequest>) -> Reply<ListAgentsResponse> {
        let all = self.plane.list().into_iter();
        let agents = all.map(|(agent, presence)| convert::agent(agent, presence)).collect();
        self.answer(Ok(ListAgentsResponse { agents }))
    }

    async fn revoke_agent(&self, ask: Request<RevokeAgentRequest>) -> Reply<RevokeAgentResponse> {
        let (who, agent) = (who(&ask), ask.into_inner().agent);
        let revoke = |api: Self| async move { api.plane.revoke(&who, &agent).await };
        self.change(CALL_LIMIT, revoke).await.map(|_| Response::new(RevokeAgentResponse {}))
    }

    async fn list_events(&self, ask: Request<ListEventsRequest>) -> Reply<ListEventsResponse> {
        let ListEventsRequest { agent, limit } = ask.into_inner();
        let events = self.plane.events(&agent, limit).await;
        let told = |events: Vec<_>| ListEventsResponse {
            events: events.into_iter().map(convert::kept_event).collect(),
        };
        self.answer(events.map(told))
    }

    async fn place_vm(&self, ask: Request<PlaceVmRequest>) -> Reply<PlaceVmResponse> {
        let who = who(&ask);
        self.change(CREATE_LIMIT + GRACE, |api| place(api, who, ask.into_inner())).await
    }

    async fn remove_vm(&self, ask: Request<RemoveVmRequest>) -> Reply<RemoveVmResponse> {
        let who = who(&ask);
        self.change(DELETE_LIMIT + GRACE, |api| remove(api, who, ask.into_inner())).await
    }

    async fn list_audit(&self, ask: Request<ListAuditRequest>) -> Reply<ListAuditResponse> {
        let records = self.plane.audit(ask.get_ref().limit).await;
        let told = |records: Vec<_>| ListAuditResponse {
            records: records.into_iter().map(convert::audit_record).collect(),
        };
        self.answer(records.map(told))
    }
}
