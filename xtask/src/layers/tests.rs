use serde_json::json;

use super::*;

/// The workspace of one crate `from` that depends on `to`, and of all crates the table names.
fn found(from: &str, to: &Value) -> Vec<String> {
    let mut all: Vec<_> = MAY_KNOW
        .iter()
        .filter(|(name, _)| *name != from)
        .map(|(name, _)| json!({ "name": name, "dependencies": [] }))
        .collect();
    all.push(json!({ "name": from, "dependencies": [to] }));
    violations(&packages(&json!({ "packages": all })).unwrap())
}

fn normal(name: &str, features: &[&str]) -> Value {
    json!({ "name": name, "kind": null, "features": features })
}

fn dev(name: &str, features: &[&str]) -> Value {
    json!({ "name": name, "kind": "dev", "features": features })
}

#[test]
fn a_drawn_edge_passes() {
    assert_eq!(found("ghost-agent", &normal("ghost-libvirt", &[])), Vec::<String>::new());
}

#[test]
fn the_core_knows_no_adapter() {
    assert_eq!(found("ghost-core", &normal("ghost-libvirt", &[])), ["ghost-core -> ghost-libvirt"]);
}

#[test]
fn agentctl_sees_only_the_contract() {
    assert_eq!(found("agentctl", &normal("ghost-core", &[])), ["agentctl -> ghost-core"]);
}

#[test]
fn a_dev_dependency_is_an_edge_too() {
    assert_eq!(found("ghost-host", &dev("ghost-libvirt", &[])), ["ghost-host -> ghost-libvirt"]);
}

#[test]
fn what_is_for_tests_is_known_to_tests_only() {
    assert_eq!(found("ghost-agent", &dev("ghost-otlp", &[])), Vec::<String>::new());
    assert_eq!(found("ghost-agent", &normal("ghost-otlp", &[])), ["ghost-agent -> ghost-otlp"]);
}

#[test]
fn a_build_dependency_is_an_edge_too() {
    let build = json!({ "name": "ghost-core", "kind": "build", "features": [] });
    assert_eq!(found("ghost-proto", &build), ["ghost-proto -> ghost-core"]);
}

#[test]
fn the_cores_tests_may_name_the_core() {
    assert_eq!(found("ghost-core", &dev("ghost-core", &["testing"])), Vec::<String>::new());
}

#[test]
fn a_crate_that_the_table_does_not_name_is_refused() {
    assert_eq!(
        found("ghost-new", &normal("serde", &[])),
        ["ghost-new is not in the table of layers"]
    );
}

#[test]
fn the_core_takes_no_transport() {
    assert_eq!(found("ghost-core", &normal("tonic", &[])), ["ghost-core -> tonic (external)"]);
}

#[test]
fn the_core_takes_of_tokio_only_what_needs_no_runtime() {
    assert_eq!(found("ghost-core", &normal("tokio", &["sync"])), Vec::<String>::new());
    assert_eq!(
        found("ghost-core", &normal("tokio", &["sync", "rt", "time"])),
        ["ghost-core -> tokio with rt, time"]
    );
}

#[test]
fn the_cores_tests_may_have_a_runtime() {
    assert_eq!(found("ghost-core", &dev("tokio", &["rt", "macros"])), Vec::<String>::new());
}

#[test]
fn what_cargo_did_not_write_is_an_error_not_an_empty_workspace() {
    assert!(packages(&json!({})).is_err());
}
