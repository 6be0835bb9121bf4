//! Prometheus' rules, the dashboard and the runbook. Invariant: they fit together and the agent: each alert is tested
//! firing and silent and has its section, and nothing asks for a metric that docs/observability/metrics.md does not list.
//!
//! What can be seen in the files is decided here; whether PromQL is PromQL, and rules fire, by `promtool`.

mod alerts;
mod dashboard;
mod metrics;
mod promql;
mod promtool;
mod runbook;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::run;
use alerts::{Rules, Tests};
use dashboard::Dashboard;
use metrics::Metrics;

const RULES: &str = "packaging/prometheus/ghost-agent.rules.yaml";
const SCRAPE: &str = "packaging/prometheus/scrape.example.yaml";
const TESTS: &str = "packaging/prometheus/tests";
const DASHBOARD: &str = "packaging/grafana/ghost-agent.json";
const RUNBOOK: &str = "docs/runbook.md";
const METRICS: &str = "docs/observability/metrics.md";

/// Everything, with promtool where there is one.
pub(crate) fn check() -> anyhow::Result<()> {
    let dashboard = agree()?;
    let Some(promtool) = promtool::find()? else { return Ok(()) };
    promtool.rules(&run::root().join(RULES))?;
    promtool.config(&run::root().join(SCRAPE))?;
    promtool.tests(&tests()?)?;
    promtool.expressions(&dashboard.expressions())
}

/// What needs no promtool.
fn agree() -> anyhow::Result<Dashboard> {
    let metrics = Metrics::read(&text(METRICS)?);
    let rules = Rules::parse(&text(RULES)?).context(RULES)?;
    let dashboard = Dashboard::parse(&text(DASHBOARD)?).context(DASHBOARD)?;
    let mut tested = Tests::default();
    for file in tests()? {
        let yaml = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        tested.add(&yaml).with_context(|| file.display().to_string())?;
    }
    let known = metrics.and(rules.records());
    let mut problems = rules.problems(&known, &tested);
    problems.extend(runbook::problems(&text(RUNBOOK)?, &rules.alerts()));
    problems.extend(dashboard.problems(&known));
    ensure!(problems.is_empty(), "{} problem(s):\n  {}", problems.len(), problems.join("\n  "));
    Ok(dashboard)
}

/// The files of the rules' tests, sorted.
fn tests() -> anyhow::Result<Vec<PathBuf>> {
    let folder = run::root().join(TESTS);
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    files.sort();
    Ok(files)
}

fn text(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(run::root().join(path)).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn rules_dashboard_runbook_and_metrics_agree() {
        super::agree().unwrap();
    }
}
