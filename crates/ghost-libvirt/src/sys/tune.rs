//! What a domain may take of the host: its CPUs, its weights, its limits.

use std::ffi::{CStr, c_int, c_uchar, c_uint};

use virt_sys as c;

use super::conn::Conn;
use super::domain::Domain;
use super::error::LibvirtError;
use super::handle::{c_string, check, check_count};

/// A set of the host's CPUs: a bit each, the lowest first (`VIR_USE_CPU`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CpuMap(Vec<c_uchar>);

impl CpuMap {
    /// CPUs that libvirt's protocol has room for (`REMOTE_CPUMAP_MAX` bytes); no higher one is taken in.
    const MOST: u32 = 2048 * 8;

    /// These CPUs, in a map for a host that has as many as said.
    pub(crate) fn of(cpus: &[u32], on_host: usize) -> Self {
        let known = || cpus.iter().filter(|cpu| **cpu < Self::MOST).map(|cpu| *cpu as usize);
        let len = known().map(|cpu| cpu + 1).max().unwrap_or_default().max(on_host).div_ceil(8);
        let mut map = vec![0; len.max(1)];
        for cpu in known() {
            map[cpu / 8] |= 1 << (cpu % 8);
        }
        Self(map)
    }

    fn len(&self) -> c_int {
        c_int::try_from(self.0.len()).unwrap_or(c_int::MAX)
    }
}

/// Which of a domain's two descriptions is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tuned {
    /// What runs.
    Running,
    /// What will be started next.
    Definition,
}

impl Tuned {
    const fn flag(self) -> c_uint {
        match self {
            Self::Running => c::VIR_DOMAIN_AFFECT_LIVE,
            Self::Definition => c::VIR_DOMAIN_AFFECT_CONFIG,
        }
    }
}

impl Conn {
    /// How many CPUs the host has, those that are offline included.
    pub(crate) fn cpus(&self) -> Result<usize, LibvirtError> {
        let (map, online) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a live connection; neither the map nor the count of those online is asked for.
        check_count(unsafe { c::virNodeGetCPUMap(self.raw(), map, online, 0) })
    }
}

impl Domain {
    /// Most memory it may have, in KiB.
    pub(crate) fn memory(&self) -> Result<u64, LibvirtError> {
        // SAFETY: a live handle.
        match unsafe { c::virDomainGetMaxMemory(self.raw()) } {
            0 => Err(LibvirtError::last()),
            kib => Ok(kib),
        }
    }

    /// Ties its virtual CPUs, and QEMU's other threads, to the CPUs.
    pub(crate) fn pin(&self, cpus: &CpuMap, of: Tuned) -> Result<(), LibvirtError> {
        let mut map = cpus.clone();
        for vcpu in 0..self.vcpus(of)? {
            // SAFETY: a live handle; libvirt reads `len` bytes.
            check(unsafe {
                c::virDomainPinVcpuFlags(
                    self.raw(),
                    vcpu,
                    map.0.as_mut_ptr(),
                    cpus.len(),
                    of.flag(),
                )
            })?;
        }
        // SAFETY: as above.
        check(unsafe {
            c::virDomainPinEmulator(self.raw(), map.0.as_mut_ptr(), cpus.len(), of.flag())
        })
        .map(drop)
    }

    /// Whether all of it is tied to exactly these CPUs.
    pub(crate) fn is_pinned(&self, cpus: &CpuMap, of: Tuned) -> Result<bool, LibvirtError> {
        let count = self.vcpus(of)? as usize;
        let mut maps = vec![0; count * cpus.0.len()];
        let vcpus = c_int::try_from(count).unwrap_or(c_int::MAX);
        // SAFETY: libvirt writes at most `vcpus` maps of `len` bytes.
        check(unsafe {
            c::virDomainGetVcpuPinInfo(self.raw(), vcpus, maps.as_mut_ptr(), cpus.len(), of.flag())
        })?;
        let mut emulator = vec![0; cpus.0.len()];
        // SAFETY: libvirt writes at most `len` bytes.
        check(unsafe {
            c::virDomainGetEmulatorPinInfo(self.raw(), emulator.as_mut_ptr(), cpus.len(), of.flag())
        })?;
        Ok(emulator == cpus.0 && maps.chunks(cpus.0.len()).all(|map| map == cpus.0))
    }

    fn vcpus(&self, of: Tuned) -> Result<u32, LibvirtError> {
        // SAFETY: a live handle.
        let count = check(unsafe { c::virDomainGetVcpusFlags(self.raw(), of.flag()) })?;
        Ok(u32::try_from(count).unwrap_or_default())
    }

    /// Its share of the CPUs while it runs, beside other cgroups of the same level.
    pub(crate) fn set_cpu_shares(&self, shares: u64) -> Result<(), LibvirtError> {
        let mut params = TypedParams::default();
        params.add_u64(c::VIR_DOMAIN_SCHEDULER_CPU_SHARES, shares)?;
        let live = c::VIR_DOMAIN_AFFECT_LIVE;
        // SAFETY: a live handle; the array has as many elements as said.
        check(unsafe {
            c::virDomainSetSchedulerParametersFlags(self.raw(), params.list, params.len, live)
        })
        .map(drop)
    }

    /// Its share of the disks while it runs, beside other cgroups of the same level.
    pub(crate) fn set_io_weight(&self, weight: u32) -> Result<(), LibvirtError> {
        let mut params = TypedParams::default();
        params.add_u32(c::VIR_DOMAIN_BLKIO_WEIGHT, weight)?;
        let live = c::VIR_DOMAIN_AFFECT_LIVE;
        // SAFETY: as in `set_cpu_shares`.
        check(unsafe { c::virDomainSetBlkioParameters(self.raw(), params.list, params.len, live) })
            .map(drop)
    }

    /// The most that QEMU may take of the host's memory while it runs, in KiB.
    pub(crate) fn set_memory_limit(&self, kib: u64) -> Result<(), LibvirtError> {
        let mut params = TypedParams::default();
        params.add_u64(c::VIR_DOMAIN_MEMORY_HARD_LIMIT, kib)?;
        let live = c::VIR_DOMAIN_AFFECT_LIVE;
        // SAFETY: as in `set_cpu_shares`.
        check(unsafe { c::virDomainSetMemoryParameters(self.raw(), params.list, params.len, live) })
            .map(drop)
    }

    /// What its interface may receive, or send, while it runs, in 1000 bytes a second.
    pub(crate) fn set_bandwidth(
        &self,
        mac: &str,
        direction: Direction,
        kbytes_per_s: u32,
    ) -> Result<(), LibvirtError> {
        let mac = c_string(mac)?;
        let average = match direction {
            Direction::In => c::VIR_DOMAIN_BANDWIDTH_IN_AVERAGE,
            Direction::Out => c::VIR_DOMAIN_BANDWIDTH_OUT_AVERAGE,
        };
        let mut params = TypedParams::default();
        params.add_u32(average, kbytes_per_s)?;
        let live = c::VIR_DOMAIN_AFFECT_LIVE;
        // SAFETY: as in `set_cpu_shares`, and a C string.
        check(unsafe {
            c::virDomainSetInterfaceParameters(
                self.raw(),
                mac.as_ptr(),
                params.list,
                params.len,
                live,
            )
        })
        .map(drop)
    }
}

/// As the guest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
}

/// Parameters for libvirt; freed when they are dropped.
struct TypedParams {
    list: c::virTypedParameterPtr,
    len: c_int,
    room: c_int,
}

impl Default for TypedParams {
    fn default() -> Self {
        Self { list: std::ptr::null_mut(), len: 0, room: 0 }
    }
}

impl TypedParams {
    fn add_u32(&mut self, name: &CStr, value: u32) -> Result<(), LibvirtError> {
        let (list, len, room) = (&raw mut self.list, &raw mut self.len, &raw mut self.room);
        // SAFETY: libvirt lets the list grow, and keeps its length and room.
        check(unsafe { c::virTypedParamsAddUInt(list, len, room, name.as_ptr(), value) }).map(drop)
    }

    fn add_u64(&mut self, name: &CStr, value: u64) -> Result<(), LibvirtError> {
        let (list, len, room) = (&raw mut self.list, &raw mut self.len, &raw mut self.room);
        // SAFETY: as above.
        check(unsafe { c::virTypedParamsAddULLong(list, len, room, name.as_ptr(), value) })
            .map(drop)
    }
}

impl Drop for TypedParams {
    fn drop(&mut self) {
        // SAFETY: the list is ours, and this is the last use of it.
        unsafe { c::virTypedParamsFree(self.list, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_a_bit_for_each_cpu_the_lowest_first() {
        assert_eq!(CpuMap::of(&[0, 3, 9], 12), CpuMap(vec![0b1001, 0b10]));
        assert_eq!(CpuMap::of(&[], 2), CpuMap(vec![0]));
        assert_eq!(CpuMap::of(&[17], 2), CpuMap(vec![0, 0, 0b10]));
        assert_eq!(CpuMap::of(&[1, u32::MAX], 2), CpuMap(vec![0b10]));
    }
}
