//! Log files that were moved out of the way: `agent.log.20261123T183329123Z`, and soon `….gz`.
//!
//! Invariant: a moved file is there whole, plain or compressed, or it is gone; whatever dies, and whenever. Each is named by
//! when it was moved, so that no rotation renames another (numbers would be shifted one by one, and a crash in between
//! would leave a gap, or lose a file), and so that its age is known whatever touches it.
//!
//! ```text
//! agent.log ─rename▶ agent.log.TIME ─gzip▶ agent.log.TIME.gz.tmp ─fsync, rename▶ agent.log.TIME.gz ─▶ agent.log.TIME removed
//! ```

use std::cmp::Reverse;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};

use super::Rules;

/// Year to milliseconds, UTC.
const STAMP: &str = "%Y%m%dT%H%M%S";
/// How many names are tried for a file that is moved: one for each millisecond.
const NAMES: i64 = 1000;
/// How far a file's time may be ahead of the clock without being taken for wrong.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// The moved files of one log file.
#[derive(Debug)]
pub(super) struct Archive {
    shelf: Shelf,
    tidying: Option<JoinHandle<()>>,
    /// Why it was not all tidied, as far as that was told.
    told: Arc<Mutex<Option<String>>>,
}

impl Archive {
    pub(super) fn of(log: &Path, rules: Rules) -> Self {
        let folder = log.parent().unwrap_or(Path::new("/")).to_owned();
        let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { shelf: Shelf { folder, name, rules }, tidying: None, told: Arc::default() }
    }

    /// Waits until all is tidy.
    #[cfg(test)]
    pub(super) fn settle(&mut self) {
        if let Some(thread) = self.tidying.take() {
            thread.join().unwrap();
        }
    }

    /// Moves the file at `log` out of the way.
    pub(super) fn take(&self, log: &Path, now: Timestamp) -> io::Result<()> {
        for n in 0..NAMES {
            let at = now.saturating_add(SignedDuration::from_millis(n)).unwrap_or(now);
            let plain = self.shelf.folder.join(format!("{}.{}", self.shelf.name, stamp(at)));
            if !plain.exists() && !gz(&plain).exists() {
                return fs::rename(log, plain);
            }
        }
        Err(io::Error::other("there is a file of each name that it could get"))
    }

    /// Compresses what was moved and removes what is too old or too many, on a thread of its own; if one does so already it is left
    /// to the next time.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        if self.tidying.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let shelf = self.shelf.clone();
        let told = Arc::clone(&self.told);
        let work = move || {
            let tidied = shelf.tidy(now);
            let why = tidied.as_ref().err().map(ToString::to_string);
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = &tidied
                && *told != why
            {
                let folder = shelf.folder.display();
                tracing::warn!(error = super::super::cause(error), %folder, "former log files can't be compressed or removed now; it is tried again each minute");
            }
            *told = why;
        };
        // Without a thread it waits for the next time.
        self.tidying = std::thread::Builder::new().name("log-archive".to_owned()).spawn(work).ok();
    }
}

/// A moved file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moved {
    at: String,
    path: PathBuf,
}

/// Where moved files are.
#[derive(Debug, Clone)]
struct Shelf {
    folder: PathBuf,
    name: String,
    rules: Rules,
}

impl Shelf {
    /// What can be done is done; gives the first failure.
    fn tidy(&self, now: Timestamp) -> io::Result<()> {
        let found = self.find()?;
        let mut outcome = Ok(());
        let mut note = |result: io::Result<()>| {
            if outcome.is_ok() {
                outcome = result;
            }
        };
        found.halves.iter().for_each(|half| note(fs::remove_file(half)));
        let mut plain = found.plain;
        // Compressed already, but for the removal.
        plain.retain(|moved| match gz(&moved.path).exists() {
            true => {
                note(fs::remove_file(&moved.path));
                false
            }
            false => true,
        });
        let mut all: Vec<&Moved> = plain.iter().chain(&found.compressed).collect();
        // What a clock that went wrong called later than now would stay for ever, in the place of all that comes.
        let latest = stamp(now.saturating_add(AHEAD).unwrap_or(now));
        all.sort_unstable_by_key(|moved| Reverse((moved.at <= latest, &moved.at)));
        let mut gone = Vec::new();
        for (n, moved) in all.into_iter().enumerate() {
            if n >= self.rules.max_files || self.is_over(moved, now) {
                note(fs::remove_file(&moved.path));
                gone.push(moved.path.clone());
            }
        }
        for moved in plain.iter().filter(|moved| !gone.contains(&moved.path)) {
            note(compress(&moved.path));
        }
        outcome
    }

    fn is_over(&self, moved: &Moved, now: Timestamp) -> bool {
        let seconds = moved.at.get(..15).unwrap_or_default();
        let at = civil::DateTime::strptime(STAMP, seconds).ok();
        let at = at.and_then(|at| at.to_zoned(TimeZone::UTC).ok());
        at.is_some_and(|at| now.duration_since(at.timestamp()) > self.rules.max_age())
    }

    fn find(&self) -> io::Result<Found> {
        let mut found = Found::default();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // A link, a pipe or a folder by such a name is not ours.
            if !entry.file_type()?.is_file() {
                continue;
            }
            let path = entry.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(rest) = name.strip_prefix(&self.name).and_then(|rest| rest.strip_prefix('.'))
            else {
                continue;
            };
            let (at, kind) = rest.split_once('.').map_or((rest, ""), |(at, kind)| (at, kind));
            if !is_stamp(at) {
                continue;
            }
            let moved = Moved { at: at.to_owned(), path: path.clone() };
            match kind {
                "" => found.plain.push(moved),
                "gz" => found.compressed.push(moved),
                "gz.tmp" => found.halves.push(path),
                _ => {}
            }
        }
        Ok(found)
    }
}

#[derive(Debug, Default)]
struct Found {
    plain: Vec<Moved>,
    compressed: Vec<Moved>,
    halves: Vec<PathBuf>,
}

fn stamp(at: Timestamp) -> String {
    let seconds = at.to_zoned(TimeZone::UTC).strftime(STAMP).to_string();
    let millis = at.as_millisecond().rem_euclid(1000);
    format!("{seconds}{millis:03}Z")
}

fn is_stamp(text: &str) -> bool {
    let fits = |(n, byte): (usize, u8)| match n {
        8 => byte == b'T',
        18 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    text.len() == 19 && text.bytes().enumerate().all(fits)
}

fn gz(plain: &Path) -> PathBuf {
    with_suffix(plain, ".gz")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Puts a compressed file in the place of a plain one.
fn compress(plain: &Path) -> io::Result<()> {
    let (whole, half) = (gz(plain), with_suffix(plain, ".gz.tmp"));
    let written = write_compressed(plain, &half).and_then(|()| fs::rename(&half, &whole));
    if let Err(error) = written {
        // What a full disk cut would take its room until the next time.
        let _swept_next_time = fs::remove_file(&half);
        return Err(error);
    }
    if let Some(folder) = plain.parent() {
        File::open(folder)?.sync_all()?;
    }
    fs::remove_file(plain)
}

fn write_compressed(plain: &Path, half: &Path) -> io::Result<()> {
    let mut from = File::open(plain)?;
    let to = OpenOptions::new().write(true).create_new(true).mode(0o640).open(half)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?.sync_all()
}
