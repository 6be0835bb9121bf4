//! Guests whose disk fails: they are held, with the reason. What writes or reads is the firmware, and
//! a boot sector.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::Command;

use ghost_core::domain::{Observed, PowerState};
use ghost_core::ports::HypervisorEvent::Power;
use ghost_libvirt::{Libvirt, LibvirtConfig};

use crate::world::{self, Base, OwnPool, Vm, event};

async fn observed(libvirt: &Libvirt, vm: &Vm) -> Observed {
    let seen = libvirt.hypervisor().observe().await.unwrap();
    seen.into_iter().find(|seen| seen.id == vm.0).unwrap()
}

/// Lets QEMU write to the image, at the given place.
fn write(image: &std::path::Path, what: &str) {
    let status =
        Command::new("qemu-io").args(["-f", "qcow2", "-c", what]).arg(image).output().unwrap();
    assert!(status.status.success(), "{status:?}");
}

/// Spoils the qcow2's first cluster: its offset is no longer one of a cluster (QEMU's
/// docs/interop/qcow2.txt: the L1 table's offset is at byte 40, an entry has it in bits 9 to 55).
fn spoil(image: &std::path::Path) {
    write(image, "write 0 64k");
    let file = OpenOptions::new().read(true).write(true).open(image).unwrap();
    let number = |at: u64| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_be_bytes(bytes)
    };
    let table = number(number(40)) & 0x00ff_ffff_ffff_fe00;
    file.write_all_at(&(number(table) | 0x200).to_be_bytes(), table).unwrap();
}

#[tokio::test]
async fn real_qemu_a_guest_whose_disk_cannot_be_read_is_held_with_the_reason() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    spoil(&base.path());
    let mut events = libvirt.events().subscribe();
    world::defined(&libvirt, &base, &vm).await;
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    event(&mut events, &Power(vm.0, PowerState::Paused("I/O error"))).await;
    assert_eq!(observed(&libvirt, &vm).await.power, PowerState::Paused("I/O error"));
}

/// A boot sector that writes on and on: 32 KiB of the firmware's code at a time, by INT 13h, AH=43h.
#[cfg(target_arch = "x86_64")]
fn writes_for_ever() -> [u8; 512] {
    const CODE: [u8; 42] = [
        0x31, 0xc0, 0x8e, 0xd8, //             xor ax, ax; mov ds, ax
        0xbe, 0x1a, 0x7c, //             again: mov si, packet
        0xb8, 0x00, 0x43, 0xb2, 0x80, //       mov ax, 0x4300; mov dl, 0x80
        0xcd, 0x13, //                         int 0x13
        0x66, 0x83, 0x06, 0x22, 0x7c, 0x40, // add dword [packet + 8], 64
        0xeb, 0xee, 0, 0, 0, 0, //             jmp again
        // packet: 16 bytes, 64 sectors, from f000:0000, to sector 2048
        0x10, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0xf0, 0x00, 0x08, 0, 0, 0, 0, 0, 0,
    ];
    let mut sector = [0; 512];
    sector[..CODE.len()].copy_from_slice(&CODE);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn real_qemu_a_guest_that_finds_no_space_left_is_held_and_goes_on_when_there_is_some() {
    let pool = OwnPool::on_a_small_file_system();
    let config =
        LibvirtConfig { storage_pool: pool.name().to_owned(), ..world::config("qemu:///system") };
    let (libvirt, base, vm) = (world::connect(config).await, Base::new(), Vm::new());
    let sector = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(sector.path(), writes_for_ever()).unwrap();
    write(&base.path(), &format!("write -s {} 0 512", sector.path().display()));
    let held = PowerState::Paused("no space left for its disk");
    let mut events = libvirt.events().subscribe();
    world::defined(&libvirt, &base, &vm).await;
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    event(&mut events, &Power(vm.0, held.clone())).await;
    let seen = observed(&libvirt, &vm).await;
    assert_eq!(seen.power, held);
    let moved = seen.traffic;
    assert!(moved.disk_read >= 512 && moved.disk_written >= 32 << 10, "{moved:?}");
    assert!(moved.disk_used > 1 << 20 && moved.disk_used <= 4 << 20, "{moved:?}");

    pool.grow();
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    event(&mut events, &Power(vm.0, PowerState::Running)).await;
}
