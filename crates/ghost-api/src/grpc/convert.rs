//! Between the wire and the domain. Invariant: what comes in is not believed here, only renamed.

use ghost_proto::{admin, controlplane as wire};
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::audit::AuditRecord;
use crate::domain::event::KeptEvent;
use crate::domain::presence::Presence;
use crate::domain::{AgentRecord, Amount, Capacity, Registration, Said, VmEvent};
use crate::plane::{Beat, Certified};

pub(super) fn instance(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|uuid| !uuid.is_nil())
}

pub(super) fn registration(from: wire::RegisterRequest) -> Result<Registration, String> {
    Ok(Registration {
        instance: instance(&from.instance).ok_or("instance is not a UUID")?,
        name: from.name,
        version: from.version,
        address: from.address,
        architecture: from.architecture,
        acceleration: from.acceleration,
        // An agent whose hypervisor is away does not know it yet; it lives all the same.
        capacity: from.capacity.map(capacity).unwrap_or_default(),
        templates: from.templates,
        templates_cached: from.templates_cached,
        capabilities: from.capabilities,
        boot_id: from.boot_id,
    })
}

pub(super) fn beat(from: wire::HeartbeatRequest) -> Result<Beat, String> {
    let said = match from.status() {
        wire::Status::Online => Some(Said::Online),
        wire::Status::Degraded => Some(Said::Degraded),
        wire::Status::Draining => Some(Said::Draining),
        wire::Status::Unspecified => None,
    };
    Ok(Beat {
        instance: instance(&from.instance).ok_or("instance is not a UUID")?,
        sent_at: from.sent_at.and_then(time),
        capacity: from.capacity.map(capacity),
        said,
        reasons: from.reasons,
        vms: from.vms,
        vms_running: from.vms_running,
        version: from.version,
        boot_id: from.boot_id,
    })
}

pub(super) fn event(from: wire::VmEvent) -> VmEvent {
    VmEvent {
        sequence: from.sequence,
        at: from.at.and_then(time),
        vm_id: from.vm_id,
        vm_name: from.vm_name,
        status: from.status,
        reason: from.reason,
        ip_address: from.ip_address,
        request_id: from.request_id,
        traceparent: from.traceparent,
    }
}

fn capacity(from: wire::Capacity) -> Capacity {
    let amount = |from: Option<wire::Amount>| {
        let wire::Amount { total, reserved, allocated, available } = from.unwrap_or_default();
        Amount { total, reserved, allocated, available }
    };
    Capacity { cpu: amount(from.cpu), ram: amount(from.ram), disk: amount(from.disk) }
}

fn time(from: prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(from.seconds, from.nanos).ok()
}

pub(super) fn stamp(from: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: from.as_second(), nanos: from.subsec_nanosecond() }
}

/// Chain without the authority's, then the authority's.
pub(super) fn chain(from: &Certified) -> (Vec<Vec<u8>>, Vec<u8>) {
    (vec![from.certificate.to_vec()], from.ca.to_vec())
}

pub(super) fn agent(from: AgentRecord, presence: Presence) -> admin::Agent {
    let told = from.capacity().map(wire_capacity);
    let heard = from.heard;
    let registration = from.registration;
    let of = |pick: fn(&Registration) -> &str| {
        registration.as_ref().map(pick).unwrap_or_default().to_owned()
    };
    admin::Agent {
        agent_id: from.id.to_string(),
        name: from.name,
        status: presence.as_str().to_owned(),
        reasons: heard.as_ref().map(|heard| heard.reasons.clone()).unwrap_or_default(),
        version: heard.as_ref().map(|heard| heard.version.clone()).unwrap_or_default(),
        address: of(|one| &one.address),
        architecture: of(|one| &one.architecture),
        acceleration: of(|one| &one.acceleration),
        capacity: told,
        vms: heard.as_ref().map_or(0, |heard| heard.vms),
        vms_running: heard.as_ref().map_or(0, |heard| heard.vms_running),
        last_seen: heard.as_ref().map(|heard| stamp(heard.at)),
        templates: registration.as_ref().map(|one| one.templates.clone()).unwrap_or_default(),
        templates_cached: registration.map(|one| one.templates_cached).unwrap_or_default(),
    }
}

fn wire_capacity(from: Capacity) -> wire::Capacity {
    let amount = |from: Amount| {
        let Amount { total, reserved, allocated, available } = from;
        Some(wire::Amount { total, reserved, allocated, available })
    };
    wire::Capacity { cpu: amount(from.cpu), ram: amount(from.ram), disk: amount(from.disk) }
}

pub(super) fn kept_event(from: KeptEvent) -> admin::AgentEvent {
    let event = wire::VmEvent {
        sequence: from.event.sequence,
        at: from.event.at.map(stamp),
        vm_id: from.event.vm_id,
        vm_name: from.event.vm_name,
        status: from.event.status,
        reason: from.event.reason,
        ip_address: from.event.ip_address,
        request_id: from.event.request_id,
        traceparent: from.event.traceparent,
    };
    admin::AgentEvent { agent_id: from.agent.to_string(), event: Some(event) }
}

pub(super) fn audit_record(from: AuditRecord) -> admin::AuditRecord {
    admin::AuditRecord {
        number: from.number,
        at: Some(stamp(from.at)),
        who: from.who,
        what: from.what,
        detail: from.detail,
    }
}
