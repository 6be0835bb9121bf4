//! Rates from counters. Invariant: a rate is what was counted between two changes of the counter, by
//! the time between them; before that there is none.
//!
//! The agent samples its VMs at its own pace, so that two refreshes may see the same sample; a delta by
//! the time between refreshes would swing between nothing and too much.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ghost_proto::agentpb::GetVmStatusResponse;

/// A counter that stands still for so long (two of the agent's samples by default, and some) counts nothing.
const STILL: Duration = Duration::from_secs(12);

/// The counters of all VMs, by id.
#[derive(Debug, Default)]
pub(super) struct Meters {
    net: HashMap<String, [Meter; 2]>,
}

impl Meters {
    /// Takes in what `vms` counted until `at`; forgets VMs that are gone or off.
    pub(super) fn read(&mut self, vms: &[GetVmStatusResponse], at: Instant) {
        let mut before = std::mem::take(&mut self.net);
        for vm in vms.iter().filter(|vm| vm.status == "running") {
            let counted = [vm.net_rx_bytes, vm.net_tx_bytes];
            let meters = match before.remove(&vm.vm_id) {
                Some([rx, tx]) => [rx.read(counted[0], at), tx.read(counted[1], at)],
                None => counted.map(|value| Meter::new(value, at)),
            };
            self.net.insert(vm.vm_id.clone(), meters);
        }
    }

    /// Received and sent by the VM, in bytes a second.
    pub(super) fn net(&self, vm_id: &str) -> [Option<f64>; 2] {
        self.net.get(vm_id).map_or([None; 2], |meters| meters.map(|meter| meter.rate))
    }
}

#[derive(Debug, Clone, Copy)]
struct Meter {
    value: i64,
    /// When the value was first seen, or last known to stand still.
    since: Instant,
    /// Has it been seen to change, or to stand still? Before, it may be older than `since`.
    aligned: Alignment,
    /// A second.
    rate: Option<f64>,
}

#[derive(Debug, Clone, Copy)]
enum Alignment {
    Unknown,
    Known,
}

impl Meter {
    fn new(value: i64, at: Instant) -> Self {
        Self { value, since: at, aligned: Alignment::Unknown, rate: None }
    }

    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    fn read(self, value: i64, at: Instant) -> Self {
        let elapsed = at.saturating_duration_since(self.since);
        let Some(counted) = value.checked_sub(self.value).filter(|counted| *counted >= 0) else {
            // The VM was started anew.
            return Self::new(value, at);
        };
        if counted == 0 && elapsed < STILL {
            return self;
        }
        let rate = match self.aligned {
            Alignment::Unknown if counted > 0 => None,
            // Nothing is counted in no time.
            Alignment::Known if elapsed.is_zero() => return self,
            Alignment::Known | Alignment::Unknown => Some(counted as f64 / elapsed.as_secs_f64()),
        };
        Self { value, since: at, aligned: Alignment::Known, rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate after each of `(seconds, value)`.
    fn rates(read: &[(u64, i64)]) -> Vec<Option<f64>> {
        let start = Instant::now();
        let mut meter: Option<Meter> = None;
        let mut rate = |&(second, value): &(u64, i64)| {
            let at = start + Duration::from_secs(second);
            let now = meter.map_or_else(|| Meter::new(value, at), |meter| meter.read(value, at));
            meter = Some(now);
            now.rate
        };
        read.iter().map(&mut rate).collect()
    }

    #[test]
    fn a_rate_is_what_was_counted_between_two_changes() {
        assert_eq!(
            rates(&[(0, 100), (2, 300), (4, 500), (6, 500), (8, 900)]),
            [None, None, Some(100.0), Some(100.0), Some(100.0)]
        );
    }

    #[test]
    fn a_counter_that_stands_still_comes_to_nothing_and_then_counts_afresh() {
        assert_eq!(
            rates(&[(0, 5), (11, 5), (12, 5), (14, 25)]),
            [None, None, Some(0.0), Some(10.0)]
        );
    }

    #[test]
    fn a_counter_that_falls_is_another_one() {
        assert_eq!(
            rates(&[(0, 0), (1, 10), (2, 20), (3, 5), (4, 6)]),
            [None, None, Some(10.0), None, None]
        );
        assert_eq!(rates(&[(0, i64::MIN), (1, i64::MAX)]), [None, None]);
    }

    #[test]
    fn vms_that_are_gone_or_off_are_forgotten() {
        let vm = |status: &str| GetVmStatusResponse {
            vm_id: "x".to_owned(),
            status: status.to_owned(),
            ..Default::default()
        };
        let mut meters = Meters::default();
        meters.read(&[vm("running")], Instant::now());
        assert_eq!(meters.net.len(), 1);
        meters.read(&[vm("stopped")], Instant::now());
        assert_eq!(meters.net.len(), 0);
    }
}
