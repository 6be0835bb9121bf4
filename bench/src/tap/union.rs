//! Time in which at least one of several calls was under way. Invariant: calls that overlap count once:
//! the agent makes some of them at the same time, and their sum may exceed the time they took together.

use std::time::{Duration, Instant};

/// How long at least one of the spans (begin, length) lasted.
pub(super) fn length(mut spans: Vec<(Instant, Duration)>) -> Duration {
    spans.sort_by_key(|(begin, _)| *begin);
    let mut covered_to: Option<Instant> = None;
    let mut total = Duration::ZERO;
    for (begin, length) in spans {
        let end = begin + length;
        let fresh = covered_to.map_or(begin, |covered| covered.max(begin));
        // Nothing is left of a span that others cover whole.
        total += end.saturating_duration_since(fresh);
        covered_to = Some(covered_to.map_or(end, |covered| covered.max(end)));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The union of spans given as begin and end, in milliseconds.
    fn millis(spans: &[(u64, u64)]) -> u128 {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        length(spans.iter().map(|(a, b)| (at(*a), Duration::from_millis(b - a))).collect())
            .as_millis()
    }

    #[test]
    fn calls_one_after_the_other_add_up() {
        assert_eq!(millis(&[(0, 10), (10, 15), (20, 21)]), 16);
        assert_eq!(millis(&[]), 0);
    }

    #[test]
    fn what_overlaps_counts_once_in_whatever_order_it_ended() {
        assert_eq!(millis(&[(0, 500), (490, 510)]), 510);
        assert_eq!(millis(&[(490, 510), (0, 500)]), 510);
    }

    #[test]
    fn a_call_within_a_longer_one_adds_nothing() {
        assert_eq!(millis(&[(0, 500), (5, 24), (25, 26), (499, 501)]), 501);
    }
}
