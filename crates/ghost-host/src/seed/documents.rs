//! The seed's documents, as data. Invariant: they are JSON made by a serializer, and so YAML into
//! which nothing can be injected.

use std::collections::BTreeMap;

use ghost_core::domain::{MacAddr, SshKey, VmName};
use ghost_core::ports::SeedSpec;
use serde::Serialize;
use serde_json::json;

use super::yaml_json;

/// The card's name in the guest. Without `set-name` some of cloud-init's renderers (sysconfig, eni)
/// configure a card that is called like the entry, which then must exist.
const CARD: &str = "eth0";

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct MetaData<'a> {
    instance_id: String,
    local_hostname: &'a VmName,
    ghost: Ghost<'a>,
}

#[derive(Serialize)]
struct Ghost<'a> {
    labels: BTreeMap<&'a str, &'a str>,
}

/// `meta-data` (cloud-init, "NoCloud").
pub(super) fn meta_data(spec: &SeedSpec) -> Result<String, serde_json::Error> {
    yaml_json::to_string(&MetaData {
        instance_id: spec.id.to_string(),
        local_hostname: &spec.name,
        ghost: Ghost { labels: spec.metadata.iter().collect() },
    })
}

/// `network-config`, version 2 (cloud-init, "Networking config Version 2").
///
/// `dhcp-identifier: mac` makes systemd-networkd ask with the Ethernet address, by which the VM's
/// address is reserved, and not with an identifier that changes with the machine id.
pub(super) fn network_config(spec: &SeedSpec) -> Result<String, serde_json::Error> {
    let mac = MacAddr::of(spec.id).to_string();
    let card = json!({
        "match": { "macaddress": mac },
        "set-name": CARD,
        "dhcp4": true,
        "dhcp-identifier": "mac",
    });
    yaml_json::to_string(&json!({ "version": 2, "ethernets": { CARD: card } }))
}

#[derive(Serialize)]
struct CloudConfig<'a> {
    hostname: &'a VmName,
    preserve_hostname: bool,
    system_info: serde_json::Value,
    ssh_authorized_keys: Vec<&'a str>,
    ssh_pwauth: bool,
    disable_root: bool,
    growpart: serde_json::Value,
    resize_rootfs: bool,
    package_update: bool,
}

/// The agent's own cloud-config.
///
/// The keys go to the image's default user, which is called `default_user`: keys at the top level are
/// the default user's, and `system_info` names that user whatever the image calls it.
pub(super) fn cloud_config(spec: &SeedSpec) -> Result<String, serde_json::Error> {
    let config = CloudConfig {
        hostname: &spec.name,
        preserve_hostname: false,
        system_info: json!({ "default_user": { "name": spec.default_user } }),
        ssh_authorized_keys: spec.ssh_keys.iter().map(SshKey::as_str).collect(),
        ssh_pwauth: false,
        disable_root: true,
        growpart: json!({ "mode": "auto", "devices": ["/"], "ignore_growroot_disabled": false }),
        resize_rootfs: true,
        package_update: false,
    };
    Ok(format!("#cloud-config\n{}", yaml_json::to_string(&config)?))
}
