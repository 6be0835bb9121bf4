//! The VM as it is asked for. Invariant: a [`VmSpec`] is within every limit of FR1.1, and its template
//! exists.

use std::collections::HashMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::AppError;
use super::guest_config::{Metadata, SSH_KEYS, SshKey, UserData};
use super::identity::{RequestId, VmName};
use super::image::{Catalog, Template, TemplateName};
use super::resources::{Allocation, Gib};
use super::validation::{Invalid, Violations};

/// A create as it came in, not yet looked at. Fields as in the wire contract.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "named and documented in agent.proto, CreateVMRequest")]
pub struct VmRequest {
    pub name: String,
    pub vcpu: i32,
    pub ram_gb: i32,
    pub disk_gb: i32,
    pub template: String,
    pub metadata: HashMap<String, String>,
    pub ssh_authorized_keys: Vec<String>,
    pub user_data: String,
    pub request_id: String,
}

/// The size of a VM: 1 to 32 vCPUs, 1 to 128 GiB of memory, 10 to 1000 GiB of disk (FR1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmShape {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub ram: Gib,
    /// Virtual size of the disk.
    pub disk: Gib,
}

impl VmShape {
    /// What the VM may take of the host at most.
    #[must_use]
    pub fn allocation(&self) -> Allocation {
        Allocation { vcpus: self.vcpus, ram: self.ram.bytes(), disk: self.disk.bytes() }
    }
}

/// A create that can be carried out.
#[derive(Debug, Clone)]
pub struct VmSpec {
    /// Unique on the agent.
    pub name: VmName,
    /// Its size.
    pub shape: VmShape,
    /// What its disk is a copy of.
    pub template: Template,
    /// The caller's labels.
    pub metadata: Metadata,
    /// Who may log in.
    pub ssh_keys: Vec<SshKey>,
    /// What cloud-init shall run.
    pub user_data: Option<UserData>,
    /// Makes a retry recognisable.
    pub request_id: Option<RequestId>,
}

impl VmSpec {
    /// Reads a request.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every wrong field.
    pub fn parse(request: VmRequest, catalog: &Catalog) -> Result<Self, AppError> {
        let mut wrong = Violations::default();
        let name = wrong.check("name", request.name.parse::<VmName>());
        let vcpus = wrong.check("vcpu", vcpus(request.vcpu));
        let ram = wrong.check("ram_gb", Gib::within(1..=128, request.ram_gb.into()));
        let disk = wrong.check("disk_gb", Gib::within(10..=1000, request.disk_gb.into()));
        let template =
            TemplateName::from_str(&request.template).and_then(|name| catalog.get(&name).cloned());
        let template = wrong.check("template", template);
        if let (Some(disk), Some(template)) = (disk, &template) {
            wrong.check("disk_gb", ensure_room_for(template, disk));
        }
        let metadata = Metadata::parse(request.metadata, &mut wrong);
        let ssh_keys = parse_keys(&request.ssh_authorized_keys, &mut wrong);
        let user_data = optional(&request.user_data, "user_data", &mut wrong);
        let request_id = optional(&request.request_id, "request_id", &mut wrong);
        let parsed = || {
            let shape = VmShape { vcpus: vcpus?, ram: ram?, disk: disk? };
            let (name, template) = (name?, template?);
            Some(Self { name, shape, template, metadata, ssh_keys, user_data, request_id })
        };
        let spec = parsed();
        wrong.finish(spec)
    }
}

fn vcpus(asked: i32) -> Result<u32, Invalid> {
    u32::try_from(asked)
        .ok()
        .filter(|n| (1..=32).contains(n))
        .ok_or_else(|| Invalid::new(format!("must be 1 to 32, not {asked}")))
}

fn ensure_room_for(template: &Template, disk: Gib) -> Result<(), Invalid> {
    match template.min_disk {
        Some(least) if disk < least => {
            Err(Invalid::new(format!("must be at least {} for {}", least.get(), template.name)))
        }
        Some(_) | None => Ok(()),
    }
}

fn parse_keys(keys: &[String], wrong: &mut Violations) -> Vec<SshKey> {
    if keys.len() > SSH_KEYS {
        wrong.add(
            "ssh_authorized_keys",
            format!("has {} keys, at most {SSH_KEYS} are allowed", keys.len()),
        );
        return Vec::new();
    }
    let parse =
        |(i, key): (usize, &String)| wrong.check(format!("ssh_authorized_keys[{i}]"), key.parse());
    keys.iter().enumerate().filter_map(parse).collect()
}

fn optional<T: FromStr<Err = Invalid>>(
    text: &str,
    field: &'static str,
    wrong: &mut Violations,
) -> Option<T> {
    if text.is_empty() { None } else { wrong.check(field, text.parse()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::image::{Arch, Firmware, Proof};

    fn catalog() -> Catalog {
        let template = Template {
            name: "debian-12".parse().unwrap(),
            arch: Arch::X86_64,
            url: "file:///a.qcow2".parse().unwrap(),
            proof: Proof::Pinned("0".repeat(64).parse().unwrap()),
            default_user: "debian".to_owned(),
            min_disk: None,
            firmware: Firmware::of(Arch::HOST),
        };
        Catalog::new(Arch::X86_64, [template])
    }

    fn request() -> VmRequest {
        VmRequest {
            name: "web-1".to_owned(),
            vcpu: 1,
            ram_gb: 1,
            disk_gb: 10,
            template: "debian-12".to_owned(),
            ..VmRequest::default()
        }
    }

    #[test]
    fn a_request_with_only_the_required_fields_is_enough() {
        let spec = VmSpec::parse(request(), &catalog()).unwrap();
        assert_eq!(spec.name.as_str(), "web-1");
        assert_eq!(spec.request_id, None);
    }

    #[test]
    fn every_wrong_field_is_reported_at_once() {
        let wrong = VmRequest {
            name: "../etc".to_owned(),
            vcpu: 33,
            ram_gb: 0,
            disk_gb: 9,
            template: "windows".to_owned(),
            metadata: [("UPPER".to_owned(), String::new())].into(),
            ssh_authorized_keys: vec!["nonsense".to_owned()],
            user_data: "nonsense".to_owned(),
            request_id: "has space".to_owned(),
        };
        let error = VmSpec::parse(wrong, &catalog()).unwrap_err();
        let fields: Vec<&str> = error.violations().iter().map(|v| v.field.as_ref()).collect();
        let expected = [
            "name",
            "vcpu",
            "ram_gb",
            "disk_gb",
            "template",
            "metadata",
            "ssh_authorized_keys[0]",
            "user_data",
            "request_id",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_disk_smaller_than_the_templates_system_needs_is_refused_before_any_download() {
        let row = Template {
            min_disk: Gib::within(1..=1000, 20).ok(),
            ..catalog().iter().next().unwrap().clone()
        };
        let catalog = Catalog::new(Arch::X86_64, [row]);
        let error = VmSpec::parse(request(), &catalog).unwrap_err();
        assert_eq!(error.to_string(), "disk_gb: must be at least 20 for debian-12");
        let enough = VmRequest { disk_gb: 20, ..request() };
        assert!(VmSpec::parse(enough, &catalog).is_ok());
    }

    proptest! {
        #[test]
        fn a_spec_that_exists_is_within_every_limit(
            name in "[a-z-]{0,70}", vcpu in -5i32..50, ram_gb in -5i32..150, disk_gb in -5i32..1100
        ) {
            let request = VmRequest { name, vcpu, ram_gb, disk_gb, ..request() };
            if let Ok(spec) = VmSpec::parse(request, &catalog()) {
                prop_assert!((1..=32).contains(&spec.shape.vcpus));
                prop_assert!((1..=128).contains(&spec.shape.ram.get()));
                prop_assert!((10..=1000).contains(&spec.shape.disk.get()));
            }
        }

        #[test]
        fn every_size_within_the_limits_is_accepted(vcpu in 1i32..=32, ram_gb in 1i32..=128, disk_gb in 10i32..=1000) {
            let request = VmRequest { vcpu, ram_gb, disk_gb, ..request() };
            prop_assert!(VmSpec::parse(request, &catalog()).is_ok());
        }
    }
}
