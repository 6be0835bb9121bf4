//! What a scraper gets. Invariant: both formats say the same, under the same names once Prometheus has stored them.

use std::fmt::Write as _;

/// A text format of Prometheus'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`, which everybody reads.
    Classic,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Format {
    /// What a request wants that has this `Accept` header, if it has one.
    #[must_use]
    pub fn of(accept: Option<&str>) -> Self {
        let weight = |wanted: fn(&str) -> bool| {
            let ranges = accept.unwrap_or_default().split(',').map(range);
            ranges.filter(|(name, _)| wanted(name)).map(|(_, q)| q).fold(0.0, f32::max)
        };
        let open = weight(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
        let plain = weight(|name| matches!(name, "text/plain" | "text/*" | "*/*"));
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Classic }
    }

    /// The `Content-Type` of the answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => super::CONTENT_TYPE,
        }
    }

    /// Turns OpenMetrics, as it is rendered, into this format.
    pub(super) fn of_open_metrics(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Classic => classic(&text),
        }
    }
}

/// A media range, and how much it is wanted (RFC 9110, 12.5.1).
fn range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let q = parts.find_map(|part| part.strip_prefix("q=")).map_or(Ok(1.0), str::parse);
    (name, q.unwrap_or(0.0))
}

/// The classic format names a counter with its suffix, and knows neither units nor an end.
fn classic(text: &str) -> String {
    let mut classic = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let help = help.map_or("", |(_, help)| help);
            // Writing to a String does not fail.
            let _ = writeln!(classic, "# HELP {name}{suffix} {help}");
            let _ = writeln!(classic, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            classic.push_str(line);
            classic.push('\n');
        }
    }
    classic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_given_to_those_who_prefer_it() {
        // As Prometheus 2.42 and 3.5 send it.
        let old = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                   text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let new = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                   text/plain;version=0.0.4;q=0.2,/;q=0.1";
        for accept in
            [old, new, "application/openmetrics-text", "Application/OpenMetrics-Text; q=0.1"]
        {
            assert_eq!(Format::of(Some(accept)), Format::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn everybody_else_gets_the_classic_format() {
        let others = [
            "*/*",
            "text/html,*/*;q=0.8",
            "",
            "application/openmetrics-text;q=0",
            "text/plain, application/openmetrics-text;q=0.5",
            "application/openmetrics-text;q=much",
        ];
        for accept in others {
            assert_eq!(Format::of(Some(accept)), Format::Classic, "{accept}");
        }
        assert_eq!(Format::of(None), Format::Classic);
    }

    #[test]
    fn the_classic_format_names_counters_with_their_suffix_and_has_neither_units_nor_an_end() {
        let open = "# HELP a_seconds Time # spent\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                    a_seconds_total{b=\"# TYPE\"} 1.0\n# HELP g G\n# TYPE g gauge\ng 2\n# EOF\n";
        let expected = "# HELP a_seconds_total Time # spent\n# TYPE a_seconds_total counter\n\
                        a_seconds_total{b=\"# TYPE\"} 1.0\n# HELP g G\n# TYPE g gauge\ng 2\n";
        assert_eq!(Format::Classic.of_open_metrics(open.to_owned()), expected);
    }
}
