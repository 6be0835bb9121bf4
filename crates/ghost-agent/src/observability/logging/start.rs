//! Puts the log together from the configuration and from what is around the process.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ghost_core::ports::Clock;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use super::file::{LogFile, Notice, Rules};
use super::handle::LogHandle;
use super::journal::{self, Journal};
use super::json;
use super::layer::{Lines, Output, Outputs, Rendering};
use super::level::Switch;
use super::line::{Field, Line, Said, Value};
use super::place::LogError;
use super::queue::Queue;
use super::stdout::Stdout;
use super::text::{self, Palette};
use crate::config::{LogFormat, LogOutput, Logging};

/// What is around the process.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// What standard output shows.
    pub(super) palette: Palette,
    /// Where the journal takes entries, if standard output or standard error ends there.
    pub(super) journal: Option<PathBuf>,
}

impl Surroundings {
    pub(super) fn of_process() -> Self {
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let palette = match out.is_terminal() && !set("NO_COLOR") {
            true => Palette::Coloured,
            false => Palette::Plain,
        };
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let journal = journal::is_stream(&stream, [out.as_fd(), err.as_fd()]);
        Self { palette, journal: journal.then(|| PathBuf::from(journal::SOCKET)) }
    }
}

/// The log, and the layer that feeds it.
///
/// # Errors
/// If the log file can't be opened, or the system gives no threads.
pub(super) fn start<S: Subscriber + for<'a> LookupSpan<'a>>(
    logging: &Logging,
    around: &Surroundings,
    clock: Arc<dyn Clock>,
) -> Result<(LogHandle, impl Layer<S> + use<S>), LogError> {
    let mut all = Vec::new();
    match logging.output {
        LogOutput::Stdout => all.push(standard_output(logging, around, &clock)?),
        LogOutput::File => all.push(file(logging, &clock)?),
        LogOutput::Both => {
            all.push(file(logging, &clock)?);
            all.push(standard_output(logging, around, &clock)?);
        }
    }
    Ok(assemble(logging, all, clock))
}

fn assemble<S: Subscriber + for<'a> LookupSpan<'a>>(
    logging: &Logging,
    all: Vec<Output>,
    clock: Arc<dyn Clock>,
) -> (LogHandle, impl Layer<S> + use<S>) {
    let outputs = Outputs { clock, ring: Mutex::default(), all, counts: Default::default() };
    let (outputs, switch) = (Arc::new(outputs), Arc::new(Switch::new(logging.level)));
    let lines = Lines(Arc::clone(&outputs)).with_filter(switch.filter());
    (LogHandle::new(outputs, switch), lines)
}

fn standard_output(
    logging: &Logging,
    around: &Surroundings,
    clock: &Arc<dyn Clock>,
) -> Result<Output, LogError> {
    // Without journald at its place its stream still takes lines.
    let journal = around.journal.as_ref().and_then(|path| {
        let clock = Arc::clone(clock);
        let notice = move |lost| {
            let mut entry = Vec::new();
            journal::write(&lost_lines(lost, &*clock), &mut entry);
            entry
        };
        Journal::at(path, Box::new(notice)).ok()
    });
    if let Some(journal) = journal {
        let queue = Queue::start("log-journal", journal).map_err(LogError::Thread)?;
        return Ok(Output { rendering: Rendering::Journal, queue });
    }
    let rendering = rendering(logging.format, around.palette);
    let sink = Stdout::of_process(notice(rendering, clock)).map_err(LogError::Thread)?;
    let queue = Queue::start("log-stdout", sink).map_err(LogError::Thread)?;
    Ok(Output { rendering, queue })
}

fn file(logging: &Logging, clock: &Arc<dyn Clock>) -> Result<Output, LogError> {
    let rendering = rendering(logging.format, Palette::Plain);
    let rules = Rules {
        max_size: logging.max_size,
        max_age: logging.max_age,
        max_files: logging.max_files as usize,
    };
    let path = &logging.file;
    let sink = LogFile::open(path, rules, Arc::clone(clock), notice(rendering, clock))
        .map_err(|source| LogError::File { path: path.clone(), source })?;
    let queue = Queue::start("log-file", sink).map_err(LogError::Thread)?;
    Ok(Output { rendering, queue })
}

fn rendering(format: LogFormat, palette: Palette) -> Rendering {
    match format {
        LogFormat::Json => Rendering::Json,
        LogFormat::Text => Rendering::Text(palette),
    }
}

fn notice(rendering: Rendering, clock: &Arc<dyn Clock>) -> Notice {
    let clock = Arc::clone(clock);
    Box::new(move |lost| {
        let (line, mut text) = (lost_lines(lost, &*clock), String::new());
        match rendering {
            Rendering::Text(palette) => text::write(&line, palette, &mut text),
            Rendering::Json | Rendering::Journal => json::write(&line, &mut text),
        }
        text
    })
}

/// The line about lines that were lost.
fn lost_lines(lost: u64, clock: &dyn Clock) -> Line<'static> {
    let event = Said {
        message: "lines of the log were lost here: what they were to be written to took no more"
            .to_owned(),
        fields: vec![Field { name: "lost", value: Value::Uint(lost) }],
        ..Said::default()
    };
    let (at, level, target) = (clock.now(), Level::WARN, super::level::ALWAYS);
    Line { at, level, target, place: None, event, spans: Vec::new() }
}
