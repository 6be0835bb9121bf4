use serde_json::json;

use super::*;

/// A dashboard of one row and two panels with nothing wrong.
fn good() -> Value {
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let panel = |id: u64, x: u64| {
        json!({
            "id": id, "type": "stat", "title": format!("p{id}"), "description": "d",
            "datasource": source.clone(), "gridPos": { "x": x, "y": 1, "w": 12, "h": 4 },
            "targets": [{ "datasource": source.clone(), "refId": "A", "expr": "ghost_a{instance=~\"$instance\"}" }],
        })
    };
    json!({
        "uid": "ghost-agent", "id": null, "title": "t", "schemaVersion": 39,
        "templating": { "list": [
            { "name": "datasource", "type": "datasource" },
            { "name": "instance", "type": "query", "query": { "query": "label_values(ghost_a{b=\"c,d\"}, instance)" } },
        ] },
        "panels": [
            { "id": 1, "type": "row", "title": "r", "gridPos": { "x": 0, "y": 0, "w": 24, "h": 1 } },
            panel(2, 0), panel(3, 12),
        ],
    })
}

fn found(dashboard: &Value) -> Vec<String> {
    let known = Metrics::read("| `ghost_a` | gauge |");
    Dashboard::parse(&dashboard.to_string()).unwrap().problems(&known)
}

/// What is found when the value at that place is another.
fn with(place: &str, value: Value) -> String {
    let mut changed = good();
    *changed.pointer_mut(place).unwrap() = value;
    found(&changed).join("; ")
}

#[test]
fn a_good_dashboard_is_good() {
    assert_eq!(found(&good()), Vec::<String>::new());
}

#[test]
fn the_frame_is_looked_at() {
    assert_eq!(with("/uid", json!("x")), "its uid is not ghost-agent");
    assert_eq!(with("/id", json!(7)), "its id is of one Grafana: it must be null");
    assert_eq!(with("/title", json!("")), "it has no title");
    assert_eq!(with("/schemaVersion", json!(16)), "its schemaVersion is below 39");
    assert_eq!(with("/templating/list/0/name", json!("x")), "no variable 'datasource'");
    let other = json!("label_values(ghost_b, instance)");
    let asks = "the variable 'instance' asks for {\"ghost_b\"}";
    assert_eq!(with("/templating/list/1/query/query", other), asks);
    assert!(Dashboard::parse("{}").is_err());
}

#[test]
fn panels_are_looked_at() {
    assert_eq!(with("/panels/1/id", json!(3)), "panel \"p3\": no id, or one that another has");
    assert_eq!(with("/panels/1/description", json!("")), "panel 'p2': no description");
    let own = "panel 'p2': a data source that is not ${datasource}";
    assert_eq!(with("/panels/1/datasource/uid", json!("abc")), own);
    assert_eq!(with("/panels/1/targets/0/datasource/uid", json!("abc")), own);
    let none = "panel 'p2': no query, or two of one refId";
    assert_eq!(with("/panels/1/targets", json!([])), none);
}

#[test]
fn queries_are_looked_at() {
    let expression = |text: &str| with("/panels/1/targets/0/expr", json!(text));
    let unknown = "ghost_b{instance=~\"$instance\"}";
    assert_eq!(expression(unknown), format!("ghost_b does not exist: {unknown}"));
    assert_eq!(expression("ghost_a"), "not of the chosen agents: ghost_a");
}

#[test]
fn panels_lie_side_by_side_on_the_grid() {
    assert_eq!(with("/panels/2/gridPos/x", json!(11)), "panel \"p3\" is over \"p2\"");
    assert_eq!(with("/panels/2/gridPos/x", json!(13)), "panel \"p3\": no place on the grid");
    assert_eq!(
        with("/panels/0/gridPos/h", json!(2)),
        "panel \"p2\" is over \"r\"; panel \"p3\" is over \"r\""
    );
    assert_eq!(with("/panels/2/gridPos", json!({})), "panel \"p3\": no place on the grid");
}
