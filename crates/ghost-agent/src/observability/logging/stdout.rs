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
    /// The last line was cut: what comes next must not go on with it.
    torn: bool,
}

impl Stdout {
    pub(super) fn to(out: File, notice: Notice) -> Self {
        Self { out, notice, torn: false }
    }

    /// This process's.
    ///
    /// # Errors
    /// If the process has no more file descriptors.
    pub(super) fn of_process(notice: Notice) -> io::Result<Self> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::to(out, notice))
    }
}

impl Stdout {
    /// Writes as much of whole lines as is taken; gives the bytes.
    fn put(&mut self, lines: &[u8]) -> usize {
        if self.torn && self.push(b"\n") == 0 {
            return 0;
        }
        let written = self.push(lines);
        self.torn = lines[..written].last().is_some_and(|last| *last != b'\n');
        written
    }

    fn push(&mut self, bytes: &[u8]) -> usize {
        let mut left = bytes;
        while !left.is_empty() {
            match self.out.write(left) {
                Ok(0) => break,
                Ok(n) => left = &left[n.min(left.len())..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A reader that is gone takes nothing of the agent with it.
                Err(_) => break,
            }
        }
        bytes.len() - left.len()
    }
}

impl Sink for Stdout {
    fn write(&mut self, batch: &Batch) -> u64 {
        let mut room = self.put(batch.bytes());
        let is_whole = |line: &&[u8]| {
            let left = room.checked_sub(line.len());
            room = left.unwrap_or(0);
            left.is_some()
        };
        let whole = batch.lines().take_while(is_whole).count();
        batch.len() - u64::try_from(whole).unwrap_or(u64::MAX).min(batch.len())
    }

    fn tell_lost(&mut self, lost: u64) -> Told {
        let line = (self.notice)(lost);
        match self.put(line.as_bytes()) == line.len() {
            true => Told::Yes,
            false => Told::NotNow,
        }
    }
}
