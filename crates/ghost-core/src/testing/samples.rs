//! Valid values to begin a test with.

use crate::domain::{Arch, Catalog, Firmware, Origin, Proof, Template, VmRequest, VmSpec};

/// A catalogue with the one template `debian-12`.
///
/// # Panics
/// Never: the literals are valid.
#[must_use]
#[expect(clippy::unwrap_used, reason = "the literals are valid")]
pub fn catalog() -> Catalog {
    let template = Template {
        name: "debian-12".parse().unwrap(),
        arch: Arch::HOST,
        url: "file:///images/debian-12.qcow2".parse().unwrap(),
        proof: Proof::Pinned("0".repeat(64).parse().unwrap()),
        default_user: "debian".to_owned(),
        min_disk: None,
        firmware: Firmware::of(Arch::HOST),
    };
    Catalog::new(Arch::HOST, [template])
}

/// The smallest VM of that name.
#[must_use]
pub fn request(name: &str) -> VmRequest {
    VmRequest {
        name: name.to_owned(),
        vcpu: 1,
        ram_gb: 1,
        disk_gb: 10,
        template: "debian-12".to_owned(),
        ..VmRequest::default()
    }
}

/// A command without a trace.
///
/// # Panics
/// If the id is not valid.
#[must_use]
#[expect(clippy::unwrap_used, reason = "for tests, which give a valid id")]
pub fn origin(request_id: &str) -> Origin {
    Origin { request_id: request_id.parse().unwrap(), traceparent: None }
}

/// The smallest VM of that name, parsed.
///
/// # Panics
/// If the name is not valid.
#[must_use]
#[expect(clippy::unwrap_used, reason = "for tests, which give a valid name")]
pub fn spec(name: &str) -> VmSpec {
    VmSpec::parse(request(name), &catalog()).unwrap()
}
