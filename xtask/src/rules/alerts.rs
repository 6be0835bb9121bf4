//! Alerts, what they are made of, and what tests them. Invariant: a [`Rules`] was read from valid YAML of the known form.

use std::collections::BTreeSet;

use anyhow::Context;
use serde_json::Value;

use super::metrics::Metrics;
use super::promql;

const SEVERITIES: [&str; 3] = ["critical", "warning", "info"];
const ANNOTATIONS: [&str; 2] = ["summary", "description"];
/// How records are named, so that no metric of the agent can have the name.
const RECORDS: &str = "ghost:";

#[derive(Debug)]
enum Kind {
    Alert(Box<Value>),
    Record,
}

#[derive(Debug)]
struct Rule {
    name: String,
    expression: String,
    kind: Kind,
}

/// The rules of a file.
#[derive(Debug)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub(super) fn parse(yaml: &str) -> anyhow::Result<Self> {
        let file: Value = serde_saphyr::from_str(yaml)?;
        let groups = file["groups"].as_array().context("no list 'groups'")?;
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
        rules.map(rule).collect::<anyhow::Result<_>>().map(Self)
    }

    /// The alerts' names.
    pub(super) fn alerts(&self) -> BTreeSet<String> {
        let alerts = self.0.iter().filter(|rule| matches!(rule.kind, Kind::Alert(_)));
        alerts.map(|rule| rule.name.clone()).collect()
    }

    /// The names of the series that are recorded.
    pub(super) fn records(&self) -> Vec<String> {
        let records = self.0.iter().filter(|rule| matches!(rule.kind, Kind::Record));
        records.map(|rule| rule.name.clone()).collect()
    }

    /// What is wrong with them, and with their tests.
    pub(super) fn problems(&self, known: &Metrics, tests: &Tests) -> Vec<String> {
        let mut problems: Vec<String> =
            self.0.iter().flat_map(|rule| rule.problems(known, tests)).collect();
        let mut seen = BTreeSet::new();
        let twice = self.0.iter().filter(|rule| !seen.insert(&rule.name));
        problems.extend(twice.map(|rule| format!("{} is there twice", rule.name)));
        let alerts = self.alerts();
        let named = tests.fires.union(&tests.silent).filter(|name| !alerts.contains(*name));
        problems.extend(named.map(|name| format!("a test names {name}, which is no alert")));
        problems
    }
}

impl Rule {
    fn problems(&self, known: &Metrics, tests: &Tests) -> Vec<String> {
        let name = &self.name;
        let unknown =
            promql::series(&self.expression).into_iter().filter(|series| !known.has(series));
        let mut problems: Vec<String> = unknown
            .map(|series| format!("{name} asks for {series}, which does not exist"))
            .collect();
        match &self.kind {
            Kind::Alert(rule) => problems.extend(alert_lacks(name, rule, tests)),
            Kind::Record if name.starts_with(RECORDS) => {}
            Kind::Record => {
                problems.push(format!("the record {name} does not begin with {RECORDS}"))
            }
        }
        problems
    }
}

fn rule(value: &Value) -> anyhow::Result<Rule> {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let expression = text("expr").with_context(|| format!("a rule without expr: {value}"))?;
    match (text("alert"), text("record")) {
        (Some(name), None) => {
            Ok(Rule { name, expression, kind: Kind::Alert(Box::new(value.clone())) })
        }
        (None, Some(name)) => Ok(Rule { name, expression, kind: Kind::Record }),
        (Some(_), Some(_)) | (None, None) => anyhow::bail!("neither alert nor record: {value}"),
    }
}

fn alert_lacks(name: &str, rule: &Value, tests: &Tests) -> Vec<String> {
    let mut lacks = Vec::new();
    if !rule["labels"]["severity"].as_str().is_some_and(|severity| SEVERITIES.contains(&severity)) {
        lacks.push(format!("{name} has no severity of {SEVERITIES:?}"));
    }
    let annotations = &rule["annotations"];
    let empty =
        ANNOTATIONS.iter().filter(|key| annotations[**key].as_str().is_none_or(str::is_empty));
    lacks.extend(empty.map(|key| format!("{name} has no {key}")));
    let section = format!("{}#{}", super::RUNBOOK, name.to_lowercase());
    if annotations["runbook_url"] != section.as_str() {
        lacks.push(format!("{name}: its runbook_url is not {section}"));
    }
    if !tests.fires.contains(name) {
        lacks.push(format!("no test lets {name} fire"));
    }
    if !tests.silent.contains(name) {
        lacks.push(format!("no test has {name} silent"));
    }
    lacks
}

/// Which alerts the tests expect to fire, and not to.
#[derive(Debug, Default)]
pub(super) struct Tests {
    fires: BTreeSet<String>,
    silent: BTreeSet<String>,
}

impl Tests {
    /// Takes in a file of tests.
    pub(super) fn add(&mut self, yaml: &str) -> anyhow::Result<()> {
        let file: Value = serde_saphyr::from_str(yaml)?;
        let tests = file["tests"].as_array().context("no list 'tests'")?;
        for test in
            tests.iter().flat_map(|test| test["alert_rule_test"].as_array().into_iter().flatten())
        {
            let name = test["alertname"].as_str().context("a test without alertname")?.to_owned();
            let expected = test["exp_alerts"].as_array().context("a test without exp_alerts")?;
            if expected.is_empty() {
                self.silent.insert(name)
            } else {
                self.fires.insert(name)
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
