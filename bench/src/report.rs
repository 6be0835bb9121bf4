//! What was measured, for people and for programs. Invariant: a verdict follows from the samples and
//! the limits alone, and only a row with a limit has one.

mod host;
mod verdict;

use std::path::Path;

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::samples::Samples;
pub(crate) use host::Host;
pub(crate) use verdict::{Budget, Verdict};

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Seconds,
    Millis,
    /// A million bytes.
    Megabytes,
    Percent,
    Count,
    /// Calls answered in a second.
    PerSecond,
    /// Million bytes in a second.
    MegabytesPerSecond,
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    what: String,
    unit: Unit,
    /// The requirement: at most this.
    required: Option<f64>,
    budget: Option<Budget>,
    median: f64,
    p99: f64,
    worst: f64,
    count: usize,
    beside: Option<Beside>,
    ratio: Option<f64>,
    verdict: Option<Verdict>,
    samples: Samples,
}

/// The floor or the peer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Beside {
    name: &'static str,
    median: f64,
    p99: f64,
    worst: f64,
    samples: Samples,
}

/// Everything.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) host: Host,
    pub(crate) rounds: u32,
    pub(crate) rows: Vec<Row>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: Unit, samples: Samples) -> Self {
        Self {
            what: what.into(),
            unit,
            required: None,
            budget: None,
            median: samples.median(),
            p99: samples.p99(),
            worst: samples.worst(),
            count: samples.count(),
            beside: None,
            ratio: None,
            verdict: None,
            samples,
        }
    }

    /// What the requirements ask for, of the 99th percentile.
    pub(crate) fn required(mut self, at_most: f64) -> Self {
        self.required = Some(at_most);
        self
    }

    /// What we ask of ourselves.
    pub(crate) fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// The floor or the peer, measured in the same run.
    pub(crate) fn beside(mut self, name: &'static str, samples: Samples) -> Self {
        self.ratio = Some(self.median / samples.median()).filter(|ratio| ratio.is_finite());
        let (median, p99, worst) = (samples.median(), samples.p99(), samples.worst());
        self.beside = Some(Beside { name, median, p99, worst, samples });
        self
    }

    /// With its verdict.
    pub(crate) fn judged(mut self) -> Self {
        self.verdict = verdict::of(self.required, self.budget, (self.median, self.p99, self.ratio));
        self
    }

    /// In short, for who watches.
    pub(crate) fn line(&self) -> String {
        let [what, _, _, median, p99, beside, ..] = self.cells();
        format!("{}: median {median}, p99 {p99}; {beside}", what.trim_start())
    }

    fn cells(&self) -> [String; 8] {
        let unit = self.unit;
        let dash = || "–".to_owned();
        // The highest of some rates is the best of them, not the worst.
        let has_p99 = self.count > 1 && unit != Unit::MegabytesPerSecond;
        let of_many = |value| if has_p99 { unit.show(value) } else { dash() };
        let beside = self.beside.as_ref();
        [
            self.what.clone(),
            self.required.map_or_else(dash, |limit| format!("≤ {}", unit.show_limit(limit))),
            self.budget.map_or_else(dash, |budget| budget.show(unit)),
            unit.show(self.median),
            of_many(self.p99),
            beside.map_or_else(dash, |b| format!("{} {}", b.name, unit.show(b.median))),
            self.ratio.map_or_else(dash, |ratio| format!("{ratio:.2}")),
            self.verdict.map_or_else(dash, |verdict| verdict.to_string()),
        ]
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2} s"),
            Self::Millis => format!("{value:.2} ms"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Percent => format!("{value:.2} %"),
            Self::Count => format!("{value}"),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::MegabytesPerSecond => format!("{value:.0} MB/s"),
        }
    }

    fn show_limit(self, limit: f64) -> String {
        let unit = match self {
            Self::Seconds => " s",
            Self::Millis => " ms",
            Self::Megabytes => " MB",
            Self::Percent => " %",
            Self::Count => "",
            Self::PerSecond => "/s",
            Self::MegabytesPerSecond => " MB/s",
        };
        format!("{limit}{unit}")
    }
}

impl Report {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN).set_header([
            "what",
            "required",
            "ours",
            "median",
            "p99",
            "beside it (median)",
            "ratio",
            "verdict",
        ]);
        for row in &self.rows {
            table.add_row(row.cells());
        }
        for column in table.column_iter_mut().skip(3).take(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("\n{table}\n\n{}", self.host)
    }

    /// For programs.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether a limit was not kept.
    pub(crate) fn is_over(&self) -> bool {
        self.rows.iter().any(|row| row.verdict == Some(Verdict::Over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f64]) -> Row {
        Row::new("x", Unit::Millis, Samples::new(values.iter().copied()).unwrap())
    }

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let beside = row(&[3.0, 1.0, 9.0]).beside("floor", Samples::new([2.0, 2.0, 50.0]).unwrap());
        assert_eq!(beside.ratio, Some(1.5));
        assert_eq!(row(&[1.0]).beside("floor", Samples::new([0.0]).unwrap()).ratio, None);
    }

    #[test]
    fn one_row_over_its_budget_makes_the_report_so() {
        let rows = |limit| {
            vec![row(&[1.0]).judged(), row(&[1.0, 2.0]).budget(Budget::P99AtMost(limit)).judged()]
        };
        let report = |limit| Report { host: Host::default(), rounds: 1, rows: rows(limit) };
        assert!(report(1.9).is_over());
        assert!(!report(2.0).is_over());
    }

    #[test]
    fn a_single_value_has_no_percentile_to_show() {
        let [_, _, _, median, p99, ..] = row(&[7.0]).cells();
        assert_eq!((median.as_str(), p99.as_str()), ("7.00 ms", "–"));
        let [_, _, _, _, p99, ..] = row(&[7.0, 8.0]).cells();
        assert_eq!(p99, "8.00 ms");
    }

    #[test]
    fn a_rate_has_no_percentile_to_show() {
        let rates = Samples::new([7.0, 8.0]).unwrap();
        let [_, _, _, median, p99, ..] = Row::new("x", Unit::MegabytesPerSecond, rates).cells();
        assert_eq!((median.as_str(), p99.as_str()), ("8 MB/s", "–"));
    }
}
