//! The devices of a VM's domain: all of them virtio, none of them graphical.

use std::path::Path;

use ghost_core::ports::DomainSpec;

use super::{DirectIo, Files, NWFILTER, OVERLAY, Platform};
use crate::tuning::Tuning;
use crate::xml::Element;

/// Seconds between the balloon's reports of the guest's memory.
const BALLOON_PERIOD: u32 = 5;

pub(super) fn devices(spec: &DomainSpec, files: Files<'_>, platform: &Platform) -> Element {
    Element::new("devices")
        .child(disk(&spec.disk, files, &platform.tuning))
        .child(seed(&spec.seed))
        .child(Element::new("controller").attr("type", "usb").attr("model", "none"))
        .child(interface(spec, &platform.network))
        .child(serial(files.console_log))
        .child(guest_agent())
        .child(rng())
        .child(balloon())
}

fn source(path: &Path) -> Element {
    Element::new("source").attr("file", path.display())
}

fn file_disk() -> Element {
    Element::new("disk").attr("type", "file").attr("device", "disk")
}

fn target(dev: &str) -> Element {
    Element::new("target").attr("dev", dev).attr("bus", "virtio")
}

fn disk(overlay: &Path, files: Files<'_>, tuning: &Tuning) -> Element {
    let driver =
        Element::new("driver").attr("name", "qemu").attr("type", "qcow2").attr("discard", "unmap");
    // An error of the host's holds the guest until it is cured: told of it, the guest would damage its
    // file system, or go on read-only.
    let driver = driver.attr("error_policy", "stop").attr("rerror_policy", "stop");
    let driver = match files.direct {
        DirectIo::Known => driver.attr("cache", "none"),
        DirectIo::Unknown => driver,
    };
    file_disk()
        .child(driver)
        .child(source(overlay))
        .child(backing(files.base))
        .child(target(OVERLAY))
        .children(tuning.iotune())
}

/// The base image is shared and immutable: its owner and mode stay as they are.
fn backing(base: Option<&Path>) -> Element {
    let Some(base) = base else { return Element::new("backingStore") };
    let unchanged = Element::new("seclabel").attr("model", "dac").attr("relabel", "no");
    Element::new("backingStore")
        .attr("type", "file")
        .child(Element::new("format").attr("type", "qcow2"))
        .child(source(base).child(unchanged))
        .child(Element::new("backingStore"))
}

/// A virtio disk, because Debian's cloud kernels have no SATA and would not see a CD-ROM.
fn seed(seed: &Path) -> Element {
    let driver = Element::new("driver").attr("name", "qemu").attr("type", "raw");
    file_disk()
        .child(driver)
        .child(source(seed))
        .child(Element::new("backingStore"))
        .child(target("vdb"))
        .child(Element::new("readonly"))
}

fn interface(spec: &DomainSpec, network: &str) -> Element {
    let address = Element::new("parameter").attr("name", "IP").attr("value", spec.address);
    Element::new("interface")
        .attr("type", "network")
        .child(Element::new("mac").attr("address", spec.record.mac()))
        .child(Element::new("source").attr("network", network))
        .child(Element::new("model").attr("type", "virtio"))
        .child(Element::new("filterref").attr("filter", NWFILTER).child(address))
        .child(Element::new("port").attr("isolated", "yes"))
}

/// A terminal for people, and a log of the last start, which virtlogd keeps within its `max_size`
/// and `max_backups`.
fn serial(log: &Path) -> Element {
    Element::new("serial")
        .attr("type", "pty")
        .child(Element::new("log").attr("file", log.display()).attr("append", "off"))
        .child(Element::new("target").attr("port", 0))
}

fn guest_agent() -> Element {
    let target =
        Element::new("target").attr("type", "virtio").attr("name", "org.qemu.guest_agent.0");
    Element::new("channel").attr("type", "unix").child(target)
}

fn rng() -> Element {
    let backend = Element::new("backend").attr("model", "random").text("/dev/urandom");
    Element::new("rng").attr("model", "virtio").child(backend)
}

fn balloon() -> Element {
    let stats = Element::new("stats").attr("period", BALLOON_PERIOD);
    Element::new("memballoon").attr("model", "virtio").child(stats)
}
