//! Storage pools and their volumes.

use std::path::PathBuf;

use virt_sys as c;

use super::conn::Conn;
use super::error::LibvirtError;
use super::handle::{c_string, check, check_count, handle, take_string};

handle! {
    /// A storage pool.
    Pool, c::virStoragePool, c::virStoragePoolFree
}

handle! {
    /// A volume of a storage pool.
    Volume, c::virStorageVol, c::virStorageVolFree
}

handle! {
    /// Data on its way to or from a volume; aborted unless it was finished.
    Stream, c::virStream, c::virStreamFree
}

/// What libvirt remembers of a pool's size, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolInfo {
    /// Its size.
    pub(crate) capacity: u64,
    /// What was free of it when libvirt last looked.
    pub(crate) available: u64,
}

impl Pool {
    /// Whether it runs.
    pub(crate) fn is_active(&self) -> Result<bool, LibvirtError> {
        // SAFETY: a live handle.
        Ok(check(unsafe { c::virStoragePoolIsActive(self.raw()) })? == 1)
    }

    /// Its XML.
    pub(crate) fn xml(&self) -> Result<String, LibvirtError> {
        // SAFETY: the returned string is ours.
        unsafe { take_string(c::virStoragePoolGetXMLDesc(self.raw(), 0)) }
    }

    /// Its size.
    pub(crate) fn info(&self) -> Result<PoolInfo, LibvirtError> {
        let mut info = c::virStoragePoolInfo { state: 0, capacity: 0, allocation: 0, available: 0 };
        // SAFETY: libvirt fills in our struct.
        check(unsafe { c::virStoragePoolGetInfo(self.raw(), &raw mut info) })?;
        Ok(PoolInfo { capacity: info.capacity, available: info.available })
    }

    /// Lets libvirt look for files that it did not make.
    pub(crate) fn refresh(&self) -> Result<(), LibvirtError> {
        // SAFETY: a live handle.
        check(unsafe { c::virStoragePoolRefresh(self.raw(), 0) }).map(drop)
    }

    /// The volume of this name.
    pub(crate) fn volume(&self, name: &str) -> Result<Volume, LibvirtError> {
        let name = c_string(name)?;
        // SAFETY: a C string; the returned reference is ours.
        unsafe { Volume::adopt(c::virStorageVolLookupByName(self.raw(), name.as_ptr())) }
    }

    /// Makes a volume.
    pub(crate) fn create_volume(&self, xml: &str) -> Result<Volume, LibvirtError> {
        let xml = c_string(xml)?;
        // SAFETY: a C string; the returned reference is ours.
        unsafe { Volume::adopt(c::virStorageVolCreateXML(self.raw(), xml.as_ptr(), 0)) }
    }
}

impl Volume {
    /// Its absolute path.
    pub(crate) fn path(&self) -> Result<PathBuf, LibvirtError> {
        // SAFETY: the returned string is ours.
        unsafe { take_string(c::virStorageVolGetPath(self.raw())) }.map(PathBuf::from)
    }

    /// Its XML.
    pub(crate) fn xml(&self) -> Result<String, LibvirtError> {
        // SAFETY: the returned string is ours.
        unsafe { take_string(c::virStorageVolGetXMLDesc(self.raw(), 0)) }
    }

    /// Looks at its file; missing if that is gone, though libvirt may still remember the volume.
    pub(crate) fn ensure_there(&self) -> Result<(), LibvirtError> {
        let mut info = c::virStorageVolInfo { type_: 0, capacity: 0, allocation: 0 };
        // SAFETY: libvirt fills in our struct.
        check(unsafe { c::virStorageVolGetInfo(self.raw(), &raw mut info) }).map(drop)
    }

    /// Deletes it with its file.
    pub(crate) fn delete(&self) -> Result<(), LibvirtError> {
        // SAFETY: a live handle.
        check(unsafe { c::virStorageVolDelete(self.raw(), 0) }).map(drop)
    }

    /// Writes all of `data` at its beginning.
    pub(crate) fn upload(&self, conn: &Conn, data: &[u8]) -> Result<(), LibvirtError> {
        let stream = Stream::new(conn)?;
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        // SAFETY: live handles of one connection.
        check(unsafe { c::virStorageVolUpload(self.raw(), stream.raw(), 0, length, 0) })?;
        let sent = stream.send_all(data);
        stream.end(sent)
    }

    /// Reads it, all of it, as it is now.
    pub(crate) fn download(&self, conn: &Conn) -> Result<Vec<u8>, LibvirtError> {
        let stream = Stream::new(conn)?;
        // SAFETY: live handles of one connection; a length of 0 means all.
        check(unsafe { c::virStorageVolDownload(self.raw(), stream.raw(), 0, 0, 0) })?;
        let received = stream.receive_all();
        stream.end(received)
    }
}

impl Stream {
    fn new(conn: &Conn) -> Result<Self, LibvirtError> {
        // SAFETY: a live connection; the returned reference is ours.
        unsafe { Self::adopt(c::virStreamNew(conn.raw(), 0)) }
    }

    fn send_all(&self, mut data: &[u8]) -> Result<(), LibvirtError> {
        while !data.is_empty() {
            // SAFETY: libvirt reads at most `data.len()` bytes.
            let sent = unsafe { c::virStreamSend(self.raw(), data.as_ptr().cast(), data.len()) };
            data = data.get(check_count(sent)?..).unwrap_or_default();
        }
        Ok(())
    }

    fn receive_all(&self) -> Result<Vec<u8>, LibvirtError> {
        let mut all = Vec::new();
        let mut part = [0u8; 64 * 1024];
        loop {
            // SAFETY: libvirt writes at most `part.len()` bytes.
            let got = unsafe { c::virStreamRecv(self.raw(), part.as_mut_ptr().cast(), part.len()) };
            match part.get(..check_count(got)?) {
                Some([]) | None => return Ok(all),
                Some(part) => all.extend_from_slice(part),
            }
        }
    }

    /// Finishes a stream that went well, aborts one that did not: libvirt insists on either.
    fn end<T>(&self, result: Result<T, LibvirtError>) -> Result<T, LibvirtError> {
        match result {
            // SAFETY: a live stream that was begun.
            Ok(value) => check(unsafe { c::virStreamFinish(self.raw()) }).map(|_| value),
            Err(error) => {
                // SAFETY: as above; the stream already failed, so nobody needs the result.
                unsafe { c::virStreamAbort(self.raw()) };
                Err(error)
            }
        }
    }
}
