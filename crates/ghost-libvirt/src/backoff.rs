//! Growing pauses with jitter. Invariant: a pause is at least half and at most all of
//! `min(base * 2^attempt, cap)`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// How pauses grow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    /// The first pause.
    pub(crate) base: Duration,
    /// The longest.
    pub(crate) cap: Duration,
}

impl Backoff {
    /// The pause after `attempt` failures (0 for the first); `jitter` is from 0 to 1.
    pub(crate) fn pause(&self, attempt: u32, jitter: f64) -> Duration {
        let factor = 1u32.checked_shl(attempt).filter(|f| *f != 0).unwrap_or(u32::MAX);
        let full = self.base.saturating_mul(factor).min(self.cap);
        full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// A random number from 0 to 1, good enough to keep agents from knocking in step.
pub(crate) fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish() >> 32;
    u32::try_from(random).map_or(0.5, |r| f64::from(r) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };

    #[test]
    fn pauses_double_up_to_the_cap() {
        let full = [0, 1, 2, 5, 6, 31, 32, 200].map(|n| BACKOFF.pause(n, 1.0).as_millis());
        assert_eq!(full, [100, 200, 400, 3200, 5000, 5000, 5000, 5000]);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        assert_eq!(BACKOFF.pause(0, 0.0).as_millis(), 50);
        assert!((0..100).map(|_| jitter()).all(|j| (0.0..=1.0).contains(&j)));
        assert_ne!(jitter().to_bits(), jitter().to_bits());
    }
}
