//! The published wire contract is exact, and only ever added to.
//!
//! `tests/agentpb.bin`, `tests/operations.bin` and `tests/control_plane.bin` are the encoded `FileDescriptorSet`s of the published
//! contracts, without comments. They are written again, after an addition, by:
//! `GHOST_BLESS_CONTRACT=1 cargo test -p ghost-proto --test contract`
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

fn copy(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn decode(bytes: &[u8]) -> FileDescriptorProto {
    let set: FileDescriptorSet = prost::Message::decode(bytes).expect("a descriptor set");
    // Imports come first.
    let mut file = set.file.into_iter().next_back().expect("a file");
    file.source_code_info = None;
    file
}

/// Everything that the contract says, one fact a line: what is on the wire, not how it is laid out.
fn facts(file: &FileDescriptorProto) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([("package".to_owned(), file.package().to_owned())]);
    for service in &file.service {
        for rpc in &service.method {
            let (from, to) = (rpc.input_type(), rpc.output_type());
            let streams = (rpc.client_streaming(), rpc.server_streaming());
            facts.insert(
                format!("{}.{}", service.name(), rpc.name()),
                format!("{from} -> {to} {streams:?}"),
            );
        }
    }
    file.message_type.iter().for_each(|message| message_facts("", message, &mut facts));
    facts
}

fn message_facts(scope: &str, message: &DescriptorProto, facts: &mut BTreeMap<String, String>) {
    let name = format!("{scope}{}", message.name());
    facts.insert(name.clone(), "message".to_owned());
    for field in &message.field {
        let what = format!(
            "{} {:?} {:?} {}",
            field.name(),
            field.label(),
            field.r#type(),
            field.type_name()
        );
        facts.insert(format!("{name}#{}", field.number()), what);
    }
    message.nested_type.iter().for_each(|nested| message_facts(&format!("{name}."), nested, facts));
}

/// What `published` says and `built` does not.
fn broken(published: &FileDescriptorProto, built: &FileDescriptorProto) -> Vec<String> {
    let now = facts(built);
    let gone = |(key, what): (&String, &String)| match now.get(key) {
        Some(same) if same == what => None,
        other => Some(format!("{key} was '{what}', is {other:?}")),
    };
    facts(published).iter().filter_map(gone).collect()
}

fn nothing_has_changed(name: &str, built: &[u8]) {
    let built = decode(built);
    if std::env::var_os("GHOST_BLESS_CONTRACT").is_some() {
        let set = FileDescriptorSet { file: vec![built.clone()] };
        std::fs::write(copy(name), prost::Message::encode_to_vec(&set))
            .expect("the copy is written");
    }
    let published = decode(&std::fs::read(copy(name)).expect("the checked-in copy"));
    assert_eq!(broken(&published, &built), Vec::<String>::new());
    assert_eq!(facts(&published), facts(&built), "the contract was added to: bless the copy");
}

#[test]
fn nothing_that_was_published_to_commanders_has_changed() {
    nothing_has_changed("agentpb.bin", ghost_proto::AGENT_DESCRIPTOR);
}

#[test]
fn nothing_that_was_published_to_operators_has_changed() {
    nothing_has_changed("operations.bin", ghost_proto::OPERATIONS_DESCRIPTOR);
}

#[test]
fn nothing_that_was_published_to_control_planes_has_changed() {
    nothing_has_changed("control_plane.bin", ghost_proto::CONTROL_PLANE_DESCRIPTOR);
}

/// The requirements' numbers, typed by hand: the copy itself can't be wrong unnoticed.
#[test]
fn the_contract_is_the_requirements() {
    let facts = facts(&decode(ghost_proto::AGENT_DESCRIPTOR));
    let text = "Optional String ";
    let number = "Optional Int32 ";
    let expected = [
        ("package", "agentpb".to_owned()),
        (
            "AgentService.CreateVM",
            ".agentpb.CreateVMRequest -> .agentpb.CreateVMResponse (false, false)".to_owned(),
        ),
        (
            "AgentService.ListVMs",
            ".agentpb.ListVMsRequest -> .agentpb.ListVMsResponse (false, false)".to_owned(),
        ),
        ("CreateVMRequest#1", format!("name {text}")),
        ("CreateVMRequest#2", format!("vcpu {number}")),
        ("CreateVMRequest#3", format!("ram_gb {number}")),
        ("CreateVMRequest#4", format!("disk_gb {number}")),
        ("CreateVMRequest#5", format!("template {text}")),
        (
            "CreateVMRequest#6",
            "metadata Repeated Message .agentpb.CreateVMRequest.MetadataEntry".to_owned(),
        ),
        ("CreateVMRequest#7", "ssh_authorized_keys Repeated String ".to_owned()),
        ("CreateVMRequest#8", format!("user_data {text}")),
        ("CreateVMRequest#9", format!("request_id {text}")),
        ("CreateVMResponse#1", format!("vm_id {text}")),
        ("CreateVMResponse#2", format!("ip_address {text}")),
        ("CreateVMResponse#3", format!("status {text}")),
        ("CreateVMResponse#4", format!("error {text}")),
        ("DeleteVMRequest#1", format!("vm_id {text}")),
        ("DeleteVMResponse#1", "success Optional Bool ".to_owned()),
        ("DeleteVMResponse#2", format!("error {text}")),
        ("StartVMRequest#1", format!("vm_id {text}")),
        ("StartVMResponse#1", format!("status {text}")),
        ("StartVMResponse#2", format!("error {text}")),
        ("StopVMRequest#1", format!("vm_id {text}")),
        ("StopVMRequest#2", "force Optional Bool ".to_owned()),
        ("StopVMResponse#1", format!("status {text}")),
        ("StopVMResponse#2", format!("error {text}")),
        ("GetVMStatusRequest#1", format!("vm_id {text}")),
        ("GetVMStatusResponse#1", format!("vm_id {text}")),
        ("GetVMStatusResponse#2", format!("name {text}")),
        ("GetVMStatusResponse#3", format!("status {text}")),
        ("GetVMStatusResponse#4", format!("vcpu {number}")),
        ("GetVMStatusResponse#5", format!("ram_gb {number}")),
        ("GetVMStatusResponse#6", format!("disk_gb {number}")),
        ("GetVMStatusResponse#7", format!("ip_address {text}")),
        ("GetVMStatusResponse#8", "uptime_seconds Optional Int64 ".to_owned()),
        ("GetVMStatusResponse#9", "cpu_usage_percent Optional Float ".to_owned()),
        ("GetVMStatusResponse#10", "ram_usage_percent Optional Float ".to_owned()),
        ("ListVMsRequest#1", format!("page_size {number}")),
        ("ListVMsRequest#2", format!("page_token {text}")),
        ("ListVMsRequest#3", format!("status {text}")),
        ("ListVMsResponse#1", "vms Repeated Message .agentpb.VMInfo".to_owned()),
        ("ListVMsResponse#2", format!("next_page_token {text}")),
        ("VMInfo#1", format!("vm_id {text}")),
        ("VMInfo#2", format!("name {text}")),
        ("VMInfo#3", format!("status {text}")),
        ("VMInfo#4", format!("ip_address {text}")),
    ];
    for (key, what) in expected {
        assert_eq!(facts.get(key), Some(&what), "{key}");
    }
}

#[test]
fn a_renumbered_retyped_or_removed_field_is_noticed() {
    let published = decode(ghost_proto::AGENT_DESCRIPTOR);
    let changed = |change: fn(&mut DescriptorProto)| {
        let mut built = published.clone();
        change(&mut built.message_type[0]);
        broken(&published, &built).len()
    };
    assert_eq!(changed(|_| ()), 0);
    assert!(changed(|m| m.field[0].number = Some(99)) > 0);
    assert!(changed(|m| m.field[1].set_type(prost_types::field_descriptor_proto::Type::Int64)) > 0);
    assert!(changed(|m| drop(m.field.remove(2))) > 0);
    assert!(changed(|m| m.field[0].name = Some("title".to_owned())) > 0);
    assert_eq!(changed(|m| m.field.reverse()), 0);
}
