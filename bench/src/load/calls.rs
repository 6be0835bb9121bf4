//! What the generator sends, and through what. Invariant: every connection is open and has answered
//! before the first call that counts.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use ghost_e2e::agent::{Agent, Home};
use ghost_e2e::client::{self, Client};
use ghost_proto::agentpb::{GetVmStatusRequest, ListVMsRequest};
use tonic::Status;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// The status of one VM, in turns of all.
    Status,
    /// The list of all VMs.
    List,
    /// The server's own health: it does no work, so it is the floor.
    Health,
}

/// Connections over mutual TLS, and the VMs to ask about.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    channels: Arc<[Channel]>,
    vms: Arc<[String]>,
}

impl Connections {
    /// Opens them.
    ///
    /// # Errors
    /// If one can't be opened or does not answer.
    pub(super) async fn open(
        home: &Home,
        agent: &Agent,
        count: u32,
        vms: &[String],
    ) -> anyhow::Result<Self> {
        Self::to(home, agent.address()?, count, vms).await
    }

    /// As [`Self::open`], to an agent that listens there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) async fn to(
        home: &Home,
        address: SocketAddr,
        count: u32,
        vms: &[String],
    ) -> anyhow::Result<Self> {
        let mut channels = Vec::new();
        for _ in 0..count {
            let operator = home.certs.operator();
            channels.push(client::channel(address, &home.certs, &operator).await?);
        }
        let all = Self { channels: channels.into(), vms: vms.into() };
        for n in 0..count {
            for call in [Call::Status, Call::List, Call::Health] {
                all.send(call, n, 0).await.with_context(|| format!("connection {n}: {call:?}"))?;
            }
        }
        Ok(all)
    }

    /// Calls once, on one of the connections, about one of the VMs.
    pub(super) fn send(
        &self,
        call: Call,
        connection: u32,
        vm: u32,
    ) -> impl Future<Output = Result<(), Status>> + Send + use<> {
        let channel = cycled(&self.channels, connection);
        let vm_id = cycled(&self.vms, vm);
        async move {
            let (Some(channel), Some(vm_id)) = (channel, vm_id) else {
                return Err(Status::internal("no connection or no VM"));
            };
            match call {
                Call::Status => {
                    Client::new(channel).get_vm_status(GetVmStatusRequest { vm_id }).await.map(drop)
                }
                Call::List => {
                    Client::new(channel).list_v_ms(ListVMsRequest::default()).await.map(drop)
                }
                Call::Health => {
                    let request = HealthCheckRequest { service: crate::calls::SERVICE.to_owned() };
                    HealthClient::new(channel).check(request).await.map(drop)
                }
            }
        }
    }
}

fn cycled<T: Clone>(all: &[T], n: u32) -> Option<T> {
    all.get((n as usize).checked_rem(all.len())?).cloned()
}
