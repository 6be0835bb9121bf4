//! libvirt's event loop: one per process, on a thread of its own, from before the first connection
//! until the process ends. It wakes only when something happens.

use crate::failure::Failure;
use ghost_core::domain::{AppError, cause};
use std::sync::OnceLock;
use std::time::Duration;

use virt_sys as c;

use super::error::LibvirtError;
use super::handle::check;

/// Starts the loop if it does not run yet, and keeps libvirt from writing to stderr.
///
/// # Errors
/// libvirt's, or the operating system's if there is no thread to be had; the same one every time.
pub(crate) fn ensure_running() -> Result<(), LibvirtError> {
    static STARTED: OnceLock<Result<(), LibvirtError>> = OnceLock::new();
    STARTED.get_or_init(start).clone()
}

fn start() -> Result<(), LibvirtError> {
    // SAFETY: no arguments; may be called at any time, by any thread.
    check(unsafe { c::virInitialize() })?;
    // SAFETY: `quiet` is a plain function without data, valid for ever.
    unsafe { c::virSetErrorFunc(std::ptr::null_mut(), Some(quiet)) };
    // SAFETY: called once, before any connection is opened.
    check(unsafe { c::virEventRegisterDefaultImpl() })?;
    let (running, runs) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name("libvirt-events".to_owned());
    let started = thread.spawn(move || {
        // Told from inside: until then the thread bears the name of who started it.
        drop(running);
        run();
    });
    started.map_err(|e| {
        LibvirtError::own(c::VIR_ERR_SYSTEM_ERROR, format!("no thread for libvirt's events: {e}"))
    })?;
    // Nothing is ever sent: this ends when the thread drops its side, which it does first.
    let _ = runs.recv();
    Ok(())
}

fn run() {
    let mut said = None;
    loop {
        // SAFETY: the default implementation was registered before this thread was started.
        if unsafe { c::virEventRunDefaultImpl() } < 0 {
            let error = AppError::from(Failure::Call(LibvirtError::last()));
            let text = error.to_string();
            // A loop that keeps failing must not fill the log.
            if said.as_ref() != Some(&text) {
                tracing::error!(error = cause(&error), "libvirt's event loop failed; trying again");
                said = Some(text);
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

/// Errors are returned as values; libvirt's default is to print them as well.
extern "C" fn quiet(_data: *mut libc::c_void, _error: c::virErrorPtr) {}
