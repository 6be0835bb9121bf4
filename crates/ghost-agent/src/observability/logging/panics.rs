//! A panic is a fault like any other: one line, with where it was.

use std::backtrace::Backtrace;
use std::error::Error;
use std::fmt;
use std::panic::PanicHookInfo;
use std::time::Duration;

use super::cause;
use super::handle::LogHandle;
use super::layer::is_writing;

/// How long a panic waits for its line to be written.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// A panic, as an error; by hand, because `thiserror` hands a backtrace on in a way that Rust has not settled yet.
#[derive(Debug)]
pub(super) struct Panicked {
    said: String,
    pub(super) found: Backtrace,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = &self.said;
        write!(f, "a part of the agent panicked: {said}; this is a bug, please report it")
    }
}

impl Error for Panicked {}

/// Logs panics. One in the log itself is told on standard error, as without a log.
///
/// The process may end with it: its line is waited for.
pub(super) fn log(handle: LogHandle) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match is_writing() {
        true => before(panic),
        false => {
            say(panic);
            handle.flush(LAST_WORDS);
        }
    }));
}

fn say(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let said = text.unwrap_or("without a word").to_owned();
    let panicked = Panicked { said, found: Backtrace::force_capture() };
    let at = panic.location().map(tracing::field::display);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(error = cause(&panicked), at, thread, "panicked");
}
