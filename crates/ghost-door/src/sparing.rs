//! Warnings that a stranger can cause. Invariant: at most one an interval; each says how many were
//! left out since the one before it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shortest time between two lines: a log is read by people.
const INTERVAL: Duration = Duration::from_secs(1);

/// Whether a line may be written now; shared by all who write of one kind.
#[derive(Debug, Default)]
pub struct Sparing(Mutex<Pace>);

#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    left_out: u64,
}

impl Sparing {
    /// How many lines were left out before this one, or `None` if this one is to be left out too.
    #[must_use]
    pub fn turn(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).turn(Instant::now())
    }
}

impl Pace {
    fn turn(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_an_interval_is_written_and_counts_those_left_out() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut turn = |after: u64| pace.turn(start + Duration::from_millis(after));
        assert_eq!(turn(0), Some(0));
        assert_eq!((turn(1), turn(999)), (None, None));
        assert_eq!(turn(1000), Some(2));
        assert_eq!(turn(1999), None);
        assert_eq!(turn(5000), Some(1));
        assert_eq!(turn(6000), Some(0));
    }
}
