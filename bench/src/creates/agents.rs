//! A VM made by the agent over mutual TLS, and when what happened. Invariant: both clocks are this
//! host's wall clock: the agent's log lines bear it to the microsecond.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ghost_e2e::agent::Agent;
use ghost_e2e::client::{self, Client};
use ghost_proto::agentpb::{CreateVmResponse, DeleteVmRequest, ListVMsRequest};
use jiff::Timestamp;

use crate::tap::{Procedure, Tap};

/// The domain runs; logged by CreateVM.
const STARTED: &str = "the guest was started; waiting for its lease";
/// The lease was seen; logged by CreateVM.
const LEASED: &str = "the guest has its lease";
/// A line that was written reaches us within microseconds.
const LINE_LIMIT: Duration = Duration::from_secs(5);

/// The floor's calls ([`super::bare`]). Parts of the seed that follow its upload's begin count as the agent's.
const FLOOR_CALLS: [(Procedure, usize); 5] = [
    // The agent makes a third volume, for the console's log; that one is its own.
    (Procedure::VOL_CREATE_XML, 2),
    (Procedure::VOL_UPLOAD, 1),
    (Procedure::NETWORK_UPDATE, 1),
    (Procedure::DOMAIN_DEFINE_XML_FLAGS, 1),
    (Procedure::DOMAIN_CREATE_WITH_FLAGS, 1),
];

/// How long the agent took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// From the request's sending to the answer.
    pub(crate) total: Duration,
    /// From the request's sending until the domain was started.
    pub(crate) started: Duration,
    /// Of that, while at least one of the calls was under way that the floor makes too.
    pub(crate) in_floor_calls: Duration,
    /// From the lease being seen to the answer.
    pub(crate) finish: Duration,
}

impl Timing {
    /// Until the domain was started, while none of the floor's calls was under way.
    ///
    /// # Errors
    /// If those calls took longer than all of it: then something is measured wrongly.
    pub(crate) fn outside_floor_calls(&self) -> anyhow::Result<Duration> {
        let Self { started, in_floor_calls, .. } = self;
        let outside = started.checked_sub(*in_floor_calls);
        outside.with_context(|| format!("calls of {in_floor_calls:?} within {started:?}"))
    }
}

/// The agent and the connection to it.
#[derive(Debug)]
pub(crate) struct Agents<'a> {
    agent: &'a Agent,
    client: Client,
}

impl<'a> Agents<'a> {
    pub(crate) fn new(agent: &'a Agent, client: Client) -> Self {
        Self { agent, client }
    }

    /// Creates a VM.
    pub(crate) async fn create(&mut self, name: &str) -> anyhow::Result<CreateVmResponse> {
        let created = self.client.create_vm(client::mini(name)).await?.into_inner();
        ensure!(created.status == "running", "the VM is {}: {}", created.status, created.error);
        Ok(created)
    }

    /// Creates a VM and says how long it took. Returns its id too.
    pub(crate) async fn timed_create(
        &mut self,
        name: &str,
        tap: &Tap,
    ) -> anyhow::Result<(String, Timing)> {
        let (sent, clock) = (Timestamp::now(), Instant::now());
        let created = self.create(name).await?;
        let (total, answered) = (clock.elapsed(), Timestamp::now());
        let started = self.logged(STARTED, &created.vm_id).await?;
        let leased = self.logged(LEASED, &created.vm_id).await?;
        let timing = Timing {
            total,
            started: between(sent, started)?,
            in_floor_calls: tap.busy(&FLOOR_CALLS, clock)?,
            finish: between(leased, answered)?,
        };
        Ok((created.vm_id, timing))
    }

    /// Deletes a VM.
    pub(crate) async fn delete(&mut self, id: &str) -> anyhow::Result<()> {
        let request = DeleteVmRequest { vm_id: id.to_owned() };
        let deleted = self.client.delete_vm(request).await;
        deleted.map(drop).with_context(|| format!("cannot delete VM {id}"))
    }

    /// Deletes every VM of the agent.
    pub(crate) async fn delete_all(&mut self) -> anyhow::Result<()> {
        let vms = self.client.list_v_ms(ListVMsRequest::default()).await?.into_inner().vms;
        for vm in vms {
            self.delete(&vm.vm_id).await?;
        }
        Ok(())
    }

    /// When the agent logged `message` about the VM `id`.
    async fn logged(&self, message: &str, id: &str) -> anyhow::Result<Timestamp> {
        let text = format!(r#""message":"{message}","vm_id":"{id}""#);
        let line = self.agent.until(&text, LINE_LIMIT).await?;
        let line: serde_json::Value = serde_json::from_str(&line)?;
        let timestamp = line["timestamp"].as_str().context("a log line without a timestamp")?;
        Ok(timestamp.parse()?)
    }
}

fn between(earlier: Timestamp, later: Timestamp) -> anyhow::Result<Duration> {
    Duration::try_from(later.duration_since(earlier)).context("the wall clock was set back")
}
