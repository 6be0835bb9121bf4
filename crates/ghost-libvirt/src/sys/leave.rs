//! The process's end, without the C libraries' cleanup.

use std::io::Write;

/// Ends the process at once with this exit code, after stdout and stderr are flushed. To be called
/// last, when everything else was shut down: destructors do not run.
///
/// The ordinary end runs the cleanup that C libraries registered, while other threads go on. libvirt
/// brings OpenSSL into the process (by libssh2), whose cleanup frees what a thread that used libvirt
/// may just then be freeing too: the process aborts on a broken heap. Threads that end in time are
/// joined by [`Libvirt::shutdown`](crate::Libvirt::shutdown); one that hangs in libvirt cannot be,
/// and may wake at any moment.
pub fn leave(code: u8) -> ! {
    // There is nobody left to tell that nobody reads.
    drop((std::io::stdout().flush(), std::io::stderr().flush()));
    // SAFETY: may be called at any time, by any thread; it does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set for the process that is to leave.
    const LEAVES: &str = "GHOST_LIBVIRT_TEST_LEAVES";

    extern "C" fn cleanup() {
        std::process::abort();
    }

    #[test]
    fn leaving_writes_what_was_printed_gives_the_code_and_skips_the_c_libraries_cleanup() {
        if std::env::var_os(LEAVES).is_some() {
            // SAFETY: a plain function, valid for ever.
            unsafe { libc::atexit(cleanup) };
            print!("last words");
            leave(7);
        }
        let itself = "sys::leave::tests::leaving_writes_what_was_printed_gives_the_code_and_skips_the_c_libraries_cleanup";
        let left = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", itself, "--nocapture"])
            .env(LEAVES, "1")
            .output()
            .unwrap();
        assert_eq!(left.status.code(), Some(7), "{left:?}");
        assert!(String::from_utf8_lossy(&left.stdout).ends_with("last words"), "{left:?}");
    }
}
