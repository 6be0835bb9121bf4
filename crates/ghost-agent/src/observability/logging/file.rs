//! The log file. Invariant: it has whole lines only, it is the file that its path names, and it is neither larger nor older
//! than it may be; what was moved out of the way is looked after by [`archive`].

mod archive;
mod open;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::Bytes;
use ghost_core::ports::Clock;
use jiff::SignedDuration;

use super::queue::{Batch, Sink, Told};
use archive::Archive;
use open::Open;

/// When the file is moved out of the way, and how long it is kept there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// No file is larger, unless one line is.
    pub(super) max_size: Bytes,
    /// No file's first line is older, and no moved file is kept longer.
    pub(super) max_age: Duration,
    /// Moved files that are kept.
    pub(super) max_files: usize,
}

impl Rules {
    fn max_age(&self) -> SignedDuration {
        SignedDuration::try_from(self.max_age).unwrap_or(SignedDuration::MAX)
    }
}

/// What writes one line about the log itself.
pub(super) type Notice = Box<dyn Fn(u64) -> String + Send>;

/// The log file, open or to be opened.
pub(super) struct LogFile {
    path: PathBuf,
    rules: Rules,
    clock: Arc<dyn Clock>,
    notice: Notice,
    open: Option<Open>,
    archive: Archive,
    /// What is wrong with it now; each trouble is told once.
    trouble: Option<String>,
    /// It can't be moved out of the way now: not before it is looked after again.
    stuck: bool,
    /// That was told.
    stuck_told: bool,
}

impl LogFile {
    /// Opens the file, and makes it and its folder if need be.
    ///
    /// # Errors
    /// What the operating system says of it.
    pub(super) fn open(
        path: &Path,
        rules: Rules,
        clock: Arc<dyn Clock>,
        notice: Notice,
    ) -> std::io::Result<Self> {
        let open = Open::at(path)?;
        let archive = Archive::of(path, rules);
        let path = path.to_owned();
        let mut file = Self {
            path,
            rules,
            clock,
            notice,
            open: Some(open),
            archive,
            trouble: None,
            stuck: false,
            stuck_told: false,
        };
        file.archive.tidy(file.clock.now());
        Ok(file)
    }

    /// Waits until nothing is compressed or removed any more.
    #[cfg(test)]
    pub(super) fn settle(&mut self) {
        self.archive.settle();
    }

    /// Writes as many of `lines` as possible, in order, and says how many.
    fn write_lines(&mut self, lines: &mut dyn Iterator<Item = &[u8]>) -> u64 {
        // The last bytes of a disk that is full would be taken for its end.
        if self.trouble.is_some() && self.open.as_ref().is_some_and(|open| !open.has_room()) {
            return 0;
        }
        let mut lines = lines.peekable();
        let (mut run, mut written) = (Vec::new(), 0);
        while let Some(first) = lines.next() {
            let Some(room) = self.room(first.len()) else { return written };
            run.clear();
            run.extend_from_slice(first);
            let mut count = 1;
            while let Some(next) = lines.next_if(|next| run.len() + next.len() <= room) {
                run.extend_from_slice(next);
                count += 1;
            }
            let now = self.clock.now();
            let Some(open) = &mut self.open else { return written };
            if let Err(error) = open.append(&run, now) {
                let whole = open.lines_kept(&run);
                self.trouble(Some(error));
                return written + whole;
            }
            written += count;
        }
        self.trouble(None);
        written
    }

    /// How many bytes fit into the file, at least `bytes`; it is opened or changed for another if need be.
    fn room(&mut self, bytes: usize) -> Option<usize> {
        if self.open.as_ref().is_none_or(|open| !open.is_at(&self.path)) {
            self.reopen();
        }
        let size = self.open.as_ref()?.size();
        let max = usize::try_from(self.rules.max_size.0).unwrap_or(usize::MAX);
        let used = usize::try_from(size).unwrap_or(usize::MAX);
        if used > 0 && max.saturating_sub(used) < bytes || self.too_old() {
            self.rotate();
            let used = usize::try_from(self.open.as_ref()?.size()).unwrap_or(usize::MAX);
            return Some(max.saturating_sub(used).max(bytes));
        }
        Some((max - used.min(max)).max(bytes))
    }

    fn too_old(&mut self) -> bool {
        let now = self.clock.now();
        let born = self.open.as_mut().and_then(|open| open.first_line(now));
        born.is_some_and(|born| now.duration_since(born) > self.rules.max_age())
    }

    /// Not while lines still go into a file that was moved, because no other could be opened.
    fn tidy(&mut self) {
        if self.open.as_ref().is_none_or(|open| open.is_at(&self.path)) {
            self.archive.tidy(self.clock.now());
        }
    }

    /// Moves the file out of the way. If that fails it grows: a log that is too large is better than none.
    fn rotate(&mut self) {
        if self.stuck {
            return;
        }
        match self.archive.take(&self.path, self.clock.now()) {
            Ok(()) => {
                self.stuck_told = false;
                self.reopen();
                self.tidy();
            }
            Err(error) => {
                self.stuck = true;
                if std::mem::replace(&mut self.stuck_told, true) {
                    return;
                }
                let path = self.path.display();
                tracing::warn!(error = super::cause(&error), %path, "the log file can't be moved out of the way, so it grows; let the agent write to its folder");
            }
        }
    }

    /// Says once what is wrong, and once that it is over.
    fn trouble(&mut self, now: Option<std::io::Error>) {
        let text = now.as_ref().map(ToString::to_string);
        if text == self.trouble {
            return;
        }
        let path = self.path.display();
        match &now {
            Some(error) => {
                tracing::error!(error = super::cause(error), %path, "the log file can't be written: its lines are lost and counted until it can; make room, or let the agent write there");
                // The log goes nowhere else perhaps.
                let said = format!(
                    "error: the log file {path} can't be written: {error}; its lines are lost until it can\n"
                );
                let _lost_too = std::io::stderr().write_all(said.as_bytes());
            }
            None => tracing::info!(%path, "the log file can be written again"),
        }
        self.trouble = text;
    }
}

impl Sink for LogFile {
    fn write(&mut self, batch: &Batch) -> u64 {
        batch.len() - self.write_lines(&mut batch.lines())
    }

    fn tell_lost(&mut self, lost: u64) -> Told {
        let line = (self.notice)(lost);
        match self.write_lines(&mut std::iter::once(line.as_bytes())) {
            0 => Told::NotNow,
            _ => Told::Yes,
        }
    }

    fn reopen(&mut self) {
        self.open = match Open::at(&self.path) {
            Ok(open) => Some(open),
            Err(error) => {
                self.trouble(Some(error));
                // Better into the file that was moved than nowhere.
                self.open.take().filter(Open::is_linked)
            }
        };
    }

    fn look_after(&mut self) {
        self.stuck = false;
        if self.too_old() {
            self.rotate();
        }
        self.tidy();
    }
}
