//! A domain's record of the bulk statistics. The names of its fields, and their units, are those of
//! `virConnectGetAllDomainStats` (libvirt-domain.c); a field that libvirt left out is `None`.

use std::ffi::{CStr, CString, c_int};

use uuid::Uuid;
use virt_sys as c;

use super::domain::{DomainState, uuid_of};
use super::error::LibvirtError;
use super::handle::{c_string, copy_string};

/// A record of the bulk statistics; memory in KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DomainStats {
    /// Whose it is.
    pub(crate) uuid: Uuid,
    /// Its state.
    pub(crate) state: DomainState,
    /// Nanoseconds of CPU time since it was started.
    pub(crate) cpu_time: Option<u64>,
    /// What the balloon leaves to the guest.
    pub(crate) balloon: Option<u64>,
    /// What the guest's kernel has in all.
    pub(crate) available: Option<u64>,
    /// What it could hand out without swapping.
    pub(crate) usable: Option<u64>,
    /// What it holds for nothing at all.
    pub(crate) unused: Option<u64>,
    /// QEMU's resident memory.
    pub(crate) rss: Option<u64>,
    /// Its disks, without their backing files.
    pub(crate) disks: Vec<DiskStats>,
    /// Its network interfaces.
    pub(crate) nets: Vec<NetStats>,
}

/// A disk; all in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskStats {
    /// What the guest sees it as, such as vda.
    pub(crate) target: String,
    /// Read by the guest since it was started; only QEMU can tell.
    pub(crate) read: Option<u64>,
    /// Written by the guest since it was started; only QEMU can tell.
    pub(crate) written: Option<u64>,
    /// Told by QEMU: the end of what was written last. Without QEMU: what the file takes.
    pub(crate) allocation: Option<u64>,
    /// Told by QEMU: what the file takes. Without QEMU: the file's length.
    pub(crate) physical: Option<u64>,
}

/// A network interface, as its guest sees it; in bytes since the guest was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetStats {
    /// Received by the guest.
    pub(crate) rx: Option<u64>,
    /// Sent by the guest.
    pub(crate) tx: Option<u64>,
}

impl DomainStats {
    /// # Safety
    /// `record` is a valid record of libvirt's.
    pub(super) unsafe fn read(record: c::virDomainStatsRecordPtr) -> Result<Self, LibvirtError> {
        // SAFETY: valid by contract.
        let (domain, params) =
            unsafe { ((*record).dom, Params((*record).params, (*record).nparams)) };
        Ok(Self {
            // SAFETY: the record owns a live domain.
            uuid: unsafe { uuid_of(domain) }?,
            state: DomainState {
                state: params.int(c"state.state").unwrap_or_default(),
                reason: params.int(c"state.reason").unwrap_or_default(),
            },
            cpu_time: params.u64(c"cpu.time"),
            balloon: params.u64(c"balloon.current"),
            available: params.u64(c"balloon.available"),
            usable: params.u64(c"balloon.usable"),
            unused: params.u64(c"balloon.unused"),
            rss: params.u64(c"balloon.rss"),
            disks: params.each(c"block.count", |n| params.disk(n))?,
            nets: params.each(c"net.count", |n| params.net(n))?,
        })
    }
}

/// A record's parameters, borrowed from it.
struct Params(c::virTypedParameterPtr, c_int);

impl Params {
    fn int(&self, name: &CStr) -> Option<i32> {
        let mut value = 0;
        // SAFETY: the array has as many elements as said; `value` is of the type asked for.
        let found =
            unsafe { c::virTypedParamsGetInt(self.0, self.1, name.as_ptr(), &raw mut value) };
        (found == 1).then_some(value)
    }

    fn u32(&self, name: &CStr) -> Option<u32> {
        let mut value = 0;
        // SAFETY: the array has as many elements as said; `value` is of the type asked for.
        let found =
            unsafe { c::virTypedParamsGetUInt(self.0, self.1, name.as_ptr(), &raw mut value) };
        (found == 1).then_some(value)
    }

    fn u64(&self, name: &CStr) -> Option<u64> {
        let mut value = 0;
        // SAFETY: the array has as many elements as said; `value` is of the type asked for.
        let found =
            unsafe { c::virTypedParamsGetULLong(self.0, self.1, name.as_ptr(), &raw mut value) };
        (found == 1).then_some(value)
    }

    fn text(&self, name: &CStr) -> String {
        let mut value = std::ptr::null();
        // SAFETY: the array has as many elements as said; libvirt points into it, or leaves the null.
        unsafe {
            c::virTypedParamsGetString(self.0, self.1, name.as_ptr(), &raw mut value);
            copy_string(value)
        }
    }

    fn each<T>(
        &self,
        count: &CStr,
        one: impl Fn(u32) -> Result<T, LibvirtError>,
    ) -> Result<Vec<T>, LibvirtError> {
        (0..self.u32(count).unwrap_or_default()).map(one).collect()
    }

    fn disk(&self, n: u32) -> Result<DiskStats, LibvirtError> {
        let field = |name: &str| -> Result<CString, LibvirtError> {
            c_string(&format!("block.{n}.{name}"))
        };
        Ok(DiskStats {
            target: self.text(&field("name")?),
            read: self.u64(&field("rd.bytes")?),
            written: self.u64(&field("wr.bytes")?),
            allocation: self.u64(&field("allocation")?),
            physical: self.u64(&field("physical")?),
        })
    }

    fn net(&self, n: u32) -> Result<NetStats, LibvirtError> {
        Ok(NetStats {
            rx: self.u64(&c_string(&format!("net.{n}.rx.bytes"))?),
            tx: self.u64(&c_string(&format!("net.{n}.tx.bytes"))?),
        })
    }
}
