//! What runs the guest's code: the processor (KVM), or a program (TCG).
//!
//! Invariant: KVM is chosen only if it can run a guest. `/dev/kvm` may exist, open and even create
//! a VM on a processor that lends it neither `vmx` nor `svm`; a stock kernel hangs in such a VM.

use std::fs::{File, OpenOptions};
use std::io;
use std::str::FromStr;

use ghost_core::domain::{AppError, Arch, ErrorKind, Invalid};

/// What runs the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// The processor itself, fast and isolated.
    Kvm,
    /// QEMU's emulation: slow, and no isolation that one may rely on.
    Tcg,
}

/// The configured wish (`hypervisor.acceleration`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccelerationChoice {
    /// KVM or nothing.
    #[default]
    Kvm,
    /// KVM if it is usable, else TCG.
    Auto,
    /// TCG, for tests.
    Tcg,
}

impl FromStr for AccelerationChoice {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "kvm" => Ok(Self::Kvm),
            "auto" => Ok(Self::Auto),
            "tcg" => Ok(Self::Tcg),
            _ => Err(Invalid::new("must be one of kvm, auto, tcg")),
        }
    }
}

/// Why KVM is not usable, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvmObstacle {
    /// The cause, one line.
    pub cause: String,
    /// What to do, in the imperative.
    pub remedy: &'static str,
}

/// The acceleration that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// What runs the guests.
    pub acceleration: Acceleration,
    /// Why it is not KVM; `None` if it is, or if TCG was asked for.
    pub obstacle: Option<KvmObstacle>,
}

/// Looks at this host and settles the choice.
///
/// # Errors
/// `HYPERVISOR_ERROR` if KVM is wanted and not usable, with cause and remedy.
pub fn detect(choice: AccelerationChoice) -> Result<Detected, AppError> {
    settle(choice, usable_kvm)
}

fn settle(
    choice: AccelerationChoice,
    kvm: impl FnOnce() -> Result<(), KvmObstacle>,
) -> Result<Detected, AppError> {
    let chosen = |acceleration, obstacle| Ok(Detected { acceleration, obstacle });
    match choice {
        AccelerationChoice::Tcg => chosen(Acceleration::Tcg, None),
        AccelerationChoice::Auto => match kvm() {
            Ok(()) => chosen(Acceleration::Kvm, None),
            Err(obstacle) => chosen(Acceleration::Tcg, Some(obstacle)),
        },
        AccelerationChoice::Kvm => match kvm() {
            Ok(()) => chosen(Acceleration::Kvm, None),
            Err(KvmObstacle { cause, remedy }) => Err(AppError::new(
                ErrorKind::HypervisorFailed,
                format!("KVM is not usable: {cause}"),
            )
            .remedy(format!(
                "{remedy}; or set hypervisor.acceleration to auto (slow, isolates no one)"
            ))),
        },
    }
}

/// Whether KVM can run guests on this host.
///
/// # Errors
/// What stands in the way.
pub fn usable_kvm() -> Result<(), KvmObstacle> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    judge(Arch::HOST, device, &cpuinfo)
}

fn judge(arch: Arch, device: io::Result<File>, cpuinfo: &str) -> Result<(), KvmObstacle> {
    let obstacle = |cause: String, remedy| Err(KvmObstacle { cause, remedy });
    if arch == Arch::X86_64 && !lends_virtualization(cpuinfo) {
        return obstacle(
            "the processor shows neither vmx nor svm".to_owned(),
            "switch virtualization on in the firmware (Intel VT-x, AMD-V, SVM), or nested virtualization on the outer host",
        );
    }
    match device {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => obstacle(
            "/dev/kvm may not be opened".to_owned(),
            "usermod -aG kvm USER, or: chgrp kvm /dev/kvm; chmod 660 /dev/kvm",
        ),
        Err(error) => obstacle(
            format!("/dev/kvm can't be opened: {error}"),
            "load the module: modprobe kvm_intel, or kvm_amd",
        ),
    }
}

/// Whether the first processor's flags have `vmx` (Intel) or `svm` (AMD).
fn lends_virtualization(cpuinfo: &str) -> bool {
    let flags = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "flags");
    flags.is_some_and(|(_, flags)| {
        flags.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens() -> io::Result<File> {
        File::open("/dev/null")
    }

    fn fails(kind: io::ErrorKind) -> io::Result<File> {
        Err(kind.into())
    }

    const INTEL: &str = "processor\t: 0\nflags\t\t: fpu vmx ssse3\n";
    const NEITHER: &str = "processor\t: 0\nmodel name\t: vmx pro\nflags\t\t: fpu vmx_like svm2\n";

    #[test]
    fn a_device_that_opens_is_not_enough_on_x86() {
        assert_eq!(judge(Arch::X86_64, opens(), INTEL), Ok(()));
        assert_eq!(judge(Arch::X86_64, opens(), "flags\t: svm\n"), Ok(()));
        assert!(judge(Arch::X86_64, opens(), NEITHER).unwrap_err().cause.contains("vmx"));
        assert!(judge(Arch::X86_64, opens(), "").is_err());
        assert_eq!(judge(Arch::Aarch64, opens(), ""), Ok(()));
    }

    #[test]
    fn each_obstacle_has_its_own_remedy() {
        let remedy = |kind| judge(Arch::Aarch64, fails(kind), "").unwrap_err().remedy;
        assert!(remedy(io::ErrorKind::PermissionDenied).contains("usermod -aG kvm"));
        assert!(remedy(io::ErrorKind::NotFound).contains("modprobe"));
    }

    #[test]
    fn auto_falls_back_and_kvm_refuses() {
        let blocked = || judge(Arch::X86_64, opens(), NEITHER);
        let auto = settle(AccelerationChoice::Auto, blocked).unwrap();
        assert_eq!(auto.acceleration, Acceleration::Tcg);
        assert!(auto.obstacle.is_some());
        let error = settle(AccelerationChoice::Kvm, blocked).unwrap_err().to_string();
        assert!(error.contains("neither vmx nor svm") && error.contains("firmware"), "{error}");
        assert_eq!(
            settle(AccelerationChoice::Auto, || Ok(())).unwrap().acceleration,
            Acceleration::Kvm
        );
        let tcg = settle(AccelerationChoice::Tcg, blocked).unwrap();
        assert_eq!(tcg, Detected { acceleration: Acceleration::Tcg, obstacle: None });
    }

    #[test]
    fn a_choice_is_one_of_three_words() {
        assert_eq!("auto".parse(), Ok(AccelerationChoice::Auto));
        assert!("KVM".parse::<AccelerationChoice>().is_err());
    }
}
