//! What is rendered, what the catalogue describes and what the documentation tells are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::catalog::{ALL, Kind, Metric};
use super::*;

const BEGIN: &str = "<!-- metrics: begin, written by the tests of ghost-agent -->";
const END: &str = "<!-- metrics: end -->";

fn table() -> String {
    let mut text =
        "| Metric | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n".to_owned();
    for Metric { name, kind, labels, help } in ALL {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(", ");
        text += &format!("| `{name}` | {} | {} | {labels} | {help} |\n", word(*kind), unit(name));
    }
    text
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

fn unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let units = ["seconds", "bytes", "ratio"];
    units.into_iter().find(|unit| name.ends_with(unit)).unwrap_or_default()
}

#[test]
fn the_documentation_tells_every_metric() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/observability/metrics.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = found.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}\n\n{}\n{END}{after}", table());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    assert!(
        found == expected,
        "{} does not match the catalogue; write it with: BLESS=1 cargo nextest run -p ghost-agent",
        path.display()
    );
}

/// Names, kinds and labels of what was rendered in the classic format.
fn rendered(text: &str) -> BTreeMap<&str, (&str, BTreeSet<&str>)> {
    let mut families = BTreeMap::new();
    for typed in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = typed.split_once(' ').unwrap();
        assert!(families.insert(name, (kind, BTreeSet::new())).is_none(), "{name} comes twice");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
        let family =
            [Some(name), histogram].into_iter().flatten().find(|n| families.contains_key(n));
        let family = families.get_mut(family.unwrap_or_else(|| panic!("untyped: {line}"))).unwrap();
        let keys = labels.split("=\"").map(|before| before.rsplit([',', '"']).next().unwrap());
        let keys = keys.filter(|key| !key.is_empty() && !key.ends_with('}') && *key != "le");
        family.1.extend(keys);
    }
    families
}

#[test]
fn everything_that_is_described_is_rendered_as_described_and_nothing_else() {
    let text = everything().render(Format::Classic);
    // Whose values hold what would disturb the parse.
    let text: Vec<_> = text.lines().filter(|line| !line.contains("forged")).collect();
    let text = text.join("\n");
    let mut rendered = rendered(&text);
    for Metric { name, kind, labels, .. } in ALL {
        let found = rendered.remove(name).unwrap_or_else(|| panic!("{name} is not rendered"));
        assert_eq!(found, (word(*kind), labels.iter().copied().collect()), "{name}");
    }
    assert!(rendered.is_empty(), "not described: {rendered:?}");
}

#[test]
fn names_follow_the_conventions() {
    for Metric { name, kind, help, .. } in ALL {
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(name.starts_with("ghost_") || name.starts_with("process_"), "{name}");
        assert!(!help.is_empty() && !help.ends_with('.'), "{name}: {help}");
    }
}

#[test]
fn open_metrics_has_units_and_an_end_and_no_series_twice() {
    let text = everything().render(Format::OpenMetrics);
    assert!(text.ends_with("\n# EOF\n"));
    assert!(
        text.contains("# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\n")
    );
    assert!(text.contains("\nprocess_cpu_seconds_total "));
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let mut seen = BTreeSet::new();
    for line in series {
        assert!(seen.insert(line.rsplit_once(' ').unwrap().0), "twice: {line}");
    }
}

#[test]
fn both_formats_have_the_same_samples() {
    let metrics = everything();
    let samples = |format| {
        let text = metrics.render(format);
        let lines = text.lines().filter(|l| !l.starts_with('#') && !l.starts_with("process_"));
        lines.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(samples(Format::Classic), samples(Format::OpenMetrics));
}

#[test]
fn a_label_cannot_forge_a_line() {
    for format in [Format::Classic, Format::OpenMetrics] {
        let text = everything().render(format);
        assert!(text.contains(r#"{check="a \"name\"\nghost_forged 1",state="degraded"} 1.0"#));
        assert!(!text.contains("\nghost_forged"), "{text}");
    }
}

#[test]
fn before_the_parts_are_there_the_agent_is_not_ready_and_what_is_counted_is_told() {
    let metrics = Metrics::default();
    metrics.call_ended("GetVMStatus", Code::Unavailable, Some(Duration::from_millis(1)));
    let text = metrics.render(Format::Classic);
    assert_eq!(value(&text, "ghost_agent_ready"), Some(0.0));
    let call = "ghost_grpc_requests_total{rpc=\"GetVMStatus\",code=\"UNAVAILABLE\"}";
    assert_eq!(value(&text, call), Some(1.0));
    assert!(value(&text, "process_resident_memory_bytes") > Some(1e6));
    assert!(!text.contains("ghost_vms{"), "{text}");
}
