//! The terminal while `top` shows tables. Invariant: whatever was on it, and its cursor, is back when
//! the [`Screen`] is dropped; control sequences (xterm's, "Alt Screen Buffer", DECTCEM, DECAWM) are only
//! ever written to a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use super::table::Table;
use crate::errors::Failure;
use crate::output;

/// Alternate screen; no cursor; lines that are too long are cut.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l";
const LEAVE: &str = "\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";
const HOME: &str = "\u{1b}[H";
const CLEAR_TO_END_OF_LINE: &str = "\u{1b}[K";
const CLEAR_TO_END_OF_SCREEN: &str = "\u{1b}[J";
/// Of a terminal that does not tell its own.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// A terminal that was taken over.
#[derive(Debug)]
pub(super) struct Screen {
    _private: (),
}

impl Screen {
    /// Is standard output a terminal that can be drawn on?
    pub(super) fn usable() -> bool {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        io::stdout().is_terminal() && !dumb
    }

    /// Takes it over.
    pub(super) fn enter() -> Result<Self, Failure> {
        let screen = Self { _private: () };
        write(ENTER)?;
        Ok(screen)
    }

    /// Shows `table` in place of what was shown.
    pub(super) fn draw(&mut self, table: &Table<'_>) -> Result<(), Failure> {
        let (columns, rows) = output::terminal_size().unwrap_or(USUAL_SIZE);
        let lines = table.lines(columns, rows);
        let text = lines.join(&format!("{CLEAR_TO_END_OF_LINE}\r\n"));
        write(&format!("{HOME}{text}{CLEAR_TO_END_OF_LINE}{CLEAR_TO_END_OF_SCREEN}"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = write(LEAVE);
    }
}

/// Past `anstream`, which would take the sequences for colours when there is `NO_COLOR`.
fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::local(format!("cannot write to the terminal: {error}")))
}
