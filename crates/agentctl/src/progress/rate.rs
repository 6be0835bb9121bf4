//! How fast a count grows. Invariant: what is told is of the last seconds: a count that stands still
//! is told as 0 soon, and one that was begun anew knows nothing of the former.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Long enough to be calm, short enough to be true.
const WINDOW: Duration = Duration::from_secs(10);
/// A rate of less time is noise.
const SHORTEST: Duration = Duration::from_secs(1);

/// The counts of the last [`WINDOW`], and the last one before it.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    counts: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Takes what was counted `at` a moment.
    pub(crate) fn count(&mut self, at: Instant, count: u64) {
        if self.counts.back().is_some_and(|(_, last)| *last > count) {
            self.counts.clear();
        }
        self.counts.push_back((at, count));
        while self.counts.get(1).is_some_and(|(second, _)| at.duration_since(*second) >= WINDOW) {
            self.counts.pop_front();
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.counts.clear();
    }

    /// How much more a second; `None` as long as nobody can tell.
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    pub(crate) fn per_second(&self, now: Instant) -> Option<f64> {
        let (_, last) = self.counts.back()?;
        let outside = |(at, _): &&(Instant, u64)| now.duration_since(*at) >= WINDOW;
        let (since, first) = self.counts.iter().rfind(outside).or_else(|| self.counts.front())?;
        let elapsed = now.duration_since(*since);
        (elapsed >= SHORTEST).then(|| (last - first) as f64 / elapsed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate after these (seconds, count), asked `now` seconds after the begin.
    fn rate(counts: &[(u64, u64)], now: u64) -> Option<f64> {
        let begin = Instant::now();
        let mut rate = Rate::default();
        for (at, count) in counts {
            rate.count(begin + Duration::from_secs(*at), *count);
        }
        rate.per_second(begin + Duration::from_secs(now))
    }

    #[test]
    fn nothing_is_told_before_a_second_has_passed() {
        assert_eq!(rate(&[], 5), None);
        assert_eq!(rate(&[(0, 100)], 0), None);
        assert_eq!(rate(&[(0, 100), (0, 900)], 0), None);
    }

    #[test]
    fn what_an_earlier_try_left_is_not_counted_as_speed() {
        assert_eq!(rate(&[(0, 1_000_000), (2, 1_000_200)], 2), Some(100.0));
    }

    #[test]
    fn only_the_last_seconds_count() {
        let fast_then_slow: Vec<(u64, u64)> =
            (0..10).map(|s| (s, s * 1000)).chain((10..40).map(|s| (s, 9000 + s))).collect();
        assert_eq!(rate(&fast_then_slow, 39), Some(1.0));
    }

    #[test]
    fn a_standstill_ends_as_zero() {
        assert_eq!(rate(&[(0, 0), (1, 1000)], 2), Some(500.0));
        assert_eq!(rate(&[(0, 0), (1, 1000)], 60), Some(0.0));
    }

    #[test]
    fn a_count_that_begins_anew_forgets_the_former() {
        assert_eq!(rate(&[(0, 0), (5, 5000), (6, 10), (8, 30)], 8), Some(10.0));
    }
}
