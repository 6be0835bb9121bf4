use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use ghost_core::domain::validation::Violations;
use ghost_core::domain::{Bytes, Gib, Metadata, VmRecord, VmShape, VmSpec};
use ghost_core::testing::samples;
use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::*;
use crate::mark::NAMESPACE;

/// The record of a small VM that is just being made.
pub(crate) fn record_of(id: VmId) -> VmRecord {
    let shape = VmShape { vcpus: 2, ram: gib(4), disk: gib(10) };
    let spec = VmSpec { shape, metadata: Metadata::default(), ..samples::spec("web-1") };
    let record = VmRecord::creating(id, &spec, "2026-01-02T03:04:05.678901234Z".parse().unwrap());
    VmRecord { firmware: None, ..record }
}

fn spec() -> DomainSpec {
    DomainSpec {
        record: record_of("00000000-0000-4000-8000-0000000a0b0c".parse().unwrap()),
        disk: "/pool/d.qcow2".into(),
        seed: "/pool/s.iso".into(),
        address: "192.0.2.7".parse().unwrap(),
    }
}

fn gib(n: i64) -> Gib {
    Gib::within(1..=1000, n).unwrap()
}

fn files() -> Files<'static> {
    Files {
        base: Some(Path::new("/base.qcow2")),
        console_log: Path::new("/pool/c.log"),
        direct: DirectIo::Known,
    }
}

fn platform(arch: Arch, acceleration: Acceleration) -> Platform {
    Platform {
        arch,
        acceleration,
        network: "default".to_owned(),
        agent: Uuid::nil(),
        tuning: Tuning::default(),
    }
}

fn x86() -> Platform {
    platform(Arch::X86_64, Acceleration::Kvm)
}

fn find<'a>(document: &'a Document<'a>, path: &str) -> Node<'a, 'a> {
    path.split('/').fold(document.root_element(), |node, name| {
        node.children()
            .find(|n| n.has_tag_name(name))
            .unwrap_or_else(|| panic!("no {name} of {path}"))
    })
}

fn attribute(xml: &str, path: &str, name: &str) -> Option<String> {
    let document = Document::parse(xml).unwrap();
    find(&document, path).attribute(name).map(str::to_owned)
}

#[test]
fn each_platform_has_its_own_firmware_interrupts_and_cpu() {
    use Acceleration::{Kvm, Tcg};
    let cases = [
        (Arch::X86_64, Kvm, "kvm", "q35", None, "host-passthrough", None),
        (Arch::X86_64, Tcg, "qemu", "q35", None, "maximum", None),
        (Arch::Aarch64, Kvm, "kvm", "virt", Some("efi"), "host-passthrough", Some("host")),
        (Arch::Aarch64, Tcg, "qemu", "virt", Some("efi"), "maximum", Some("3")),
    ];
    for (arch, acceleration, kind, machine, firmware, cpu, gic) in cases {
        let xml = domain(&spec(), files(), &platform(arch, acceleration)).unwrap();
        let document = Document::parse(&xml).unwrap();
        assert_eq!(document.root_element().attribute("type"), Some(kind));
        assert_eq!(find(&document, "os/type").attribute("machine"), Some(machine));
        assert_eq!(find(&document, "os").attribute("firmware"), firmware);
        assert_eq!(find(&document, "cpu").attribute("mode"), Some(cpu));
        let found = document
            .descendants()
            .find(|n| n.has_tag_name("gic"))
            .and_then(|n| n.attribute("version"));
        assert_eq!(found, gic);
    }
}

#[test]
fn the_guest_is_isolated_and_held_to_its_own_addresses() {
    let xml = domain(&spec(), files(), &x86()).unwrap();
    let of = |path: &str, name: &str| attribute(&xml, &format!("devices/interface/{path}"), name);
    assert_eq!(of("mac", "address").as_deref(), Some("52:54:00:0a:0b:0c"));
    assert_eq!(of("port", "isolated").as_deref(), Some("yes"));
    assert_eq!(of("filterref", "filter").as_deref(), Some("clean-traffic"));
    assert_eq!(of("filterref/parameter", "name").as_deref(), Some("IP"));
    assert_eq!(of("filterref/parameter", "value").as_deref(), Some("192.0.2.7"));
}

#[test]
fn no_format_is_left_to_a_guess_and_the_base_image_keeps_its_owner() {
    let xml = domain(&spec(), files(), &x86()).unwrap();
    let of = |path: &str, name: &str| attribute(&xml, &format!("devices/disk/{path}"), name);
    assert_eq!(of("driver", "type").as_deref(), Some("qcow2"));
    assert_eq!(of("backingStore/format", "type").as_deref(), Some("qcow2"));
    assert_eq!(of("backingStore/source", "file").as_deref(), Some("/base.qcow2"));
    assert_eq!(of("backingStore/source/seclabel", "relabel").as_deref(), Some("no"));
    let document = Document::parse(&xml).unwrap();
    let formats =
        document.descendants().filter(|n| n.has_tag_name("driver")).map(|n| n.attribute("type"));
    assert_eq!(formats.collect::<Vec<_>>(), [Some("qcow2"), Some("raw")]);
}

#[test]
fn an_error_of_the_overlay_holds_the_guest_and_one_of_the_seed_does_not() {
    let xml = domain(&spec(), files(), &x86()).unwrap();
    let document = Document::parse(&xml).unwrap();
    let policies: Vec<_> = document
        .descendants()
        .filter(|n| n.has_tag_name("driver"))
        .map(|n| (n.attribute("error_policy"), n.attribute("rerror_policy")))
        .collect();
    assert_eq!(policies, [(Some("stop"), Some("stop")), (None, None)]);
}

#[test]
fn a_file_system_in_memory_is_not_asked_to_do_without_its_memory() {
    let cache = |direct| {
        attribute(
            &domain(&spec(), Files { direct, ..files() }, &x86()).unwrap(),
            "devices/disk/driver",
            "cache",
        )
    };
    assert_eq!(cache(DirectIo::Known).as_deref(), Some("none"));
    assert_eq!(cache(DirectIo::Unknown), None);
    assert_eq!(DirectIo::of(Path::new("/dev/shm/disk.qcow2")), DirectIo::Unknown);
    assert_eq!(DirectIo::of(Path::new("/proc/disk.qcow2")), DirectIo::Known);
}

#[test]
fn only_what_every_host_can_keep_of_the_owners_limits_is_in_the_definition() {
    let plain = domain(&spec(), files(), &x86()).unwrap();
    let tuning = Tuning {
        cpus: vec![1, 3],
        cpu_weight: NonZeroU32::new(512),
        io_weight: NonZeroU32::new(50),
        memory_overhead: Some(Bytes(1 << 30)),
        disk_read_bytes_per_s: NonZeroU64::new(10),
        disk_write_bytes_per_s: NonZeroU64::new(20),
        disk_iops: NonZeroU64::new(30),
        net_in_kbytes_per_s: NonZeroU32::new(40),
        net_out_kbytes_per_s: NonZeroU32::new(60),
    };
    let xml = domain(&spec(), files(), &Platform { tuning, ..x86() }).unwrap();
    let lines = |xml: &str| xml.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let plain = lines(&plain);
    let added: Vec<_> = lines(&xml).into_iter().filter(|line| !plain.contains(line)).collect();
    let expected = [
        "<vcpu placement=\"static\" cpuset=\"1,3\">2</vcpu>",
        "<iotune>",
        "<total_iops_sec>30</total_iops_sec>",
        "<read_bytes_sec>10</read_bytes_sec>",
        "<write_bytes_sec>20</write_bytes_sec>",
        "</iotune>",
    ];
    assert_eq!(added, expected);
}

#[test]
fn a_domain_has_a_readable_name_that_is_not_used_twice() {
    let name: VmName = "web-1".parse().unwrap();
    let [a, b] = [VmId::generate(), VmId::generate()].map(|id| domain_name(&name, id));
    assert!(a.starts_with("ghost-web-1-") && a.len() == "ghost-web-1-".len() + 8);
    assert_ne!(a, b);
}

proptest! {
    #[test]
    fn whatever_labels_and_paths_hold_the_reader_finds_it_and_nothing_else(
        labels in proptest::collection::btree_map("[a-z0-9._/-]{1,63}", "[ -~äß\u{fdd0}<>&'\"]{0,60}", 0..8),
        disk in "/[ -~]{1,60}",
        network in "[ -~]{1,20}",
    ) {
        let metadata = Metadata::parse(labels.clone(), &mut Violations::default());
        let record = VmRecord { metadata, ..spec().record };
        let spec = DomainSpec { record, disk: disk.clone().into(), ..spec() };
        let platform = Platform { network: network.clone(), ..x86() };
        let xml = domain(&spec, files(), &platform).unwrap();
        let document = Document::parse(&xml).unwrap();
        let label = |n: Node<'_, '_>| (n.attribute("key").unwrap().to_owned(), n.text().unwrap_or_default().to_owned());
        let read = document.descendants().filter(|n| n.has_tag_name((NAMESPACE, "label"))).map(label);
        prop_assert_eq!(read.collect::<BTreeMap<_, _>>(), labels);
        prop_assert_eq!(find(&document, "devices/disk/source").attribute("file"), Some(disk.as_str()));
        prop_assert_eq!(find(&document, "devices/interface/source").attribute("network"), Some(network.as_str()));
        let disks = document.descendants().filter(|n| n.has_tag_name("disk")).count();
        prop_assert_eq!(disks, 2);
    }
}
