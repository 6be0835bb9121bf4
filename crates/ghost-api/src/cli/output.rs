//! Invariant: an answer is written whole, and what agents wrote can't command the terminal; a reader that
//! hangs up (`| head`) is no failure.

use std::io::{self, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use super::failure::Failure;

/// How answers are printed; errors follow it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}

impl Format {
    /// Prints `value`, for people as `table` draws it.
    ///
    /// # Errors
    /// If standard output can't be written to.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = match self {
            Self::Table => table(value),
            Self::Json => {
                serde_json::to_string_pretty(value)
                    .map_err(|error| Failure::local(format!("cannot print the answer: {error}")))?
                    + "\n"
            }
        };
        let mut out = anstream::stdout();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::local(format!("cannot write to standard output: {error}")))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// `text` without control characters, nor those that show text in another order than it is in (Unicode's
/// bidirectional controls, UAX #9) or hide some of it.
pub(crate) fn printable(text: &str) -> String {
    let misleads = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if misleads(c) { '\u{fffd}' } else { c }).collect()
}

/// Columns two blanks apart, as wide as their widest cell, under `head`; the last one unpadded.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect());
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `name  value` lines, the values aligned.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:<width$}  {}\n", printable(value))).collect()
}

/// RFC 3339 in UTC, or nothing.
pub(crate) fn time(at: Option<prost_types::Timestamp>) -> String {
    let at = at.and_then(|at| jiff::Timestamp::from_second(at.seconds).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_cannot_forge_a_line_or_command_the_terminal() {
        let text =
            table(&["NAME", "X"], &[vec!["a\nb\u{1b}[31m".to_owned(), "\u{202e}c".to_owned()]]);
        assert_eq!(text, "NAME      X\na\u{fffd}b\u{fffd}[31m  \u{fffd}c\n");
    }
}
