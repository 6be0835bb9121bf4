//! Prometheus' own judge of rules and expressions. Invariant: outside of CI its absence is said, in CI it is a failure.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::run;

/// What Grafana puts into an expression, and what stands for it here.
const VARIABLES: [(&str, &str); 3] =
    [("$__rate_interval", "5m"), ("$__range", "1h"), ("$__interval", "1m")];

/// The program.
#[derive(Debug)]
pub(super) struct Promtool;

/// It, if it is on the `PATH`.
pub(super) fn find() -> anyhow::Result<Option<Promtool>> {
    if run::command("promtool").arg("--version").succeeds() {
        return Ok(Some(Promtool));
    }
    let in_ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    ensure!(!in_ci, "there is no promtool here; remedy: ./dev setup");
    println!("    NOT CHECKED: whether the rules fire and the dashboard's expressions are PromQL");
    println!("    there is no promtool here; remedy: ./dev setup");
    Ok(None)
}

impl Promtool {
    pub(super) fn rules(&self, file: &Path) -> anyhow::Result<()> {
        self.quietly(&["check", "rules"], [file])
    }

    pub(super) fn config(&self, file: &Path) -> anyhow::Result<()> {
        self.quietly(&["check", "config"], [file])
    }

    pub(super) fn tests(&self, files: &[PathBuf]) -> anyhow::Result<()> {
        self.quietly(&["test", "rules"], files)
    }

    /// Takes each expression as a rule would: promtool parses no query by itself.
    pub(super) fn expressions(&self, expressions: &[String]) -> anyhow::Result<()> {
        let rules: Vec<serde_json::Value> =
            expressions.iter().map(|expression| as_rule(expression)).collect();
        let file = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
        let path =
            std::env::temp_dir().join(format!("ghost-dashboard-{}.json", std::process::id()));
        fs::write(&path, file.to_string()).with_context(|| path.display().to_string())?;
        let checked = self.rules(&path);
        fs::remove_file(&path).with_context(|| path.display().to_string())?;
        checked.context("the dashboard's expressions")
    }

    /// Its report is shown only when it finds something.
    fn quietly(
        &self,
        verb: &[&str],
        files: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> anyhow::Result<()> {
        let (well, report) = run::command("promtool").args(verb).args(files).report()?;
        ensure!(well, "promtool {}:\n{report}", verb.join(" "));
        Ok(())
    }
}

/// JSON is YAML.
fn as_rule(expression: &str) -> serde_json::Value {
    let filled = VARIABLES
        .iter()
        .fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
    serde_json::json!({ "record": "dashboard:expression", "expr": filled })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grafanas_variables_have_values() {
        assert_eq!(as_rule("rate(a[$__rate_interval])")["expr"], "rate(a[5m])");
    }

    #[test]
    fn what_is_no_promql_is_refused() {
        let Some(promtool) = find().unwrap() else { return };
        promtool.expressions(&["sum(up)".to_owned()]).unwrap();
        let refused = promtool.expressions(&["sum(up".to_owned()]).unwrap_err();
        assert!(format!("{refused:#}").contains("unclosed left parenthesis"), "{refused:#}");
    }
}
