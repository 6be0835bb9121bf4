//! The metrics that the agent has, as their table lists them (a test of the agent holds it against what is rendered).

use std::collections::BTreeMap;

/// What a histogram is read by.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
/// Prometheus' own.
const BUILT_IN: [&str; 2] = ["up", "ALERTS"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Histogram,
    Number,
}

/// The names that an expression may use.
#[derive(Debug)]
pub(super) struct Metrics(BTreeMap<String, Kind>);

impl Metrics {
    /// Reads a page: each row of a table whose first cell begins with a metric's name lists that metric.
    pub(super) fn read(page: &str) -> Self {
        let rows = page.lines().filter_map(|line| line.trim().strip_prefix('|'));
        let mut all: BTreeMap<String, Kind> = rows.filter_map(of_row).collect();
        all.extend(BUILT_IN.map(|name| (name.to_owned(), Kind::Number)));
        Self(all)
    }

    /// These and what rules record.
    pub(super) fn and(mut self, records: impl IntoIterator<Item = String>) -> Self {
        self.0.extend(records.into_iter().map(|name| (name, Kind::Number)));
        self
    }

    /// Whether there are series of exactly that name.
    pub(super) fn has(&self, name: &str) -> bool {
        let part_of = |part: &str| {
            name.strip_suffix(part).and_then(|base| self.0.get(base)) == Some(&Kind::Histogram)
        };
        self.0.get(name) == Some(&Kind::Number) || PARTS.iter().any(|part| part_of(part))
    }
}

fn of_row(row: &str) -> Option<(String, Kind)> {
    let (first, rest) = row.split_once('|')?;
    let first = first.trim().trim_start_matches('`');
    let end = first.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let name = end.map_or(first, |end| &first[..end]);
    let ours = name.starts_with("ghost_") || name.starts_with("process_");
    let kind = if rest.contains("histogram") { Kind::Histogram } else { Kind::Number };
    ours.then(|| (name.to_owned(), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "Of `ghost_in_prose` there is nothing.\n\
        | Name | Type |\n|---|---|\n\
        | `ghost_vms{status}` | gauge |\n\
        | `ghost_wait_seconds` | histogram |\n";

    #[test]
    fn what_a_row_lists_is_known_and_nothing_else() {
        let metrics = Metrics::read(PAGE).and(["ghost:recorded".to_owned()]);
        for name in ["ghost_vms", "up", "ghost:recorded"] {
            assert!(metrics.has(name), "{name}");
        }
        for name in ["ghost_in_prose", "ghost_vms_total", "ghost_vms_bucket", "Name"] {
            assert!(!metrics.has(name), "{name}");
        }
    }

    #[test]
    fn a_histogram_is_read_by_its_parts_only() {
        let metrics = Metrics::read(PAGE);
        assert!(PARTS.iter().all(|part| metrics.has(&format!("ghost_wait_seconds{part}"))));
        assert!(!metrics.has("ghost_wait_seconds"));
    }
}
