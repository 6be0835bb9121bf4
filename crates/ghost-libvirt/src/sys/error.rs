//! libvirt's errors, as values.

use std::ffi::CStr;

use virt_sys as c;

/// What libvirt says of a failed call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct LibvirtError {
    /// libvirt's `virErrorNumber`.
    pub(crate) code: u32,
    /// libvirt's `virErrorDomain`: the part of libvirt that failed.
    pub(crate) domain: u32,
    /// The operating system's error number, where libvirt passed one on.
    pub(crate) errno: Option<i32>,
    /// libvirt's text, one line.
    pub(crate) message: String,
}

impl LibvirtError {
    /// The error of this thread's last call.
    pub(crate) fn last() -> Self {
        // SAFETY: returns this thread's error, or null; it is valid until this thread's next call.
        let Some(error) = (unsafe { c::virGetLastError().as_ref() }) else {
            return Self::own(c::VIR_ERR_INTERNAL_ERROR, "libvirt failed without saying why");
        };
        let message = if error.message.is_null() {
            "libvirt failed without saying why".to_owned()
        } else {
            // SAFETY: a C string of libvirt's, valid as long as the error is.
            unsafe { CStr::from_ptr(error.message) }.to_string_lossy().trim().replace('\n', " ")
        };
        let code = u32::try_from(error.code).unwrap_or_default();
        let errno = (code == c::VIR_ERR_SYSTEM_ERROR && error.int1 > 0).then_some(error.int1);
        Self { code, domain: u32::try_from(error.domain).unwrap_or_default(), errno, message }
    }

    /// An error that this crate found itself.
    pub(crate) fn own(code: u32, message: impl Into<String>) -> Self {
        Self { code, domain: c::VIR_FROM_NONE, errno: None, message: message.into() }
    }

    /// The connection is at fault, not the request: libvirt is absent, dead or keeps us out.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        match self.code {
            c::VIR_ERR_NO_CONNECT
            | c::VIR_ERR_INVALID_CONN
            | c::VIR_ERR_AUTH_FAILED
            | c::VIR_ERR_AUTH_CANCELLED
            | c::VIR_ERR_AUTH_UNAVAILABLE => true,
            c::VIR_ERR_RPC | c::VIR_ERR_INTERNAL_ERROR | c::VIR_ERR_SYSTEM_ERROR => {
                matches!(self.domain, c::VIR_FROM_RPC | c::VIR_FROM_REMOTE)
            }
            _ => false,
        }
    }

    /// The object asked for does not exist.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(
            self.code,
            c::VIR_ERR_NO_DOMAIN
                | c::VIR_ERR_NO_NETWORK
                | c::VIR_ERR_NO_STORAGE_POOL
                | c::VIR_ERR_NO_STORAGE_VOL
                | c::VIR_ERR_NO_NWFILTER
                | c::VIR_ERR_NO_DOMAIN_METADATA
        )
    }

    /// The object is not in a state for the call.
    pub(crate) fn is_of_state(&self) -> bool {
        self.code == c::VIR_ERR_OPERATION_INVALID
    }

    /// This driver of libvirt's does not know the call, or one of its flags.
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(
            self.code,
            c::VIR_ERR_NO_SUPPORT
                | c::VIR_ERR_INVALID_ARG
                | c::VIR_ERR_ARGUMENT_UNSUPPORTED
                | c::VIR_ERR_OPERATION_UNSUPPORTED
        )
    }

    /// A file system is full.
    pub(crate) fn is_full(&self) -> bool {
        self.errno == Some(libc::ENOSPC) || self.message.contains("No space left on device")
    }
}
