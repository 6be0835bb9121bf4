//! Judges KVM: usable is only what opens and has a CPU behind it (design, section 6).

use std::io;

use super::Acceleration;
use super::finding::Finding;

/// The account that QEMU runs as where qemu.conf names none: Debian's, then Fedora's.
const QEMU_USERS: [&str; 2] = ["libvirt-qemu", "qemu"];

/// What was seen of /dev/kvm and the CPU.
#[derive(Debug)]
pub(super) struct Kvm {
    /// As `std::env::consts::ARCH` spells it.
    pub(super) arch: &'static str,
    /// Opened for reading and writing by this process.
    pub(super) opened: Result<(), io::ErrorKind>,
    /// Owner, group and permission bits of /dev/kvm.
    pub(super) node: Option<(u32, u32, u32)>,
    /// The text of /proc/cpuinfo.
    pub(super) cpuinfo: String,
}

/// Users and groups of this host, as texts of /etc, and those of this process.
#[derive(Debug)]
pub(super) struct Accounts {
    pub(super) passwd: String,
    pub(super) group: String,
    /// Empty when it may not be read: it is root's.
    pub(super) qemu_conf: String,
    pub(super) own_uid: u32,
    pub(super) own_groups: Vec<u32>,
}

/// Does the device open, and has the CPU virtualisation?
pub(super) fn usable(kvm: &Kvm, acceleration: Acceleration) -> Finding {
    let bad = |found: &str, remedy: &str| match acceleration {
        Acceleration::Kvm => Finding::failed(
            "kvm",
            found,
            format!("{remedy}; to try without isolation or speed set hypervisor.acceleration: tcg"),
        ),
        Acceleration::Auto | Acceleration::Tcg => Finding::warning(
            "kvm",
            format!("{found}; VMs run slowly and unisolated under TCG"),
            remedy,
        ),
    };
    let has_cpu = has_virtualisation(kvm.arch, &kvm.cpuinfo);
    match (kvm.opened, has_cpu) {
        (Ok(()), true) => Finding::ok("kvm", "/dev/kvm opens and the CPU has virtualisation"),
        (Ok(()), false) => bad(
            "/dev/kvm opens, but the CPU shows neither vmx nor svm: guests would hang",
            "enable virtualisation in the firmware, or nested virtualisation on the host of this VM",
        ),
        (Err(io::ErrorKind::NotFound), true) => {
            bad("there is no /dev/kvm", "modprobe kvm_intel or kvm_amd")
        }
        (Err(io::ErrorKind::NotFound), false) => bad(
            "there is no /dev/kvm and the CPU shows neither vmx nor svm",
            "enable virtualisation in the firmware, or nested virtualisation on the host of this VM",
        ),
        (Err(io::ErrorKind::PermissionDenied), _) => {
            bad("you may not open /dev/kvm", "sudo usermod -aG kvm $USER, then log in again")
        }
        (Err(kind), _) => {
            bad(&format!("/dev/kvm does not open: {kind}"), "look at dmesg | grep -i kvm")
        }
    }
}

/// On arm64 the flag does not exist: there the device says it all.
fn has_virtualisation(arch: &str, cpuinfo: &str) -> bool {
    if arch != "x86_64" {
        return true;
    }
    let flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.flat_map(str::split_whitespace).any(|flag| matches!(flag, "vmx" | "svm"))
}

/// May QEMU's user open the device? Otherwise libvirt probes QEMU anew at each call.
pub(super) fn open_to_qemu(kvm: &Kvm, accounts: &Accounts) -> Finding {
    const CHECK: &str = "kvm for QEMU";
    let Some((owner, group, mode)) = kvm.node else {
        return Finding::ok(CHECK, "no /dev/kvm to open");
    };
    let Some(user) = QemuUser::find(accounts) else {
        return Finding::warning(
            CHECK,
            "found no user that QEMU runs as",
            "install libvirt-daemon-system (Debian) or libvirt-daemon-kvm (Fedora)",
        );
    };
    let wanted = 0o6;
    let granted = match user.uid {
        0 => wanted,
        uid if uid == owner => mode >> 6,
        _ if user.groups.contains(&group) => mode >> 3,
        _ => mode,
    };
    if granted & wanted == wanted {
        return Finding::ok(CHECK, format!("{} may open /dev/kvm", user.name));
    }
    Finding::failed(
        CHECK,
        format!(
            "{} may not open /dev/kvm (mode {mode:04o}): each start of a VM takes about 100 s",
            user.name
        ),
        "sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm",
    )
}

struct QemuUser {
    name: String,
    uid: u32,
    groups: Vec<u32>,
}

impl QemuUser {
    fn find(accounts: &Accounts) -> Option<Self> {
        let configured = configured_user(&accounts.qemu_conf);
        let names = configured.as_deref().map_or(QEMU_USERS.to_vec(), |name| vec![name]);
        names.into_iter().find_map(|name| Self::of(name, accounts))
    }

    fn of(name: &str, accounts: &Accounts) -> Option<Self> {
        let entry = accounts
            .passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|entry| entry.first() == Some(&name))?;
        let uid = entry.get(2)?.parse().ok()?;
        let mut groups: Vec<u32> =
            accounts.group.lines().filter_map(|line| member_of(line, name)).collect();
        groups.extend(entry.get(3)?.parse::<u32>());
        Some(Self { name: name.to_owned(), uid, groups })
    }
}

/// `user = "NAME"` of qemu.conf; `+UID` spellings have no name to look up and count as not configured.
fn configured_user(qemu_conf: &str) -> Option<String> {
    let value = qemu_conf
        .lines()
        .find_map(|line| line.trim().strip_prefix("user")?.trim_start().strip_prefix('='))?;
    let name = value.trim().trim_matches('"');
    (!name.is_empty() && !name.starts_with('+')).then(|| name.to_owned())
}

/// The group's id, when `line` of /etc/group has `name` as a member.
fn member_of(line: &str, name: &str) -> Option<u32> {
    let fields: Vec<&str> = line.split(':').collect();
    let members = fields.get(3)?;
    members.split(',').any(|member| member == name).then(|| fields.get(2)?.parse().ok())?
}

/// The id of the group `name`, and whether this process is in it.
pub(super) fn own_membership(accounts: &Accounts, name: &str) -> Option<bool> {
    let line = accounts.group.lines().find(|line| line.split(':').next() == Some(name))?;
    let id: u32 = line.split(':').nth(2)?.parse().ok()?;
    Some(accounts.own_uid == 0 || accounts.own_groups.contains(&id))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    const WITH_VMX: &str = "processor : 0\nflags\t\t: fpu vme vmx sse\n";
    const WITHOUT: &str = "processor : 0\nflags\t\t: fpu vme sse\nvmx flags\t: \n";

    fn kvm(opened: Result<(), io::ErrorKind>, cpuinfo: &str, mode: u32) -> Kvm {
        Kvm { arch: "x86_64", opened, node: Some((0, 107, mode)), cpuinfo: cpuinfo.to_owned() }
    }

    fn accounts(passwd: &str, group: &str, qemu_conf: &str) -> Accounts {
        let text = str::to_owned;
        Accounts {
            passwd: text(passwd),
            group: text(group),
            qemu_conf: text(qemu_conf),
            own_uid: 1000,
            own_groups: vec![1000],
        }
    }

    #[test]
    fn kvm_is_usable_only_when_it_opens_and_the_cpu_can() {
        for (opened, cpuinfo, verdict, word) in [
            (Ok(()), WITH_VMX, Verdict::Ok, ""),
            (Ok(()), WITHOUT, Verdict::Failed, "firmware"),
            (Err(io::ErrorKind::NotFound), WITH_VMX, Verdict::Failed, "modprobe"),
            (Err(io::ErrorKind::NotFound), WITHOUT, Verdict::Failed, "firmware"),
            (Err(io::ErrorKind::PermissionDenied), WITH_VMX, Verdict::Failed, "usermod -aG kvm"),
        ] {
            let finding = usable(&kvm(opened, cpuinfo, 0o660), Acceleration::Kvm);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.remedy.unwrap_or_default().contains(word), "{word}");
        }
    }

    #[test]
    fn without_kvm_the_host_still_serves_tests_under_tcg() {
        let finding = usable(&kvm(Ok(()), WITHOUT, 0o660), Acceleration::Auto);
        assert_eq!(finding.verdict, Verdict::Warning);
    }

    #[test]
    fn on_arm64_the_device_says_it_all() {
        let kvm = Kvm { arch: "aarch64", ..kvm(Ok(()), "Features : fp asimd\n", 0o660) };
        assert_eq!(usable(&kvm, Acceleration::Kvm).verdict, Verdict::Ok);
    }

    #[test]
    fn a_device_closed_to_qemu_is_found_before_a_start_takes_100_seconds() {
        let debian = "libvirt-qemu:x:64055:107:x:/:/bin/false";
        let fedora = "qemu:x:107:300:x:/:/bin/false";
        for (passwd, group, conf, mode, verdict) in [
            (debian, "", "", 0o660, Verdict::Ok),
            (debian, "", "", 0o600, Verdict::Failed),
            (fedora, "kvm:x:107:a,qemu", "", 0o660, Verdict::Ok),
            (fedora, "kvm:x:107:a,qemux", "", 0o660, Verdict::Failed),
            (fedora, "", "", 0o666, Verdict::Ok),
            ("root:x:0:0::/:/bin/sh", "", "# user = \"x\"\nuser = \"root\"", 0o600, Verdict::Ok),
            ("", "", "", 0o660, Verdict::Warning),
        ] {
            let finding =
                open_to_qemu(&kvm(Ok(()), WITH_VMX, mode), &accounts(passwd, group, conf));
            assert_eq!(finding.verdict, verdict, "{passwd} {group} {mode:o}");
        }
    }

    #[test]
    fn membership_counts_for_this_process_and_root_needs_none() {
        let mut seen = accounts("", "libvirt:x:106:me", "");
        assert_eq!(own_membership(&seen, "libvirt"), Some(false));
        seen.own_groups.push(106);
        assert_eq!(own_membership(&seen, "libvirt"), Some(true));
        assert_eq!(own_membership(&seen, "ghost"), None);
    }
}
