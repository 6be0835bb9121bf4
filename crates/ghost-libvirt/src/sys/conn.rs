//! A connection to libvirt, and what can be looked up through it.

use std::ffi::{c_uint, c_ulong};
use std::path::Path;

use uuid::Uuid;
use virt_sys as c;

use super::domain::Domain;
use super::error::LibvirtError;
use super::handle::{c_string, check, check_count, copy_string, handle, take_string};
use super::network::Network;
use super::stats::DomainStats;
use super::storage::{Pool, Volume};

handle! {
    /// A connection. Every call blocks; with keepalive on, a call to a libvirtd that does not
    /// answer any more ends after `interval * count`.
    Conn, c::virConnect, c::virConnectClose
}

impl Conn {
    /// Connects; the event loop must run.
    pub(crate) fn open(uri: &str) -> Result<Self, LibvirtError> {
        super::event_loop::ensure_running()?;
        let uri = c_string(uri)?;
        // SAFETY: a C string; the returned reference is ours.
        unsafe { Self::adopt(c::virConnectOpen(uri.as_ptr())) }
    }

    /// Closes the connection when `count` probes, one every `interval` seconds, got no answer. A
    /// driver without a server needs none.
    pub(crate) fn set_keepalive(&self, interval: i32, count: u32) -> Result<(), LibvirtError> {
        // SAFETY: a live connection.
        match check(unsafe { c::virConnectSetKeepAlive(self.raw(), interval, count) }) {
            Ok(_) => Ok(()),
            Err(error) if error.is_unsupported() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the connection still stands; asks nobody.
    pub(crate) fn is_alive(&self) -> bool {
        // SAFETY: a live handle, whatever the state of the connection.
        unsafe { c::virConnectIsAlive(self.raw()) == 1 }
    }

    /// The domain of this UUID.
    pub(crate) fn domain(&self, id: &Uuid) -> Result<Domain, LibvirtError> {
        // SAFETY: libvirt reads 16 bytes; the returned reference is ours.
        unsafe { Domain::adopt(c::virDomainLookupByUUID(self.raw(), id.as_bytes().as_ptr())) }
    }

    /// All domains, running or not.
    pub(crate) fn domains(&self) -> Result<Vec<Domain>, LibvirtError> {
        let mut list = std::ptr::null_mut();
        // SAFETY: libvirt allocates the list into our pointer.
        let count =
            check_count(unsafe { c::virConnectListAllDomains(self.raw(), &raw mut list, 0) })?;
        let domains = (0..count)
            // SAFETY: the list has `count` references, each of them ours.
            .map(|i| unsafe { Domain::adopt(*list.add(i)) })
            .collect();
        // SAFETY: the list itself is ours to free; its references were taken over.
        unsafe { libc::free(list.cast()) };
        domains
    }

    /// Defines a domain from XML that is checked against libvirt's schema.
    pub(crate) fn define(&self, xml: &str) -> Result<Domain, LibvirtError> {
        let xml = c_string(xml)?;
        // SAFETY: a C string; the returned reference is ours.
        unsafe {
            Domain::adopt(c::virDomainDefineXMLFlags(
                self.raw(),
                xml.as_ptr(),
                c::VIR_DOMAIN_DEFINE_VALIDATE,
            ))
        }
    }

    /// State, CPU time, memory, interfaces and disks of all domains, in one call that skips what a
    /// busy domain can't tell at once.
    pub(crate) fn stats(&self) -> Result<Vec<DomainStats>, LibvirtError> {
        let wanted = c::VIR_DOMAIN_STATS_STATE
            | c::VIR_DOMAIN_STATS_CPU_TOTAL
            | c::VIR_DOMAIN_STATS_BALLOON
            | c::VIR_DOMAIN_STATS_INTERFACE
            | c::VIR_DOMAIN_STATS_BLOCK;
        let nowait = c::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
        match self.stats_with(wanted, nowait) {
            // libvirt's test driver never waits, and does not know the flag.
            Err(error) if error.is_unsupported() => self.stats_with(wanted, 0),
            other => other,
        }
    }

    fn stats_with(&self, wanted: c_uint, flags: c_uint) -> Result<Vec<DomainStats>, LibvirtError> {
        let mut records = std::ptr::null_mut();
        // SAFETY: libvirt allocates the list into our pointer.
        let returned =
            unsafe { c::virConnectGetAllDomainStats(self.raw(), wanted, &raw mut records, flags) };
        let count = check_count(returned)?;
        let stats = (0..count)
            // SAFETY: the list has `count` records, valid until it is freed.
            .map(|i| unsafe { DomainStats::read(*records.add(i)) })
            .collect();
        // SAFETY: ours to free, with everything in it.
        unsafe { c::virDomainStatsRecordListFree(records) };
        stats
    }

    /// The network of this name.
    pub(crate) fn network(&self, name: &str) -> Result<Network, LibvirtError> {
        let name = c_string(name)?;
        // SAFETY: a C string; the returned reference is ours.
        unsafe { Network::adopt(c::virNetworkLookupByName(self.raw(), name.as_ptr())) }
    }

    /// The storage pool of this name.
    pub(crate) fn pool(&self, name: &str) -> Result<Pool, LibvirtError> {
        let name = c_string(name)?;
        // SAFETY: a C string; the returned reference is ours.
        unsafe { Pool::adopt(c::virStoragePoolLookupByName(self.raw(), name.as_ptr())) }
    }

    /// The volume of this path, in whatever pool.
    pub(crate) fn volume(&self, path: &Path) -> Result<Volume, LibvirtError> {
        let path = c_string(&path.to_string_lossy())?;
        // SAFETY: a C string; the returned reference is ours.
        unsafe { Volume::adopt(c::virStorageVolLookupByPath(self.raw(), path.as_ptr())) }
    }

    /// Whether there is a network filter of this name.
    pub(crate) fn has_nwfilter(&self, name: &str) -> Result<bool, LibvirtError> {
        let name = c_string(name)?;
        // SAFETY: a C string; the returned reference is ours.
        let filter = unsafe { c::virNWFilterLookupByName(self.raw(), name.as_ptr()) };
        if filter.is_null() {
            let error = LibvirtError::last();
            return if error.is_missing() { Ok(false) } else { Err(error) };
        }
        // SAFETY: ours to give back, once.
        unsafe { c::virNWFilterFree(filter) };
        Ok(true)
    }

    /// The version of libvirt at the other end: `1000000 * major + 1000 * minor + release`.
    pub(crate) fn daemon_version(&self) -> Result<c_ulong, LibvirtError> {
        let mut version = 0;
        // SAFETY: libvirt writes one number.
        check(unsafe { c::virConnectGetLibVersion(self.raw(), &raw mut version) })?;
        Ok(version)
    }

    /// The version of the hypervisor, spelled likewise; 0 if it has none.
    pub(crate) fn hypervisor_version(&self) -> Result<c_ulong, LibvirtError> {
        let mut version = 0;
        // SAFETY: libvirt writes one number.
        check(unsafe { c::virConnectGetVersion(self.raw(), &raw mut version) })?;
        Ok(version)
    }

    /// What the hypervisor is called, such as `QEMU`.
    pub(crate) fn hypervisor_type(&self) -> Result<String, LibvirtError> {
        // SAFETY: a live connection; libvirt keeps the string.
        let name = unsafe { c::virConnectGetType(self.raw()) };
        if name.is_null() {
            return Err(LibvirtError::last());
        }
        // SAFETY: a C string.
        Ok(unsafe { copy_string(name) })
    }

    /// What the host lends to guests, as XML.
    pub(crate) fn capabilities(&self) -> Result<String, LibvirtError> {
        // SAFETY: the returned string is ours.
        unsafe { take_string(c::virConnectGetCapabilities(self.raw())) }
    }
}

/// The version of the library in this process, spelled as the daemon's.
pub(crate) fn library_version() -> Result<c_ulong, LibvirtError> {
    let mut version = 0;
    // SAFETY: libvirt writes one number; of no hypervisor, because the other pointers are null.
    check(unsafe { c::virGetVersion(&raw mut version, std::ptr::null(), std::ptr::null_mut()) })?;
    Ok(version)
}
