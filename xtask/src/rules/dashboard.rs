//! The dashboard, as Grafana's JSON. Invariant: a [`Dashboard`] is an object with panels; what is wrong with those is told.
//!
//! Source of the fields: <https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/>.

mod grid;

use std::collections::BTreeSet;

use anyhow::Context;
use serde_json::Value;

use super::metrics::Metrics;
use super::promql;

/// Grafana 10 and newer read it as it is.
const OLDEST_SCHEMA: u64 = 39;
/// By which links to it, and its next version, find it.
const UID: &str = "ghost-agent";
/// Whoever imports it has a data source of his own.
const DATASOURCE: &str = "${datasource}";
/// Each panel shows the agents that were chosen.
const CHOSEN: &str = "instance=~\"$instance\"";

/// A dashboard.
#[derive(Debug)]
pub(super) struct Dashboard {
    whole: Value,
    panels: Vec<Value>,
}

impl Dashboard {
    pub(super) fn parse(json: &str) -> anyhow::Result<Self> {
        let whole: Value = serde_json::from_str(json)?;
        let top = whole["panels"].as_array().context("no list 'panels'")?;
        let inside = |panel: &Value| panel["panels"].as_array().cloned().unwrap_or_default();
        let panels =
            top.iter().flat_map(|panel| std::iter::once(panel.clone()).chain(inside(panel)));
        Ok(Self { panels: panels.collect(), whole })
    }

    /// Each PromQL expression that Grafana would send, its variables not filled in.
    pub(super) fn expressions(&self) -> Vec<String> {
        let of_panels = self.panels.iter().flat_map(targets);
        let of_annotations = list(&self.whole["annotations"]["list"]);
        let all = of_panels.chain(of_annotations).filter_map(|target| target["expr"].as_str());
        all.map(str::to_owned).collect()
    }

    /// What is wrong with it.
    pub(super) fn problems(&self, known: &Metrics) -> Vec<String> {
        let mut problems = self.frame();
        problems.extend(self.variables(known));
        let mut ids = BTreeSet::new();
        for panel in &self.panels {
            if panel["id"].as_u64().is_none_or(|id| !ids.insert(id)) {
                problems.push(format!("panel {}: no id, or one that another has", panel["title"]));
            }
            problems.extend(panel_lacks(panel));
        }
        problems.extend(grid::problems(&self.panels));
        for expression in self.expressions() {
            let unknown = promql::series(&expression).into_iter().filter(|name| !known.has(name));
            problems.extend(unknown.map(|name| format!("{name} does not exist: {expression}")));
            if !expression.contains(CHOSEN) {
                problems.push(format!("not of the chosen agents: {expression}"));
            }
        }
        problems
    }

    fn frame(&self) -> Vec<String> {
        let whole = &self.whole;
        let mut lacks = Vec::new();
        if whole["uid"] != UID {
            lacks.push(format!("its uid is not {UID}"));
        }
        if !whole["id"].is_null() {
            lacks.push("its id is of one Grafana: it must be null".to_owned());
        }
        if whole["title"].as_str().is_none_or(str::is_empty) {
            lacks.push("it has no title".to_owned());
        }
        if whole["schemaVersion"].as_u64().is_none_or(|version| version < OLDEST_SCHEMA) {
            lacks.push(format!("its schemaVersion is below {OLDEST_SCHEMA}"));
        }
        lacks
    }

    fn variables(&self, known: &Metrics) -> Vec<String> {
        let all = list(&self.whole["templating"]["list"]);
        let named = |name: &str, kind: &str| {
            all.iter().find(|variable| variable["name"] == name && variable["type"] == kind)
        };
        let mut lacks = Vec::new();
        if named("datasource", "datasource").is_none() {
            lacks.push("no variable 'datasource'".to_owned());
        }
        let query = named("instance", "query").and_then(|found| found["query"]["query"].as_str());
        let series = query
            .and_then(|query| query.strip_prefix("label_values("))
            .and_then(|query| query.rsplit_once(','))
            .map(|(series, _label)| promql::series(series));
        match series {
            None => lacks.push("no variable 'instance' with label_values(…)".to_owned()),
            Some(series) if series.iter().all(|name| known.has(name)) => {}
            Some(series) => lacks.push(format!("the variable 'instance' asks for {series:?}")),
        }
        lacks
    }
}

/// The elements, if it is a list.
fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn targets(panel: &Value) -> &[Value] {
    list(&panel["targets"])
}

fn panel_lacks(panel: &Value) -> Vec<String> {
    let title = panel["title"].as_str().unwrap_or_default();
    let mut lacks = Vec::new();
    if title.is_empty() || panel["type"].as_str().is_none_or(str::is_empty) {
        lacks.push(format!("panel {}: no title or no type", panel["id"]));
    }
    if panel["type"] == "row" {
        return lacks;
    }
    if panel["description"].as_str().is_none_or(str::is_empty) {
        lacks.push(format!("panel '{title}': no description"));
    }
    let sources = targets(panel).iter().chain([panel]).map(|of| &of["datasource"]["uid"]);
    if !sources.into_iter().all(|uid| uid == DATASOURCE) {
        lacks.push(format!("panel '{title}': a data source that is not {DATASOURCE}"));
    }
    let mut references = BTreeSet::new();
    let fine = |target: &Value| {
        target["expr"].as_str().is_some_and(|expression| !expression.is_empty())
            && target["refId"].as_str().is_some_and(|id| references.insert(id.to_owned()))
    };
    if targets(panel).is_empty() || !targets(panel).iter().all(fine) {
        lacks.push(format!("panel '{title}': no query, or two of one refId"));
    }
    lacks
}

#[cfg(test)]
mod tests;
