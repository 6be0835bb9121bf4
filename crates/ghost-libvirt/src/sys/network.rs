//! A virtual network: its XML, its static DHCP hosts, its leases.

use virt_sys as c;

use super::error::LibvirtError;
use super::handle::{c_string, check, check_count, copy_string, handle, take_string};

handle! {
    /// A virtual network.
    Network, c::virNetwork, c::virNetworkFree
}

/// Which of a network's two descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkXml {
    /// What runs.
    Live,
    /// What will run after the next start.
    Config,
}

/// What a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// What runs.
    Live,
    /// What will run after the next start.
    Config,
    /// Both, or neither if one of them fails.
    Both,
}

/// A change of the network's static DHCP hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostUpdate {
    /// Adds one; refused if any has the same name, address or MAC.
    Add,
    /// Removes one.
    Delete,
}

/// A lease of the network's DHCP server that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DhcpLease {
    /// Who holds it.
    pub(crate) mac: String,
    /// What is leased.
    pub(crate) address: String,
    /// When it ends, in seconds since 1970; 0 for never.
    pub(crate) expires: i64,
}

impl Network {
    /// Whether it runs.
    pub(crate) fn is_active(&self) -> Result<bool, LibvirtError> {
        // SAFETY: a live handle.
        Ok(check(unsafe { c::virNetworkIsActive(self.raw()) })? == 1)
    }

    /// Whether it is still there after it was stopped.
    pub(crate) fn is_persistent(&self) -> Result<bool, LibvirtError> {
        // SAFETY: a live handle.
        Ok(check(unsafe { c::virNetworkIsPersistent(self.raw()) })? == 1)
    }

    /// Its XML.
    pub(crate) fn xml(&self, which: NetworkXml) -> Result<String, LibvirtError> {
        let flags = match which {
            NetworkXml::Live => 0,
            NetworkXml::Config => c::VIR_NETWORK_XML_INACTIVE,
        };
        // SAFETY: the returned string is ours.
        unsafe { take_string(c::virNetworkGetXMLDesc(self.raw(), flags)) }
    }

    /// Changes its static DHCP hosts; `host` is one `<host/>`.
    pub(crate) fn update_host(
        &self,
        update: HostUpdate,
        host: &str,
        reach: Reach,
    ) -> Result<(), LibvirtError> {
        let host = c_string(host)?;
        let command = match update {
            HostUpdate::Add => c::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST,
            HostUpdate::Delete => c::VIR_NETWORK_UPDATE_COMMAND_DELETE,
        };
        let flags = match reach {
            Reach::Live => c::VIR_NETWORK_UPDATE_AFFECT_LIVE,
            Reach::Config => c::VIR_NETWORK_UPDATE_AFFECT_CONFIG,
            Reach::Both => c::VIR_NETWORK_UPDATE_AFFECT_LIVE | c::VIR_NETWORK_UPDATE_AFFECT_CONFIG,
        };
        // -1: the one <ip> that has a DHCP server.
        // SAFETY: a live handle and a C string.
        check(unsafe {
            c::virNetworkUpdate(
                self.raw(),
                command,
                c::VIR_NETWORK_SECTION_IP_DHCP_HOST,
                -1,
                host.as_ptr(),
                flags,
            )
        })
        .map(drop)
    }

    /// The leases of one MAC address, or of all.
    pub(crate) fn leases(&self, mac: Option<&str>) -> Result<Vec<DhcpLease>, LibvirtError> {
        let mac = mac.map(c_string).transpose()?;
        let mac = mac.as_ref().map_or(std::ptr::null(), |mac| mac.as_ptr());
        let mut list: *mut c::virNetworkDHCPLeasePtr = std::ptr::null_mut();
        // SAFETY: a C string or null; libvirt allocates the list into our pointer.
        let count =
            check_count(unsafe { c::virNetworkGetDHCPLeases(self.raw(), mac, &raw mut list, 0) })?;
        let mut leases = Vec::with_capacity(count);
        for i in 0..count {
            // SAFETY: the list has `count` leases, each of them ours to free, with C strings or nulls.
            leases.push(unsafe {
                let lease = *list.add(i);
                let copy = DhcpLease {
                    mac: copy_string((*lease).mac),
                    address: copy_string((*lease).ipaddr),
                    expires: (*lease).expirytime,
                };
                c::virNetworkDHCPLeaseFree(lease);
                copy
            });
        }
        // SAFETY: the list itself is ours to free; its elements were freed above.
        unsafe { libc::free(list.cast()) };
        Ok(leases)
    }
}
