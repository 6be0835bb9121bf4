//! Prometheus' own tool accepts what is rendered.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

/// What the tool says of a text; nothing if all is well.
fn findings(text: &str) -> Option<String> {
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut tool = match tool {
        Ok(tool) => tool,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var_os("CI").is_none(), "promtool is missing: install prometheus");
            eprintln!("skipped: promtool is missing; install the package prometheus");
            return None;
        }
        Err(error) => panic!("promtool can't be run: {error}"),
    };
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    Some(format!(
        "{}{}",
        if said.status.success() { "" } else { "refused: " },
        String::from_utf8_lossy(&text)
    ))
}

#[test]
fn promtool_finds_nothing_wrong_with_all_metrics_and_with_those_of_the_first_moment() {
    for metrics in [everything(), Metrics::default()] {
        if let Some(findings) = findings(&metrics.render(Format::Classic)) {
            assert_eq!(findings, "");
        }
    }
}

#[test]
fn promtool_would_find_a_counter_without_its_suffix() {
    if let Some(findings) = findings("# HELP a A\n# TYPE a counter\na 1\n") {
        assert!(findings.contains("_total"), "{findings}");
    }
}
