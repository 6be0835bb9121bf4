//! The XML of a VM's domain. Invariant: everything that the guest can see follows from the
//! [`DomainSpec`] and the host's [`Platform`]; nothing is left to libvirt's or QEMU's guess of a
//! format, and the guest can speak from its own MAC and IP address only.

mod devices;

use std::path::Path;

use ghost_core::domain::{Arch, Firmware, VmId, VmName};
use ghost_core::ports::DomainSpec;

use uuid::Uuid;

use crate::acceleration::Acceleration;
use crate::failure::Failure;
use crate::mark::Mark;
use crate::tuning::Tuning;
use crate::xml::Element;

/// The filter that holds a guest to its own addresses; shipped with libvirt.
pub(crate) const NWFILTER: &str = "clean-traffic";

/// What the guest sees its overlay as.
pub(crate) const OVERLAY: &str = "vda";

/// What the host gives to all domains.
#[derive(Debug, Clone)]
pub(crate) struct Platform {
    /// The processor's architecture.
    pub(crate) arch: Arch,
    /// What runs the guest's code.
    pub(crate) acceleration: Acceleration,
    /// The network that VMs are attached to.
    pub(crate) network: String,
    /// The agent, for the domain's mark.
    pub(crate) agent: Uuid,
    /// What they are held to.
    pub(crate) tuning: Tuning,
}

/// Files beside those of the [`DomainSpec`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    /// The base image under the overlay.
    pub(crate) base: Option<&'a Path>,
    /// Where the console is logged to.
    pub(crate) console_log: &'a Path,
    /// Whether the overlay's file system can do without the host's page cache.
    pub(crate) direct: DirectIo,
}

/// Whether a file system knows `O_DIRECT`, which `cache='none'` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DirectIo {
    Known,
    Unknown,
}

impl DirectIo {
    /// Of the file system that holds the file. A memory file system has no other place than the cache.
    pub(crate) fn of(file: &Path) -> Self {
        /// `TMPFS_MAGIC` and `RAMFS_MAGIC` (linux/magic.h).
        const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];
        let folder = file.parent().unwrap_or(file);
        let kind = rustix::fs::statfs(folder).ok().and_then(|fs| u32::try_from(fs.f_type).ok());
        if kind.is_some_and(|kind| IN_MEMORY.contains(&kind)) { Self::Unknown } else { Self::Known }
    }
}

/// `ghost-NAME-` and the id's first 8 digits: readable, and unique even if a name is used again
/// while its former domain still goes away.
pub(crate) fn domain_name(name: &VmName, id: VmId) -> String {
    let id = id.to_string();
    format!("ghost-{name}-{}", id.get(..8).unwrap_or(&id))
}

/// The document that libvirt defines the domain from.
pub(crate) fn domain(
    spec: &DomainSpec,
    files: Files<'_>,
    platform: &Platform,
) -> Result<String, Failure> {
    let Platform { arch, acceleration, agent, .. } = platform;
    let record = &spec.record;
    let base = files.base.map(Path::to_string_lossy);
    let mark = Mark { agent: *agent, record, base: base.as_deref() }.element()?;
    let action = |name, action: &str| Element::new(name).text(action);
    let element = Element::new("domain")
        .attr(
            "type",
            match acceleration {
                Acceleration::Kvm => "kvm",
                Acceleration::Tcg => "qemu",
            },
        )
        .child(Element::new("name").text(domain_name(&record.name, record.id)))
        .child(Element::new("uuid").text(record.id))
        .child(Element::new("title").text(&record.name))
        .child(Element::new("metadata").child(mark))
        .child(Element::new("memory").attr("unit", "GiB").text(record.shape.ram.get()))
        .child(vcpu(record.shape.vcpus, &platform.tuning))
        .child(os(*arch, record.firmware.unwrap_or(Firmware::of(*arch))))
        .child(features(*arch, *acceleration))
        .child(cpu(*acceleration))
        .child(clock(*arch))
        .children(no_sleep(*arch))
        .child(action("on_poweroff", "destroy"))
        .child(action("on_reboot", "restart"))
        .child(action("on_crash", "destroy"))
        .child(devices::devices(spec, files, platform));
    element.render().map_err(|e| Failure::Xml { what: "the new domain", why: e.to_string() })
}

/// libvirt ties QEMU's other threads to the same CPUs (formatdomain, "CPU Allocation").
fn vcpu(count: impl ToString, tuning: &Tuning) -> Element {
    let vcpu = Element::new("vcpu").attr("placement", "static").text(count);
    match tuning.cpuset() {
        Some(cpus) => vcpu.attr("cpuset", cpus),
        None => vcpu,
    }
}

fn os(arch: Arch, firmware: Firmware) -> Element {
    let machine = match arch {
        Arch::X86_64 => "q35",
        Arch::Aarch64 => "virt",
    };
    let kind =
        Element::new("type").attr("arch", arch.as_str()).attr("machine", machine).text("hvm");
    let os = match firmware {
        Firmware::Bios => Element::new("os"),
        Firmware::Uefi => Element::new("os").attr("firmware", "efi"),
    };
    os.child(kind).child(Element::new("boot").attr("dev", "hd"))
}

fn features(arch: Arch, acceleration: Acceleration) -> Element {
    let features = Element::new("features").child(Element::new("acpi"));
    let features = match (arch, acceleration) {
        (Arch::X86_64, _) => features.child(Element::new("apic")),
        // The host's own is the only one that every KVM has; version 2 ends at 8 CPUs.
        (Arch::Aarch64, Acceleration::Kvm) => {
            features.child(Element::new("gic").attr("version", "host"))
        }
        (Arch::Aarch64, Acceleration::Tcg) => {
            features.child(Element::new("gic").attr("version", "3"))
        }
    };
    features.child(Element::new("pmu").attr("state", "off"))
}

/// A guest that sleeps by itself would be a VM that nobody can wake: ACPI's S3 and S4 are not offered.
/// Only x86 has them.
fn no_sleep(arch: Arch) -> Vec<Element> {
    let off = |name: &'static str| Element::new(name).attr("enabled", "no");
    match arch {
        Arch::X86_64 => {
            let states = [off("suspend-to-mem"), off("suspend-to-disk")];
            vec![Element::new("pm").children(states)]
        }
        Arch::Aarch64 => Vec::new(),
    }
}

fn cpu(acceleration: Acceleration) -> Element {
    match acceleration {
        Acceleration::Kvm => {
            Element::new("cpu").attr("mode", "host-passthrough").attr("migratable", "off")
        }
        Acceleration::Tcg => Element::new("cpu").attr("mode", "maximum"),
    }
}

/// UTC; on x86 without the timers that wake an idle guest's QEMU up.
fn clock(arch: Arch) -> Element {
    let timer = |name: &str| Element::new("timer").attr("name", name);
    let timers = match arch {
        Arch::X86_64 => vec![
            timer("rtc").attr("tickpolicy", "catchup"),
            timer("pit").attr("tickpolicy", "delay"),
            timer("hpet").attr("present", "no"),
        ],
        Arch::Aarch64 => Vec::new(),
    };
    Element::new("clock").attr("offset", "utc").children(timers)
}

#[cfg(test)]
pub(crate) mod tests;
