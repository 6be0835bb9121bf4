//! Changes of VMs. Invariant: kept events of an agent ascend; one that is kept is never kept again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::agent::AgentId;
use super::text::cut;

/// Most in one call (the contract).
pub const MOST_AT_ONCE: usize = 256;
/// Most that are kept of one agent; older ones give way.
pub const MOST_KEPT: u64 = 10_000;
/// Longest id, name, status or address, in bytes.
const WORD: usize = 128;
/// Longest reason, in bytes.
const REASON: usize = 1024;

/// A change of one VM's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmEvent {
    /// Counts up from 1, with gaps.
    pub sequence: u64,
    /// By the agent's clock.
    pub at: Option<Timestamp>,
    /// The VM's UUID.
    pub vm_id: String,
    /// Its name.
    pub vm_name: String,
    /// Its status.
    pub status: String,
    /// Why.
    pub reason: String,
    /// IPv4, or empty.
    pub ip_address: String,
    /// The id of the command that caused it, or empty. What was kept by an earlier version has none.
    #[serde(default)]
    pub request_id: String,
    /// That command's W3C traceparent, or empty.
    #[serde(default)]
    pub traceparent: String,
}

impl VmEvent {
    /// With its texts cut to their limits: to refuse an event would hold up all behind it for good.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            vm_id: cut(&self.vm_id, WORD),
            vm_name: cut(&self.vm_name, WORD),
            status: cut(&self.status, WORD),
            reason: cut(&self.reason, REASON),
            ip_address: cut(&self.ip_address, WORD),
            request_id: cut(&self.request_id, WORD),
            traceparent: cut(&self.traceparent, WORD),
            ..self
        }
    }
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptEvent {
    /// Whose.
    pub agent: AgentId,
    /// When it came, by the server's clock.
    pub kept_at: Timestamp,
    /// What.
    pub event: VmEvent,
}

/// What is wrong with the order of the events of one call, if anything.
#[must_use]
pub fn order_fault(events: &[VmEvent]) -> Option<String> {
    if events.len() > MOST_AT_ONCE {
        return Some(format!("{} events in one call, at most {MOST_AT_ONCE} may be", events.len()));
    }
    let mut former = 0;
    for event in events {
        if event.sequence <= former {
            return Some(format!("event {} comes behind event {former}", event.sequence));
        }
        former = event.sequence;
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn event(sequence: u64) -> VmEvent {
        VmEvent {
            sequence,
            at: None,
            vm_id: "v".to_owned(),
            vm_name: "web".to_owned(),
            status: "running".to_owned(),
            reason: String::new(),
            ip_address: String::new(),
            request_id: String::new(),
            traceparent: String::new(),
        }
    }

    #[test]
    fn events_of_one_call_ascend_from_1_and_may_have_gaps() {
        let fault = |of: &[u64]| order_fault(&of.iter().map(|n| event(*n)).collect::<Vec<_>>());
        assert_eq!(fault(&[]), None);
        assert_eq!(fault(&[1, 2, 7]), None);
        for wrong in [&[0][..], &[2, 1], &[1, 1], &[u64::MAX, 0]] {
            assert!(fault(wrong).is_some(), "{wrong:?}");
        }
        let many: Vec<u64> = (1..=257).collect();
        assert_eq!(fault(&many[..256]), None);
        assert!(fault(&many).unwrap().contains("257"));
    }

    #[test]
    fn an_event_that_an_earlier_version_kept_is_read() {
        let mut old = serde_json::to_value(event(7)).unwrap();
        for new in ["request_id", "traceparent"] {
            assert!(old.as_object_mut().unwrap().remove(new).is_some());
        }
        assert_eq!(serde_json::from_value::<VmEvent>(old).unwrap(), event(7));
    }

    #[test]
    fn a_long_reason_is_cut_and_not_refused() {
        let long = VmEvent { reason: "x".repeat(100_000), ..event(1) };
        assert_eq!(long.bounded().reason.len(), REASON);
    }
}
