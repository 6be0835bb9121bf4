//! What happened.

use clap::Args;
use ghost_proto::admin::{ListAuditRequest, ListEventsRequest};
use serde::Serialize;

use super::failure::Failure;
use super::{Context, dial, output};

/// Options of `events`.
#[derive(Debug, Args)]
pub(super) struct Events {
    /// Of this agent only: name or UUID.
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// At most so many, the newest.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Options of `audit`.
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// At most so many, the newest.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

#[derive(Debug, Serialize)]
struct Event {
    agent_id: String,
    sequence: u64,
    at: String,
    vm_id: String,
    vm_name: String,
    status: String,
    reason: String,
    ip_address: String,
    request_id: String,
    traceparent: String,
}

#[derive(Debug, Serialize)]
struct Record {
    number: u64,
    at: String,
    who: String,
    what: String,
    detail: String,
}

/// Lists events.
pub(super) async fn events(args: Events, context: &Context) -> Result<(), Failure> {
    let ask = ListEventsRequest { agent: args.agent.unwrap_or_default(), limit: args.limit };
    let api = dial::dial(context).await?;
    let call = |mut client: dial::Client, ask| async move { client.list_events(ask).await };
    let told = api.call(ask, dial::LIMIT, call).await?;
    let events = told.events.into_iter().map(|kept| {
        let event = kept.event.unwrap_or_default();
        Event {
            agent_id: kept.agent_id,
            sequence: event.sequence,
            at: output::time(event.at),
            vm_id: event.vm_id,
            vm_name: event.vm_name,
            status: event.status,
            reason: event.reason,
            ip_address: event.ip_address,
            request_id: event.request_id,
            traceparent: event.traceparent,
        }
    });
    context.output.print(&events.collect::<Vec<_>>(), |events| {
        let cells = |event: &Event| {
            let Event { agent_id, sequence, at, vm_name, status, .. } = event;
            let Event { reason, ip_address, request_id, .. } = event;
            let texts = [at, agent_id, vm_name, status, ip_address, request_id, reason];
            let texts = texts.map(String::clone);
            std::iter::once(sequence.to_string()).chain(texts).collect()
        };
        let head = ["SEQUENCE", "AT", "AGENT", "VM", "STATUS", "ADDRESS", "REQUEST", "REASON"];
        output::table(&head, &events.iter().map(cells).collect::<Vec<_>>())
    })
}

/// Lists the audit record.
pub(super) async fn audit(args: &Audit, context: &Context) -> Result<(), Failure> {
    let api = dial::dial(context).await?;
    let call = |mut client: dial::Client, ask| async move { client.list_audit(ask).await };
    let told = api.call(ListAuditRequest { limit: args.limit }, dial::LIMIT, call).await?;
    let records = told.records.into_iter().map(|record| Record {
        number: record.number,
        at: output::time(record.at),
        who: record.who,
        what: record.what,
        detail: record.detail,
    });
    context.output.print(&records.collect::<Vec<_>>(), |records| {
        let cells = |record: &Record| {
            let Record { number, at, who, what, detail } = record;
            vec![number.to_string(), at.clone(), who.clone(), what.clone(), detail.clone()]
        };
        let head = ["NUMBER", "AT", "WHO", "WHAT", "DETAIL"];
        output::table(&head, &records.iter().map(cells).collect::<Vec<_>>())
    })
}
