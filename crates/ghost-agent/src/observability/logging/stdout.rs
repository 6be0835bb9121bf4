//! Standard output, as a sink.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use super::file::Notice;
use super::queue::{Batch, Sink, Told};

/// Standard output, or what stands for it.
pub(super) struct Stdout {
    out: File,
    notice: Notice,
}

impl Stdout {
    /// This process's.
    ///
    /// # Errors
    /// If the process has no more file descriptors.
    pub(super) fn of_process(notice: Notice) -> io::Result<Self> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { out, notice })
    }
}

impl Sink for Stdout {
    /// A reader that is gone takes nothing of the agent with it.
    fn write(&mut self, batch: &Batch) -> u64 {
        match self.out.write_all(batch.bytes()) {
            Ok(()) => 0,
            Err(_) => batch.len(),
        }
    }

    fn tell_lost(&mut self, lost: u64) -> Told {
        match self.out.write_all((self.notice)(lost).as_bytes()) {
            Ok(()) => Told::Yes,
            Err(_) => Told::NotNow,
        }
    }
}
