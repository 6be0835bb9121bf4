//! A domain: reading it, powering it, removing it.

use uuid::Uuid;
use virt_sys as c;

use super::error::LibvirtError;
use super::handle::{c_string, check, handle, take_string};

handle! {
    /// A domain, by its UUID; it need not exist any more.
    Domain, c::virDomain, c::virDomainFree
}

impl Domain {
    /// Its UUID; asks nobody.
    pub(crate) fn uuid(&self) -> Result<Uuid, LibvirtError> {
        // SAFETY: a live handle.
        unsafe { uuid_of(self.raw()) }
    }

    /// The element of its metadata in the XML namespace `uri`. Does not wait for a busy domain.
    pub(crate) fn metadata(&self, uri: &str, of: MetadataOf) -> Result<String, LibvirtError> {
        let uri = c_string(uri)?;
        let kind = c::VIR_DOMAIN_METADATA_ELEMENT.cast_signed();
        let flags = match of {
            MetadataOf::Current => c::VIR_DOMAIN_AFFECT_CURRENT,
            MetadataOf::Definition => c::VIR_DOMAIN_AFFECT_CONFIG,
        };
        // SAFETY: a C string; the returned string is ours.
        unsafe { take_string(c::virDomainGetMetadata(self.raw(), kind, uri.as_ptr(), flags)) }
    }

    /// Its XML, of what runs if it does; without passwords, which libvirt keeps to itself unless asked for them.
    pub(crate) fn xml(&self) -> Result<String, LibvirtError> {
        // SAFETY: the returned string is ours.
        unsafe { take_string(c::virDomainGetXMLDesc(self.raw(), 0)) }
    }

    /// Whether its definition is still there when its power goes off.
    pub(crate) fn is_persistent(&self) -> Result<bool, LibvirtError> {
        // SAFETY: a live handle.
        Ok(check(unsafe { c::virDomainIsPersistent(self.raw()) })? == 1)
    }

    /// Its state, and why it is in it. Does not wait for a busy domain.
    pub(crate) fn state(&self) -> Result<DomainState, LibvirtError> {
        let (mut state, mut reason) = (0, 0);
        // SAFETY: a live handle; libvirt writes two numbers.
        check(unsafe { c::virDomainGetState(self.raw(), &raw mut state, &raw mut reason, 0) })?;
        Ok(DomainState { state, reason })
    }

    /// Whether its power is on.
    pub(crate) fn is_active(&self) -> Result<bool, LibvirtError> {
        // SAFETY: a live handle.
        Ok(check(unsafe { c::virDomainIsActive(self.raw()) })? == 1)
    }

    /// Powers it on.
    pub(crate) fn start(&self) -> Result<(), LibvirtError> {
        // SAFETY: a live handle.
        check(unsafe { c::virDomainCreateWithFlags(self.raw(), 0) }).map(drop)
    }

    /// Whether its guest is held.
    pub(crate) fn is_paused(&self) -> Result<bool, LibvirtError> {
        Ok(self.state()?.state == c::VIR_DOMAIN_PAUSED.cast_signed())
    }

    /// Lets a held guest go on.
    pub(crate) fn resume(&self) -> Result<(), LibvirtError> {
        // SAFETY: a live handle.
        check(unsafe { c::virDomainResume(self.raw()) }).map(drop)
    }

    /// Asks the guest by ACPI to power off.
    pub(crate) fn press_power_button(&self) -> Result<(), LibvirtError> {
        // SAFETY: a live handle.
        let acpi =
            unsafe { c::virDomainShutdownFlags(self.raw(), c::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) };
        match check(acpi) {
            // libvirt's test driver has no flags.
            Err(error) if error.is_unsupported() => {
                // SAFETY: a live handle.
                check(unsafe { c::virDomainShutdown(self.raw()) }).map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Cuts its power.
    pub(crate) fn destroy(&self) -> Result<(), LibvirtError> {
        // SAFETY: a live handle.
        check(unsafe { c::virDomainDestroy(self.raw()) }).map(drop)
    }

    /// Removes its definition and all that libvirt keeps with it: saved memory, snapshots,
    /// checkpoints, UEFI variables.
    pub(crate) fn undefine(&self) -> Result<(), LibvirtError> {
        let all = c::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | c::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | c::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | c::VIR_DOMAIN_UNDEFINE_NVRAM;
        match self.undefine_with(all) {
            // libvirt's test driver has neither checkpoints nor UEFI variables.
            Err(error) if error.is_unsupported() => {
                self.undefine_with(c::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
            }
            other => other,
        }
    }

    fn undefine_with(&self, flags: u32) -> Result<(), LibvirtError> {
        // SAFETY: a live handle.
        check(unsafe { c::virDomainUndefineFlags(self.raw(), flags) }).map(drop)
    }
}

/// # Safety
/// `domain` is a live domain.
pub(super) unsafe fn uuid_of(domain: c::virDomainPtr) -> Result<Uuid, LibvirtError> {
    let mut bytes = [0u8; 16];
    // SAFETY: libvirt writes VIR_UUID_BUFLEN = 16 bytes.
    check(unsafe { c::virDomainGetUUID(domain, bytes.as_mut_ptr()) })?;
    Ok(Uuid::from_bytes(bytes))
}

/// Which of a running domain's two descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetadataOf {
    /// What runs; of one that is off, its definition.
    Current,
    /// Its definition; an error of state if it has none.
    Definition,
}

/// A domain's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DomainState {
    /// `virDomainState`.
    pub(crate) state: i32,
    /// Why it is in that state; its meaning depends on the state.
    pub(crate) reason: i32,
}
