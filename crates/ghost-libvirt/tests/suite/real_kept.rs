//! What libvirt keeps of the agent's domains, and those that lost their definition.

use ghost_core::domain::{Definition, Kept, OffCause, PowerState, VmId};
use ghost_core::ports::HypervisorEvent::{Power, Undefined};
use ghost_libvirt::{Libvirt, LibvirtConfig};
use uuid::Uuid;

use crate::world::{self, Base, Vm, event, next_of, virsh};

async fn kept(libvirt: &Libvirt, id: VmId) -> Option<Kept> {
    libvirt.hypervisor().kept().await.unwrap().into_iter().find(|kept| kept.id == id)
}

#[tokio::test]
async fn real_qemu_what_is_kept_has_the_record_and_is_this_agents_only() {
    let (libvirt, base) = (world::real().await, Base::new());
    let foreign = LibvirtConfig { agent: Uuid::new_v4(), ..world::config("qemu:///system") };
    let foreign = world::connect(foreign).await;
    let (ours, theirs, copy) = (Vm::new(), Vm::new(), Vm::new());
    let spec = world::defined(&libvirt, &base, &ours).await;
    world::defined(&foreign, &base, &theirs).await;
    // As virt-clone does it: another name, another UUID, the same metadata.
    let name = virsh(&["domname", &ours.0.to_string()]);
    let xml = virsh(&["dumpxml", &ours.0.to_string()])
        .replace(&format!("<name>{}<", name.trim()), &format!("<name>{}-clone<", name.trim()))
        .replace(&format!("<uuid>{}<", ours.0), &format!("<uuid>{}<", copy.0));
    world::define_foreign(&xml);
    assert!(virsh(&["dumpxml", &copy.0.to_string()]).contains(&format!("id=\"{}\"", ours.0)));

    let expected =
        Kept { id: ours.0, record: Some(spec.record), definition: Definition::Persistent };
    assert_eq!(kept(&libvirt, ours.0).await, Some(expected));
    assert_eq!(kept(&libvirt, theirs.0).await, None);
    assert_eq!(kept(&libvirt, copy.0).await, None);
    assert!(kept(&foreign, theirs.0).await.is_some());
    assert_eq!(kept(&foreign, ours.0).await, None);
}

#[tokio::test]
async fn real_qemu_a_domain_whose_record_was_spoilt_is_kept_without_one() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    world::defined(&libvirt, &base, &vm).await;
    let id = vm.0.to_string();
    let mark = format!("<vm id='{id}' agent='{}'><record>{{}}</record></vm>", world::AGENT);
    let uri = "https://ghost.cloud/agent/1";
    virsh(&["metadata", &id, "--uri", uri, "--key", "ghost", "--set", &mark, "--config"]);
    let expected = Kept { id: vm.0, record: None, definition: Definition::Persistent };
    assert_eq!(kept(&libvirt, vm.0).await, Some(expected));
}

#[tokio::test]
async fn real_qemu_a_running_domain_that_lost_its_definition_is_told_and_cured_by_defining_it() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    let hypervisor = libvirt.hypervisor();
    let spec = world::defined(&libvirt, &base, &vm).await;
    hypervisor.ensure_started(vm.0).await.unwrap();
    let mut events = libvirt.events().subscribe();
    virsh(&["undefine", &vm.0.to_string()]);
    event(&mut events, &Undefined(vm.0)).await;
    let transient =
        Kept { id: vm.0, record: Some(spec.record.clone()), definition: Definition::Transient };
    assert_eq!(kept(&libvirt, vm.0).await, Some(transient.clone()));

    let mut newer = spec;
    newer.record.shape.vcpus = 2;
    hypervisor.define(&newer).await.unwrap();
    let cured =
        Kept { record: Some(newer.record), definition: Definition::Persistent, ..transient };
    assert_eq!(kept(&libvirt, vm.0).await, Some(cured));
    hypervisor.ensure_off(vm.0).await.unwrap();
    assert_eq!(next_of(&mut events, vm.0).await, Power(vm.0, PowerState::Off(OffCause::Cut)));
    let seen = hypervisor.observe().await.unwrap();
    let seen = seen.iter().find(|seen| seen.id == vm.0).unwrap();
    assert_eq!(seen.power, PowerState::Off(OffCause::Cut));
}

#[tokio::test]
async fn real_qemu_the_end_of_a_domain_without_a_definition_is_told_as_such() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    world::defined(&libvirt, &base, &vm).await;
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    let mut events = libvirt.events().subscribe();
    virsh(&["undefine", &vm.0.to_string()]);
    event(&mut events, &Undefined(vm.0)).await;
    virsh(&["destroy", &vm.0.to_string()]);
    assert_eq!(next_of(&mut events, vm.0).await, Power(vm.0, PowerState::Off(OffCause::Cut)));
    assert_eq!(next_of(&mut events, vm.0).await, Undefined(vm.0));
    assert_eq!(kept(&libvirt, vm.0).await, None);
}

#[tokio::test]
async fn real_qemu_defining_what_runs_without_a_definition_does_not_tell_that_it_is_off() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    let spec = world::defined(&libvirt, &base, &vm).await;
    let xml = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(xml.path(), virsh(&["dumpxml", &vm.0.to_string()])).unwrap();
    virsh(&["undefine", &vm.0.to_string()]);
    let mut events = libvirt.events().subscribe();
    virsh(&["create", xml.path().to_str().unwrap()]);
    event(&mut events, &Power(vm.0, PowerState::Running)).await;
    assert_eq!(kept(&libvirt, vm.0).await.unwrap().definition, Definition::Transient);
    libvirt.hypervisor().define(&spec).await.unwrap();
    libvirt.hypervisor().ensure_off(vm.0).await.unwrap();
    let off = Power(vm.0, PowerState::Off(OffCause::Cut));
    loop {
        match next_of(&mut events, vm.0).await {
            told if told == off => break,
            told => assert_eq!(told, Power(vm.0, PowerState::Running)),
        }
    }
    assert_eq!(kept(&libvirt, vm.0).await.unwrap().definition, Definition::Persistent);
}
