//! The file. Invariant: what is in it up to `length` is whole lines; what a write that failed left behind that is
//! cut off before the next.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use ghost_core::domain::backlog::Content;

use super::line::{self, Line};
use crate::atomic_file;
use crate::disk_error::DiskError;

/// What a file may grow by before it is written anew, beside as much as it had.
const GROWTH: u64 = 256 << 10;

/// Whether a write has to be on disk when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    Yes,
    No,
}

#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    /// When it was last written anew.
    compact: u64,
}

impl Log {
    /// The file at `path`, of which so much is whole; nothing is opened yet.
    pub(super) fn new(path: PathBuf, whole: Option<u64>) -> Self {
        let length = whole.unwrap_or_default();
        Self { path, file: None, length, compact: length }
    }

    #[cfg(test)]
    pub(super) fn set_file(&mut self, file: File) {
        self.file = Some(file);
    }

    /// Whether most of it is history.
    pub(super) fn is_long(&self) -> bool {
        self.length > 2 * self.compact + GROWTH
    }

    /// Adds lines. Blocks.
    pub(super) fn append(&mut self, lines: &[Line], sync: Sync) -> Result<(), DiskError> {
        let text = self.text(lines.iter())?;
        let done = self.write(&text, sync);
        if done.is_err()
            && let Some(file) = self.file.take()
        {
            // A part of it may be there. If it can't be cut off, the next write replaces the file.
            drop(file.set_len(self.length));
        }
        done.map_err(DiskError::on("write", &self.path))?;
        self.length += text.len() as u64;
        Ok(())
    }

    fn write(&mut self, text: &[u8], sync: Sync) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            closed @ None => {
                let file = OpenOptions::new().append(true).open(&self.path)?;
                file.set_len(self.length)?;
                closed.insert(file)
            }
        };
        file.write_all(text)?;
        match sync {
            Sync::Yes => file.sync_data(),
            Sync::No => Ok(()),
        }
    }

    /// Replaces it by one that holds `content` and nothing else. Blocks.
    pub(super) fn rewrite(&mut self, content: &Content) -> Result<(), DiskError> {
        let lines: Vec<Line> = line::snapshot(content).collect();
        let text = self.text(lines.iter())?;
        self.file = None;
        atomic_file::write(&self.path, &text)?;
        (self.length, self.compact) = (text.len() as u64, text.len() as u64);
        Ok(())
    }

    fn text<'a>(&self, lines: impl Iterator<Item = &'a Line>) -> Result<Vec<u8>, DiskError> {
        let mut text = Vec::new();
        for one in lines {
            line::write(one, &mut text)
                .map_err(|error| DiskError::on("encode", &self.path)(error.into()))?;
        }
        Ok(text)
    }
}
