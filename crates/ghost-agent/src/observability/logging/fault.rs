//! What an error tells the log: itself, its causes, and where a fault of the agent was found.

use std::backtrace::Backtrace;
use std::error::Error;

use ghost_core::domain::{AppError, ErrorCode};

use super::panics::Panicked;

/// Most frames of a backtrace that are told; the rest is the runtime's.
const FRAMES: usize = 64;

/// An error, taken apart.
#[derive(Debug, Default)]
pub(super) struct Fault {
    /// The published spelling of an [`AppError`]'s class.
    pub(super) code: Option<&'static str>,
    /// The error, then its causes; what its consequence quotes already is left out.
    pub(super) chain: Vec<String>,
    /// One line a frame, innermost first.
    pub(super) backtrace: Vec<String>,
}

impl Fault {
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut fault = Self::default();
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            if !fault.chain.last().is_some_and(|consequence| consequence.contains(&text)) {
                fault.chain.push(text);
            }
            if let Some(app) = error.downcast_ref::<AppError>() {
                fault.code = fault.code.or(Some(app.code().as_str()));
                if let Some(found) = app.backtrace().filter(|_| fault.backtrace.is_empty()) {
                    fault.backtrace = frames(found);
                }
            }
            if let Some(panic) = error.downcast_ref::<Panicked>() {
                fault.code = Some(ErrorCode::Internal.as_str());
                fault.backtrace = frames(&panic.found);
            }
            next = inside(error);
        }
        fault
    }
}

/// The next error: its cause, or what an error of the operating system's kind only wraps, whose own cause alone it tells.
fn inside<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| error.source())
}

/// A line a frame, without those of the capture itself: `ghost_agent::main at src/main.rs:1:1`.
fn frames(found: &Backtrace) -> Vec<String> {
    let text = found.to_string();
    let mut frames: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        match line.split_once(": ") {
            Some((number, name)) if number.bytes().all(|b| b.is_ascii_digit()) => {
                frames.push(name.to_owned());
            }
            _ => {
                if let Some(frame) = frames.last_mut() {
                    frame.push(' ');
                    frame.push_str(line);
                }
            }
        }
    }
    frames.truncate(FRAMES);
    frames
}
