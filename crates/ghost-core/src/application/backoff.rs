//! When to try again. Invariant: a pause is random from 0 to `min(base * 2^failures, cap)` (full jitter), so that
//! many who failed together do not come back together.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How pauses grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first pause.
    pub base: Duration,
    /// The longest of all.
    pub cap: Duration,
}

impl Backoff {
    /// For calls to the control plane: 1 s, 2 s, 4 s … 60 s.
    pub const CONTROL_PLANE: Self =
        Self { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

    /// The pause after `failures` earlier ones (0 for the first); `random` is from 0 to 1.
    #[must_use]
    pub fn pause(&self, failures: u32, random: f64) -> Duration {
        let factor = 1u32.checked_shl(failures).filter(|f| *f != 0).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap).mul_f64(random.clamp(0.0, 1.0))
    }

    /// That, after what the other side wants to be spared, of which at most 10 minutes are granted.
    #[must_use]
    pub fn pause_after(&self, wanted: Option<Duration>, failures: u32, random: f64) -> Duration {
        const MOST: Duration = Duration::from_secs(600);
        wanted.unwrap_or_default().min(MOST) + self.pause(failures, random)
    }
}

/// `time`, longer or shorter by up to `part` of it; `random` is from 0 to 1.
#[must_use]
pub fn around(time: Duration, part: f64, random: f64) -> Duration {
    time.mul_f64((1.0 + part * (2.0 * random.clamp(0.0, 1.0) - 1.0)).max(0.0))
}

/// Random numbers from 0 to 1, good enough to keep agents from knocking in step.
#[derive(Debug)]
pub struct Dice(AtomicU64);

impl Dice {
    /// Dice that always give the same numbers.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number (SplitMix64; Steele, Lea, Flood 2014).
    pub fn roll(&self) -> f64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) >> 32).map_or(0.5, |r| f64::from(r) / f64::from(u32::MAX))
    }
}

impl Default for Dice {
    /// Dice of which nobody knows what they give.
    fn default() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_doubles_up_to_the_cap() {
        let longest = [0, 1, 2, 5, 6, 31, 32, 200]
            .map(|failures| Backoff::CONTROL_PLANE.pause(failures, 1.0).as_secs());
        assert_eq!(longest, [1, 2, 4, 32, 60, 60, 60, 60]);
        assert_eq!(Backoff::CONTROL_PLANE.pause(9, 0.0), Duration::ZERO);
        assert_eq!(Backoff::CONTROL_PLANE.pause(9, 0.5), Duration::from_secs(30));
    }

    #[test]
    fn a_time_is_varied_to_both_sides() {
        let ten = Duration::from_secs(10);
        let varied = [0.0, 0.5, 1.0].map(|random| around(ten, 0.1, random).as_millis());
        assert_eq!(varied, [9000, 10_000, 11_000]);
    }

    #[test]
    fn dice_are_even_and_repeat_only_if_seeded() {
        let dice = Dice::seeded(1);
        let mut counts = [0u32; 10];
        for _ in 0..10_000 {
            let rolled = dice.roll();
            let at = (0..9u8).find(|at| rolled < f64::from(at + 1) / 10.0).unwrap_or(9);
            counts[usize::from(at)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert_eq!(Dice::seeded(7).roll().to_bits(), Dice::seeded(7).roll().to_bits());
        assert_ne!(Dice::default().roll().to_bits(), Dice::default().roll().to_bits());
    }
}
