//! Limits and whether they are kept. Invariant: a ratio that could not be formed keeps no limit.

use std::fmt;

use serde::Serialize;

use super::Unit;

/// What we ask of ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Budget {
    /// Of the median.
    MedianAtMost(f64),
    /// Of the median; more is better.
    MedianAtLeast(f64),
    /// Of the 99th percentile.
    P99AtMost(f64),
    /// Of our median over the one beside it.
    RatioAtMost(f64),
    /// Likewise, and less than that.
    RatioBelow(f64),
}

/// Whether requirement and budget are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Both are.
    Ok,
    /// One is not.
    Over,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Over => "over",
        })
    }
}

impl Budget {
    /// For the table.
    pub(crate) fn show(self, unit: Unit) -> String {
        match self {
            Self::MedianAtMost(limit) => format!("p50 ≤ {}", unit.show_limit(limit)),
            Self::MedianAtLeast(limit) => format!("≥ {}", unit.show_limit(limit)),
            Self::P99AtMost(limit) => format!("≤ {}", unit.show_limit(limit)),
            Self::RatioAtMost(limit) => format!("≤ {limit} ×"),
            Self::RatioBelow(limit) => format!("< {limit} ×"),
        }
    }

    fn is_kept(self, median: f64, p99: f64, ratio: Option<f64>) -> bool {
        match self {
            Self::MedianAtMost(limit) => median <= limit,
            Self::MedianAtLeast(limit) => median >= limit,
            Self::P99AtMost(limit) => p99 <= limit,
            Self::RatioAtMost(limit) => ratio.is_some_and(|ratio| ratio <= limit),
            Self::RatioBelow(limit) => ratio.is_some_and(|ratio| ratio < limit),
        }
    }
}

/// The verdict on median, 99th percentile and ratio; none without a limit.
pub(crate) fn of(
    required: Option<f64>,
    budget: Option<Budget>,
    (median, p99, ratio): (f64, f64, Option<f64>),
) -> Option<Verdict> {
    let required = required.map(|limit| p99 <= limit);
    let budget = budget.map(|budget| budget.is_kept(median, p99, ratio));
    match (required, budget) {
        (None, None) => None,
        (Some(false), _) | (_, Some(false)) => Some(Verdict::Over),
        (Some(true) | None, Some(true) | None) => Some(Verdict::Ok),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_kept_at_its_value_and_broken_above_it() {
        let judge = |budget, measured| of(None, Some(budget), measured);
        let (ok, over) = (Some(Verdict::Ok), Some(Verdict::Over));
        assert_eq!(judge(Budget::MedianAtMost(50.0), (50.0, 99.0, None)), ok);
        assert_eq!(judge(Budget::MedianAtMost(50.0), (50.1, 99.0, None)), over);
        assert_eq!(judge(Budget::P99AtMost(2.0), (1.0, 2.0, None)), ok);
        assert_eq!(judge(Budget::P99AtMost(2.0), (1.0, 2.1, None)), over);
        assert_eq!(judge(Budget::RatioAtMost(1.05), (1.0, 1.0, Some(1.05))), ok);
        assert_eq!(judge(Budget::RatioAtMost(1.05), (1.0, 1.0, Some(1.06))), over);
        assert_eq!(judge(Budget::RatioBelow(1.0), (1.0, 1.0, Some(0.99))), ok);
        assert_eq!(judge(Budget::RatioBelow(1.0), (1.0, 1.0, Some(1.0))), over);
    }

    #[test]
    fn a_limit_from_below_is_kept_at_its_value_and_broken_below_it() {
        let judge = |median| of(None, Some(Budget::MedianAtLeast(20.0)), (median, 99.0, None));
        assert_eq!(judge(20.0), Some(Verdict::Ok));
        assert_eq!(judge(19.0), Some(Verdict::Over));
    }

    #[test]
    fn a_requirement_that_is_missed_is_over_whatever_the_budget_says() {
        let budget = Some(Budget::MedianAtMost(50.0));
        assert_eq!(of(Some(40.0), budget, (1.0, 41.0, None)), Some(Verdict::Over));
        assert_eq!(of(Some(40.0), budget, (1.0, 40.0, None)), Some(Verdict::Ok));
        assert_eq!(of(Some(40.0), None, (1.0, 41.0, None)), Some(Verdict::Over));
    }

    #[test]
    fn without_a_limit_there_is_no_verdict_and_without_a_floor_no_ratio_is_kept() {
        assert_eq!(of(None, None, (1.0, 1.0, None)), None);
        assert_eq!(of(None, Some(Budget::RatioAtMost(2.0)), (1.0, 1.0, None)), Some(Verdict::Over));
    }
}
