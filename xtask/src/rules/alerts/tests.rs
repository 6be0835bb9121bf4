use super::*;

const RULES: &str = r#"
groups:
  - name: g
    rules:
      - {record: "ghost:b:rate5m", expr: "rate(ghost_b_total[5m])"}
      - alert: GhostA
        expr: ghost:b:rate5m > 1
        labels: {severity: warning}
        annotations: {summary: a, description: b, runbook_url: docs/runbook.md#ghosta}
"#;
const TESTS: &str = r"
tests:
  - alert_rule_test:
      - {alertname: GhostA, exp_alerts: []}
      - {alertname: GhostA, exp_alerts: [{exp_labels: {}}]}
";

/// What is found when each of `changes` is made in rules and tests.
fn found(changes: &[(&str, &str)]) -> Vec<String> {
    let changed = |text: &str| {
        changes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    };
    let rules = Rules::parse(&changed(RULES)).unwrap();
    let mut tests = Tests::default();
    tests.add(&changed(TESTS)).unwrap();
    let known = Metrics::read("| `ghost_b_total` | counter |").and(rules.records());
    rules.problems(&known, &tests)
}

#[test]
fn a_tested_alert_on_known_series_is_fine() {
    assert_eq!(found(&[]), Vec::<String>::new());
}

#[test]
fn a_series_that_nobody_has_is_found_in_records_and_alerts() {
    let lacks = ["ghost:b:rate5m asks for ghost_c_total, which does not exist"];
    assert_eq!(found(&[("ghost_b_total", "ghost_c_total")]), lacks);
    let lacks = ["GhostA asks for ghost:d, which does not exist"];
    assert_eq!(found(&[("ghost:b:rate5m > 1", "ghost:d > 1")]), lacks);
}

#[test]
fn what_an_alert_lacks_is_named() {
    for (from, to, lack) in [
        ("warning", "urgent", r#"GhostA has no severity of ["critical", "warning", "info"]"#),
        ("summary: a", "summary: ''", "GhostA has no summary"),
        ("#ghosta}", "#ghostb}", "GhostA: its runbook_url is not docs/runbook.md#ghosta"),
        ("exp_alerts: []", "exp_alerts: [{}]", "no test has GhostA silent"),
        ("exp_alerts: [{exp_labels: {}}]", "exp_alerts: []", "no test lets GhostA fire"),
        ("\"ghost:b:rate5m\"", "\"b:rate5m\"", "the record b:rate5m does not begin with ghost:"),
    ] {
        let found = found(&[(from, to)]);
        assert!(found.contains(&lack.to_owned()), "{from} as {to}: {found:?}");
    }
}

#[test]
fn a_test_of_no_alert_is_found() {
    let renamed = found(&[("alert: GhostA", "alert: GhostB"), ("#ghosta", "#ghostb")]);
    assert!(renamed.contains(&"a test names GhostA, which is no alert".to_owned()), "{renamed:?}");
}

#[test]
fn a_rule_that_is_neither_is_refused() {
    assert!(Rules::parse("groups: [{rules: [{expr: up}]}]").is_err());
    assert!(Rules::parse("groups: [{rules: [{alert: A}]}]").is_err());
    assert!(Rules::parse("rules: []").is_err());
}
