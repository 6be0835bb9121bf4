//! Measured values. Invariant: there is at least one, all are finite, and they stay in the order in
//! which they were measured.

use anyhow::ensure;
use serde::Serialize;

/// At least one measured value.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// # Errors
    /// If there is none, or one is no number.
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> anyhow::Result<Self> {
        let values: Vec<f64> = values.into_iter().collect();
        ensure!(!values.is_empty(), "nothing was measured");
        ensure!(values.iter().all(|value| value.is_finite()), "not a number among {values:?}");
        Ok(Self(values))
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The middle one, or the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let (low, high) = (sorted.get((sorted.len() - 1) / 2), sorted.get(sorted.len() / 2));
        low.zip(high).map_or(f64::NAN, |(low, high)| f64::midpoint(*low, *high))
    }

    /// The smallest value that at least 99 % are not above (nearest rank): the worst of fewer than 100.
    pub(crate) fn p99(&self) -> f64 {
        let sorted = self.sorted();
        let rank = (sorted.len() * 99).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The largest.
    pub(crate) fn worst(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: impl IntoIterator<Item = u32>) -> Samples {
        Samples::new(values.into_iter().map(f64::from)).unwrap()
    }

    #[test]
    fn the_median_of_an_odd_number_is_the_middle_one() {
        assert_eq!(samples([9, 1, 5]).median(), 5.0);
        assert_eq!(samples([7]).median(), 7.0);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(samples([4, 1, 100, 2]).median(), 3.0);
    }

    #[test]
    fn p99_is_the_worst_of_fewer_than_a_hundred() {
        assert_eq!(samples([3, 20, 1]).p99(), 20.0);
        assert_eq!(samples((1..=99).rev()).p99(), 99.0);
        assert_eq!(samples([7]).p99(), 7.0);
    }

    #[test]
    fn p99_leaves_out_one_value_in_a_hundred() {
        assert_eq!(samples(1..=100).p99(), 99.0);
        assert_eq!(samples(1..=1000).p99(), 990.0);
        assert_eq!(samples(1..=101).p99(), 100.0);
    }

    #[test]
    fn the_worst_is_the_largest_wherever_it_stands() {
        assert_eq!(samples([3, 20, 1]).worst(), 20.0);
        assert_eq!(Samples::new([-3.0, -1.0]).unwrap().worst(), -1.0);
    }

    #[test]
    fn nothing_and_what_is_no_number_are_no_samples() {
        assert!(Samples::new([]).is_err());
        assert!(Samples::new([1.0, f64::NAN]).is_err());
        assert!(Samples::new([f64::INFINITY]).is_err());
    }
}
