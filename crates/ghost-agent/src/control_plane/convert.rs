//! Between the domain's values and the wire's messages, both ways. Invariant: an answer that is not as the contract says never
//! becomes a value.

use std::time::Duration;

use ghost_core::domain::control::{
    AgentStatus, Beat, HeartbeatReport, Registered, Registration, VmEvent,
};
use ghost_core::domain::{NodeResources, ResourceInfo};
use ghost_proto::controlplane as wire;
use jiff::Timestamp;

use crate::grpc::convert::told;

/// What this agent can do beyond the first version of the contract.
const CAPABILITIES: [&str; 3] = ["watch-vms", "node-info", "images"];

/// The longest interval that the contract knows, in seconds.
const LONGEST_INTERVAL: u32 = 3600;

pub(super) fn registration(from: &Registration) -> wire::RegisterRequest {
    let profile = &from.profile;
    let names = |all: &[ghost_core::domain::TemplateName]| {
        all.iter().map(|name| name.as_str().to_owned()).collect()
    };
    wire::RegisterRequest {
        instance: from.instance.to_string(),
        name: profile.name.clone(),
        version: profile.version.clone(),
        address: profile.address.clone().unwrap_or_default(),
        architecture: profile.architecture.as_str().to_owned(),
        acceleration: profile.acceleration.to_owned(),
        capacity: from.resources.as_ref().map(capacity),
        templates: names(&profile.templates),
        templates_cached: names(&profile.templates_cached),
        capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        boot_id: profile.boot.to_string(),
    }
}

pub(super) fn heartbeat(from: &HeartbeatReport) -> wire::HeartbeatRequest {
    let (status, reasons) = match &from.status {
        AgentStatus::Online => (wire::Status::Online, Vec::new()),
        AgentStatus::Degraded(reasons) => (wire::Status::Degraded, reasons.clone()),
        AgentStatus::Draining => (wire::Status::Draining, Vec::new()),
    };
    wire::HeartbeatRequest {
        instance: from.instance.to_string(),
        sent_at: Some(time(from.sent_at)),
        capacity: from.resources.as_ref().map(capacity),
        vms_running: count(from.vms_running),
        vms: count(from.vms),
        version: from.version.clone(),
        status: status.into(),
        reasons,
        boot_id: from.boot.to_string(),
    }
}

pub(super) fn event(from: &VmEvent) -> wire::VmEvent {
    let state = &from.state;
    let (request_id, traceparent) = told(from.origin.as_ref());
    wire::VmEvent {
        sequence: from.sequence,
        at: Some(time(from.at)),
        vm_id: from.vm.to_string(),
        vm_name: state.name.to_string(),
        status: state.status.as_str().to_owned(),
        reason: state.reason.clone().unwrap_or_default(),
        ip_address: state.address.map(|address| address.to_string()).unwrap_or_default(),
        request_id,
        traceparent,
    }
}

pub(super) fn registered(from: wire::RegisterResponse) -> Result<Registered, &'static str> {
    let superseded: String =
        from.superseded.chars().filter(|c| !c.is_control()).take(200).collect();
    let beat = beat(from.server_time, from.interval_seconds, from.last_event)?;
    Ok(Registered { beat, superseded: Some(superseded).filter(|text| !text.is_empty()) })
}

pub(super) fn heard(from: wire::HeartbeatResponse) -> Result<Beat, &'static str> {
    beat(from.server_time, from.interval_seconds, from.last_event)
}

/// The number of an event: it must leave room to go on counting.
pub(super) const fn sequence(from: u64) -> Result<u64, &'static str> {
    if from <= u64::MAX / 2 { Ok(from) } else { Err("the number of an event that can't be") }
}

fn beat(
    server_time: Option<prost_types::Timestamp>,
    interval: u32,
    last_event: u64,
) -> Result<Beat, &'static str> {
    let server_time = match server_time {
        None => None,
        Some(time) => {
            Some(Timestamp::new(time.seconds, time.nanos).map_err(|_| "a time that can't be")?)
        }
    };
    let interval = match interval {
        0 => None,
        1..=LONGEST_INTERVAL => Some(Duration::from_secs(interval.into())),
        _ => return Err("an interval above 3600 s"),
    };
    Ok(Beat { server_time, interval, last_event: sequence(last_event)? })
}

fn capacity(from: &NodeResources) -> wire::Capacity {
    let amount = |one: ResourceInfo| {
        let ResourceInfo { total, reserved, allocated, available, .. } = one;
        Some(wire::Amount { total, reserved, allocated, available })
    };
    wire::Capacity { cpu: amount(from.cpu), ram: amount(from.ram), disk: amount(from.disk) }
}

fn time(from: Timestamp) -> prost_types::Timestamp {
    // The wire's nanoseconds are never negative, jiff's are before 1970.
    let (seconds, nanos) = (from.as_second(), from.subsec_nanosecond());
    match nanos < 0 {
        true => prost_types::Timestamp { seconds: seconds - 1, nanos: nanos + 1_000_000_000 },
        false => prost_types::Timestamp { seconds, nanos },
    }
}

fn count(from: usize) -> u32 {
    u32::try_from(from).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_out_of_range_is_refused() {
        let fine = wire::HeartbeatResponse {
            server_time: Some(prost_types::Timestamp { seconds: 5, nanos: 7 }),
            interval_seconds: 3600,
            last_event: 3,
        };
        assert_eq!(heard(fine).unwrap().interval, Some(Duration::from_secs(3600)));
        let odd = [
            wire::HeartbeatResponse { interval_seconds: 3601, ..fine },
            wire::HeartbeatResponse { last_event: u64::MAX, ..fine },
            wire::HeartbeatResponse {
                server_time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }),
                ..fine
            },
        ];
        assert!(odd.into_iter().all(|answer| heard(answer).is_err()));
        let silent = wire::HeartbeatResponse { interval_seconds: 0, ..fine };
        assert_eq!(heard(silent).unwrap().interval, None);
    }

    #[test]
    fn times_before_1970_are_told_as_protobuf_wants_them() {
        let before = Timestamp::new(-1, -500_000_000).unwrap();
        assert_eq!(time(before), prost_types::Timestamp { seconds: -2, nanos: 500_000_000 });
    }
}
