//! The C library's heaps, which Rust's and libvirt's memory come from.

/// Heaps at once. An agent with 20 VMs has 8.7 MB of anonymous memory with glibc's own number, 5.7 with two, 7.1 with one
/// (`docs/benchmarks.md`).
#[cfg(target_env = "gnu")]
const HEAPS: libc::c_int = 2;

/// Lets all threads share two heaps. To be called before any thread is started; where the C library has no such
/// setting, nothing happens.
///
/// glibc gives nearly each thread a heap of its own, up to 8 for each CPU, and what one thread has let go of no other
/// takes: an agent with a dozen threads that each had one busy moment keeps the memory of all of them.
pub fn share_heaps() {
    // SAFETY: may be called at any time; it changes a number. What it refuses it leaves as it was.
    #[cfg(target_env = "gnu")]
    let _refused = unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use std::process::Command;
    use std::sync::Barrier;

    use super::*;

    /// Set for the process that is to count its heaps.
    const COUNTS: &str = "GHOST_LIBVIRT_TEST_COUNTS_HEAPS";

    /// How many heaps eight threads have that allocate at the same time.
    fn heaps() -> usize {
        let together = Barrier::new(9);
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    let held = std::hint::black_box(vec![1_u8; 4096]);
                    together.wait();
                    drop(held);
                });
            }
            together.wait();
        });
        let (mut text, mut length) = (std::ptr::null_mut(), 0);
        // SAFETY: both are written before the stream is closed, and live until then.
        let stream = unsafe { libc::open_memstream(&raw mut text, &raw mut length) };
        // SAFETY: the stream is open, and closed once.
        unsafe { (libc::malloc_info(0, stream), libc::fclose(stream)) };
        // SAFETY: a closed memory stream leaves a text that ends with 0.
        let shown = unsafe { std::ffi::CStr::from_ptr(text) };
        shown.to_string_lossy().matches("<heap nr=").count()
    }

    #[test]
    fn eight_threads_share_two_heaps() {
        if std::env::var_os(COUNTS).is_some() {
            share_heaps();
            print!("heaps: {}.", heaps());
            return;
        }
        let itself = "sys::heaps::tests::eight_threads_share_two_heaps";
        let counted = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", itself, "--nocapture"])
            .env(COUNTS, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&counted.stdout);
        assert!(said.contains("heaps: 2."), "{counted:?}");
    }
}
