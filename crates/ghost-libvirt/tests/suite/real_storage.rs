//! Volumes of a real pool.

use ghost_core::domain::ErrorKind;
use ghost_core::ports::FoundVolumes;
use ghost_libvirt::LibvirtConfig;

use crate::world::{self, Base, OwnPool, Vm, gib, virsh};

#[tokio::test]
async fn real_qemu_an_overlay_has_the_right_format_backing_and_size() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    let path = libvirt.storage().create_overlay(vm.0, &base.image(), gib(12)).await.unwrap();
    let xml = virsh(&["vol-dumpxml", path.to_str().unwrap()]);
    let wanted = [
        format!("<capacity unit='bytes'>{}</capacity>", 12u64 << 30),
        "<compat>1.1</compat>".to_owned(),
        format!("<path>{}</path>\n    <format type='qcow2'/>", base.path().display()),
        "<mode>0600</mode>".to_owned(),
    ];
    for text in wanted {
        assert!(xml.contains(&text), "{text} is not in {xml}");
    }
    assert!(
        std::fs::metadata(base.path()).unwrap().len() < 1 << 20,
        "the base image was written to"
    );
}

#[tokio::test]
async fn real_qemu_a_seed_is_stored_byte_by_byte_and_replaces_a_leftover() {
    let (libvirt, vm) = (world::real().await, Vm::new());
    let seed: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    libvirt.storage().store_seed(vm.0, &vec![7; 500_000]).await.unwrap();
    let path = libvirt.storage().store_seed(vm.0, &seed).await.unwrap();
    let copy = tempfile::NamedTempFile::new().unwrap();
    virsh(&["vol-download", path.to_str().unwrap(), copy.path().to_str().unwrap()]);
    assert!(std::fs::read(copy.path()).unwrap() == seed, "the stored seed differs");
}

#[tokio::test]
async fn real_qemu_volumes_are_removed_once_and_again() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    let storage = libvirt.storage();
    storage.create_overlay(vm.0, &base.image(), gib(10)).await.unwrap();
    storage.create_overlay(vm.0, &base.image(), gib(10)).await.unwrap();
    storage.store_seed(vm.0, b"seed").await.unwrap();
    for _ in 0..2 {
        storage.ensure_no_overlay(vm.0).await.unwrap();
        storage.ensure_no_seed(vm.0).await.unwrap();
    }
    assert_eq!(world::traces(vm.0), "");
    assert!(base.path().exists());
}

#[tokio::test]
async fn real_qemu_the_space_is_the_file_systems() {
    let libvirt = world::real().await;
    let space = libvirt.storage().space().await.unwrap();
    assert!(space.free.0 > 0 && space.free <= space.total, "{space:?}");
}

#[tokio::test]
async fn real_qemu_a_missing_pool_and_network_are_found_at_the_start_each_with_its_remedy() {
    let healthy = world::real().await;
    assert!(healthy.check().await.is_empty(), "{:?}", healthy.check().await);
    let config = LibvirtConfig {
        network: "no-such-net".to_owned(),
        storage_pool: "no-such-pool".to_owned(),
        ..world::config("qemu:///system")
    };
    let libvirt = world::connect(config).await;
    let findings: Vec<String> = libvirt.check().await.iter().map(ToString::to_string).collect();
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(
        findings[0].contains("'no-such-net'") && findings[0].contains("virsh net-define"),
        "{findings:?}"
    );
    assert!(
        findings[1].contains("'no-such-pool'") && findings[1].contains("pool-define-as"),
        "{findings:?}"
    );
    let error = libvirt.storage().space().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HypervisorUnavailable);
    let vm = Vm::new();
    let error =
        libvirt.network().assign_address(vm.0, &"suite-vm".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnavailable);
    libvirt.network().release_address(vm.0).await.unwrap();
}

fn in_pool(pool: &str) -> LibvirtConfig {
    LibvirtConfig { storage_pool: pool.to_owned(), ..world::config("qemu:///system") }
}

#[tokio::test]
async fn real_qemu_a_volume_is_found_while_its_file_is_there_whatever_the_pool_remembers() {
    let pool = OwnPool::running();
    let (libvirt, base, vm) = (world::connect(in_pool(pool.name())).await, Base::new(), Vm::new());
    let storage = libvirt.storage();
    assert_eq!(storage.find(vm.0).await.unwrap(), FoundVolumes::default());
    let disk = storage.create_overlay(vm.0, &base.image(), gib(10)).await.unwrap();
    let only_disk = FoundVolumes { disk: Some(disk.clone()), seed: None };
    assert_eq!(storage.find(vm.0).await.unwrap(), only_disk);
    let seed = storage.store_seed(vm.0, b"seed").await.unwrap();
    let both = FoundVolumes { disk: Some(disk.clone()), seed: Some(seed.clone()) };
    assert_eq!(storage.find(vm.0).await.unwrap(), both);

    std::fs::remove_file(&disk).unwrap();
    assert!(virsh(&["vol-list", pool.name()]).contains(disk.to_str().unwrap()));
    let only_seed = FoundVolumes { disk: None, seed: Some(seed) };
    assert_eq!(storage.find(vm.0).await.unwrap(), only_seed);
    std::fs::write(&disk, b"back, unknown to the pool").unwrap();
    virsh(&["pool-destroy", pool.name()]);
    virsh(&["pool-start", pool.name()]);
    assert_eq!(storage.find(vm.0).await.unwrap(), both);
}

#[tokio::test]
async fn real_qemu_without_a_running_pool_nothing_is_said_to_be_absent() {
    let pool = OwnPool::inactive();
    for (pool, remedy) in [(pool.name(), "virsh pool-start"), ("no-such-pool", "pool-define-as")] {
        let libvirt = world::connect(in_pool(pool)).await;
        let error = libvirt.storage().find(Vm::new().0).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HypervisorUnavailable);
        assert!(error.to_string().contains(remedy), "{error}");
    }
}
