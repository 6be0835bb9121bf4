//! Domains under QEMU. No guest boots: the disk is empty.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use ghost_core::domain::{ErrorKind, OffCause, PowerState};
use ghost_core::ports::HypervisorEvent::{Power, Undefined};

use crate::world::{self, Base, Vm, event, virsh};

#[tokio::test]
async fn real_qemu_a_vm_is_made_run_and_removed_without_a_trace() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    let (hypervisor, mut events) = (libvirt.hypervisor(), libvirt.events().subscribe());
    let before = std::fs::metadata(base.path()).unwrap();
    let owner_of_base = || {
        let now = std::fs::metadata(base.path()).unwrap();
        (now.uid(), now.gid(), now.mode())
    };

    world::defined(&libvirt, &base, &vm).await;
    event(&mut events, &Power(vm.0, PowerState::Off(OffCause::Unknown))).await;
    hypervisor.ensure_started(vm.0).await.unwrap();
    event(&mut events, &Power(vm.0, PowerState::Running)).await;
    let seen = hypervisor.observe().await.unwrap();
    let seen = seen.iter().find(|seen| seen.id == vm.0).unwrap();
    assert_eq!(seen.power, PowerState::Running);
    assert!(!seen.cpu_time.is_zero());
    assert_eq!(
        owner_of_base(),
        (before.uid(), before.gid(), before.mode()),
        "libvirt took the base image over"
    );

    hypervisor.ensure_started(vm.0).await.unwrap();
    hypervisor.ask_to_power_off(vm.0).await.unwrap();
    hypervisor.ensure_off(vm.0).await.unwrap();
    event(&mut events, &Power(vm.0, PowerState::Off(OffCause::Cut))).await;
    hypervisor.ensure_off(vm.0).await.unwrap();
    hypervisor.ask_to_power_off(vm.0).await.unwrap();
    assert_eq!(
        owner_of_base(),
        (before.uid(), before.gid(), before.mode()),
        "libvirt took the base image over"
    );

    hypervisor.ensure_undefined(vm.0).await.unwrap();
    event(&mut events, &Undefined(vm.0)).await;
    hypervisor.ensure_undefined(vm.0).await.unwrap();
    libvirt.storage().ensure_no_overlay(vm.0).await.unwrap();
    libvirt.storage().ensure_no_seed(vm.0).await.unwrap();
    libvirt.network().release_address(vm.0).await.unwrap();
    assert_eq!(world::traces(vm.0), "");
}

#[tokio::test]
async fn real_qemu_a_running_domain_is_removed_with_its_power() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    world::defined(&libvirt, &base, &vm).await;
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    libvirt.hypervisor().ensure_undefined(vm.0).await.unwrap();
    assert!(!virsh(&["list", "--all", "--uuid"]).contains(&vm.0.to_string()));
}

#[tokio::test]
async fn real_qemu_a_held_guest_is_seen_as_paused_with_the_reason_and_goes_on_when_started() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    let mut events = libvirt.events().subscribe();
    world::defined(&libvirt, &base, &vm).await;
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    virsh(&["suspend", &vm.0.to_string()]);
    event(&mut events, &Power(vm.0, PowerState::Paused("user"))).await;
    let seen = libvirt.hypervisor().observe().await.unwrap();
    assert_eq!(seen.iter().find(|seen| seen.id == vm.0).unwrap().power, PowerState::Paused("user"));
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    event(&mut events, &Power(vm.0, PowerState::Running)).await;
}

#[tokio::test]
async fn real_qemu_vms_made_before_the_agent_was_started_are_known_to_it() {
    let (before, base, vm) = (world::real().await, Base::new(), Vm::new());
    world::defined(&before, &base, &vm).await;
    before.shutdown().await;
    let after = world::real().await;
    let mut events = after.events().subscribe();
    virsh(&["undefine", &vm.0.to_string()]);
    event(&mut events, &Undefined(vm.0)).await;
}

#[tokio::test]
async fn real_qemu_a_qemu_that_dies_is_seen_as_crashed() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    let mut events = libvirt.events().subscribe();
    world::defined(&libvirt, &base, &vm).await;
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    let name = virsh(&["domname", &vm.0.to_string()]);
    let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{}.pid", name.trim())).unwrap();
    let kill = |program: &str, rest: &[&str]| {
        Command::new(program).args(rest).args(["-KILL", pid.trim()]).status()
    };
    assert!(
        kill("kill", &[]).unwrap().success() || kill("sudo", &["-n", "kill"]).unwrap().success()
    );
    event(&mut events, &Power(vm.0, PowerState::Crashed)).await;
}

#[tokio::test]
async fn real_qemu_the_domain_tells_whose_it_is_and_what_it_is_made_of() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    world::defined(&libvirt, &base, &vm).await;
    let xml = virsh(&["dumpxml", &vm.0.to_string()]);
    let wanted = [
        format!("<name>ghost-suite-vm-{}</name>", &vm.0.to_string()[..8]),
        "<title>suite-vm</title>".to_owned(),
        "https://ghost.cloud/agent/1".to_owned(),
        "&lt;a&gt; &amp; 'b'</ghost:label>".to_owned(),
        format!("<source file='{}'>", base.path().display()),
        "<filterref filter='clean-traffic'>".to_owned(),
        "<port isolated='yes'/>".to_owned(),
        "<stats period='5'/>".to_owned(),
    ];
    for text in wanted {
        assert!(xml.contains(&text), "{text} is not in {xml}");
    }
    assert!(!xml.contains("<graphics") && !xml.contains("type='tablet'"), "{xml}");
}

#[tokio::test]
async fn real_qemu_defining_again_replaces_the_definition() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    let spec = world::defined(&libvirt, &base, &vm).await;
    let mut larger = spec.clone();
    larger.record.shape.vcpus = 2;
    libvirt.hypervisor().define(&larger).await.unwrap();
    assert!(virsh(&["dumpxml", &vm.0.to_string()]).contains(">2</vcpu>"));
}

#[tokio::test]
async fn real_qemu_a_domain_without_our_mark_is_never_touched() {
    let (libvirt, vm) = (world::real().await, Vm::new());
    let foreign = tempfile::NamedTempFile::new().unwrap();
    // A copy keeps the mark of the VM it was copied from.
    let copied = format!(
        "<metadata><g:vm xmlns:g='https://ghost.cloud/agent/1' id='{}'/></metadata>",
        Vm::new().0
    );
    for metadata in ["", &copied] {
        let xml = format!(
            "<domain type='qemu'><name>ghost-suite-foreign</name><uuid>{}</uuid>{metadata}<memory unit='MiB'>16</memory>\
             <os><type arch='{}'>hvm</type></os></domain>",
            vm.0,
            std::env::consts::ARCH
        );
        std::fs::write(foreign.path(), xml).unwrap();
        virsh(&["define", foreign.path().to_str().unwrap()]);
        let before = virsh(&["dumpxml", &vm.0.to_string()]);
        assert!(before.contains("ghost-suite-foreign"), "{before}");
        let spec = world::spec(vm.0, "/d".into(), "/s".into(), std::net::Ipv4Addr::LOCALHOST);
        let hypervisor = libvirt.hypervisor();
        let refused = [
            hypervisor.define(&spec).await,
            hypervisor.ensure_started(vm.0).await,
            hypervisor.ask_to_power_off(vm.0).await,
            hypervisor.ensure_off(vm.0).await,
            hypervisor.ensure_undefined(vm.0).await,
        ];
        for result in refused {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::HypervisorFailed);
            assert!(error.to_string().contains("was not made by the agent"), "{error}");
        }
        assert!(!hypervisor.observe().await.unwrap().iter().any(|seen| seen.id == vm.0));
        assert_eq!(virsh(&["dumpxml", &vm.0.to_string()]), before);
    }
}

#[tokio::test]
async fn real_qemu_what_needs_a_domain_says_that_there_is_none() {
    let (libvirt, vm) = (world::real().await, Vm::new());
    let error = libvirt.hypervisor().ensure_started(vm.0).await.unwrap_err();
    // The VM may well be there: only its domain is not.
    assert_eq!(error.kind(), ErrorKind::HypervisorFailed);
    assert!(error.to_string().contains("defined again"), "{error}");
    assert_eq!(
        libvirt.hypervisor().ask_to_power_off(vm.0).await.unwrap_err().kind(),
        ErrorKind::HypervisorFailed
    );
    libvirt.hypervisor().ensure_off(vm.0).await.unwrap();
    libvirt.hypervisor().ensure_undefined(vm.0).await.unwrap();
}

#[tokio::test]
async fn real_qemu_the_console_log_is_read_and_removed_with_its_older_parts() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    world::defined(&libvirt, &base, &vm).await;
    assert_eq!(libvirt.hypervisor().console_tail(vm.0, 10).await.unwrap(), "");
    let text = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(text.path(), "one\r\n\x1b[1mtwo\x1b[0m\r\nthree\r\n").unwrap();
    let log = format!("ghost-{}-console.log", vm.0);
    let upload = |volume: &str| {
        virsh(&["vol-upload", volume, text.path().to_str().unwrap(), "--pool", "default"])
    };
    upload(&log);
    assert_eq!(libvirt.hypervisor().console_tail(vm.0, 2).await.unwrap(), "two\nthree");
    for part in [0, 1] {
        virsh(&["vol-create-as", "default", &format!("{log}.{part}"), "0", "--format", "raw"]);
    }
    libvirt.hypervisor().ensure_undefined(vm.0).await.unwrap();
    assert!(!virsh(&["vol-list", "default"]).contains(&log));
    assert_eq!(libvirt.hypervisor().console_tail(vm.0, 2).await.unwrap(), "");
}
