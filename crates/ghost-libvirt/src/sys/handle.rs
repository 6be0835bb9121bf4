//! What all owned handles have in common, and strings across the border.

use std::ffi::{CStr, CString, c_char, c_int};

use virt_sys as c;

use super::error::LibvirtError;

/// Declares a handle that owns one reference to an object of libvirt's.
macro_rules! handle {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $free:path) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name(std::ptr::NonNull<$raw>);

        // SAFETY: libvirt's objects are reference-counted and locked inside.
        unsafe impl Send for $name {}
        // SAFETY: as above.
        unsafe impl Sync for $name {}

        impl $name {
            /// Takes over a reference that libvirt returned; null means that the call failed.
            ///
            /// # Safety
            /// `raw` is null or a reference that nobody else gives back.
            pub(super) unsafe fn adopt(raw: *mut $raw) -> Result<Self, $crate::sys::LibvirtError> {
                std::ptr::NonNull::new(raw).map(Self).ok_or_else($crate::sys::LibvirtError::last)
            }

            /// The pointer, for as long as `self` lives.
            pub(super) fn raw(&self) -> *mut $raw {
                self.0.as_ptr()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: the reference is ours, and this is the last use of it.
                unsafe { $free(self.raw()) };
            }
        }
    };
}
pub(super) use handle;

/// A C string; refuses a NUL inside.
pub(super) fn c_string(text: &str) -> Result<CString, LibvirtError> {
    CString::new(text)
        .map_err(|_| LibvirtError::own(c::VIR_ERR_INVALID_ARG, "a text for libvirt has a NUL byte"))
}

/// Reads a return value where anything below zero is a failure.
pub(super) fn check(returned: c_int) -> Result<c_int, LibvirtError> {
    if returned < 0 { Err(LibvirtError::last()) } else { Ok(returned) }
}

/// Reads a return value that counts something.
pub(super) fn check_count(returned: c_int) -> Result<usize, LibvirtError> {
    usize::try_from(returned).map_err(|_| LibvirtError::last())
}

/// Copies a string that libvirt allocated for us, and frees it; null means that the call failed.
///
/// # Safety
/// `text` is null or a C string that the caller must free.
pub(super) unsafe fn take_string(text: *mut c_char) -> Result<String, LibvirtError> {
    if text.is_null() {
        return Err(LibvirtError::last());
    }
    // SAFETY: a C string, by contract.
    let copy = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: ours to free, by contract, and not used any more.
    unsafe { libc::free(text.cast()) };
    Ok(copy)
}

/// Copies a string that libvirt keeps; empty for null.
///
/// # Safety
/// `text` is null or a C string.
pub(super) unsafe fn copy_string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: a C string, by contract.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
