//! What is logged, as it is written.

mod files;
mod journal;
mod levels;
mod lines;
mod losses;

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::Bytes;
use ghost_core::testing::FakeClock;
use serde_json::Value as Json;
use tracing_subscriber::layer::SubscriberExt as _;

use super::start::{Surroundings, start};
use super::text::Palette;
use super::{LogError, LogHandle};
use crate::config::{LogFormat, LogLevel, LogOutput, Logging};

/// How long a written line may take.
const SOON: Duration = Duration::from_secs(10);

/// A log into `file`.
fn logging(file: &Path) -> Logging {
    Logging {
        level: LogLevel::Info,
        output: LogOutput::File,
        file: file.to_owned(),
        format: LogFormat::Json,
        max_size: Bytes(1 << 20),
        max_age: Duration::from_secs(7 * 86_400),
        max_files: 10,
    }
}

/// A log that runs, in a folder of its own; what the thread of the test says goes there.
struct Rig {
    log: LogHandle,
    folder: tempfile::TempDir,
    _default: tracing::subscriber::DefaultGuard,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Logging)) -> Self {
        let around = Surroundings { palette: Palette::Plain, journal: None };
        Self::among(&around, change)
    }

    fn among(around: &Surroundings, change: impl FnOnce(&mut Logging)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut logging = logging(&folder.path().join("agent.log"));
        change(&mut logging);
        let clock = Arc::new(FakeClock::default());
        let (log, lines) = start(&logging, around, clock).unwrap();
        let subscriber = tracing_subscriber::registry().with(lines);
        let default = tracing::subscriber::set_default(subscriber);
        Self { log, folder, _default: default }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("agent.log")
    }

    /// What is in the file.
    fn text(&self) -> String {
        self.log.flush(SOON);
        std::fs::read_to_string(self.path()).unwrap()
    }

    /// The lines of the file.
    fn lines(&self) -> Vec<Json> {
        json(&self.text())
    }

    /// The last line.
    fn last(&self) -> Json {
        self.lines().pop().unwrap()
    }
}

fn json(text: &str) -> Vec<Json> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn unzipped(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path)?).read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn a_file_that_cannot_be_opened_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let logging = logging(&file.join("agent.log"));
    for refused in [super::look(&logging), begin(&logging)] {
        let error = refused.unwrap_err().to_string();
        assert!(
            error.contains("agent.log can't be opened for writing; make its folder"),
            "{error}"
        );
    }
}

fn begin(logging: &Logging) -> Result<(), LogError> {
    let around = Surroundings { palette: Palette::Plain, journal: None };
    let clock = Arc::new(FakeClock::default());
    start::<tracing_subscriber::Registry>(logging, &around, clock).map(drop)
}
