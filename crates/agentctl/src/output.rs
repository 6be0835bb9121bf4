//! Invariant: an answer is written whole, in the chosen [`Format`]; a reader that hangs up (`| head`)
//! is no failure.

use std::io::{self, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use crate::errors::Failure;

/// How answers are printed; errors follow it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

impl Format {
    /// `value` as a document that ends with a line feed, or `None` for [`Format::Table`].
    pub(crate) fn document<T: Serialize>(self, value: &T) -> Result<Option<String>, Failure> {
        let broken = |error: &dyn std::fmt::Display| {
            Failure::local(format!("cannot print the answer: {error}"))
        };
        let mut text = match self {
            Self::Table => return Ok(None),
            Self::Json => serde_json::to_string_pretty(value).map_err(|error| broken(&error))?,
            Self::Yaml => serde_saphyr::to_string(value).map_err(|error| broken(&error))?,
        };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(Some(text))
    }

    /// `value` as one of several: a line of JSON, or a YAML document behind its marker; `None` for
    /// [`Format::Table`].
    pub(crate) fn line<T: Serialize>(self, value: &T) -> Result<Option<String>, Failure> {
        match self {
            Self::Table => Ok(None),
            Self::Json => {
                let line = serde_json::to_string(value)
                    .map_err(|error| Failure::local(format!("cannot print the answer: {error}")))?;
                Ok(Some(format!("{line}\n")))
            }
            Self::Yaml => Ok(self.document(value)?.map(|document| format!("---\n{document}"))),
        }
    }

    /// Prints `value`, for people as `table` draws it.
    pub(crate) fn print<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        match self.document(value)? {
            Some(text) => emit(&text),
            None => emit(&table(value)),
        }
    }
}

/// Writes `text` to standard output; colours only reach a terminal.
pub(crate) fn emit(text: &str) -> Result<(), Failure> {
    emit_more(text).map(drop)
}

/// Does anyone read standard output?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// As far as one can know.
    There,
    /// It hung up (`| head`): there is nobody to go on for.
    Gone,
}

/// As [`emit`], for a command with more to say.
pub(crate) fn emit_more(text: &str) -> Result<Reader, Failure> {
    let mut out = anstream::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::local(format!("cannot write to standard output: {error}"))),
    }
}

/// Says something beside the answer, on standard error.
pub(crate) fn remark(text: &str) {
    // Whoever has closed it does not want to know.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// `text` without control characters: what comes from a guest or an agent must not command the terminal.
///
/// Nor may it show text in another order than it is in (Unicode's bidirectional controls, UAX #9), or
/// hide some of it.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if ghost_scrub::misleads(c) { '\u{fffd}' } else { c }).collect()
}

/// Columns two blanks apart, as wide as their widest cell, under `head`; the last one unpadded.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect())
            .chain(rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()))
            .collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `name  value` lines, the values aligned.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:<width$}  {}\n", printable(value))).collect()
}

/// Bytes as people say them: `0 B`, `640 KiB`, `1.5 GiB`; of what is no amount, `?`.
pub(crate) fn bytes(bytes: f64) -> String {
    if !bytes.is_finite() || bytes < 0.0 {
        return "?".to_owned();
    }
    let mut amount = bytes;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if amount < 1023.95 {
            return format!("{} {unit}", decimal(amount));
        }
        amount /= 1024.0;
    }
    format!("{} PiB", decimal(amount))
}

/// With one decimal, or none if it would be 0.
pub(crate) fn decimal(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// How wide the terminal is that standard output goes to; 80 if it is none.
pub(crate) fn width() -> usize {
    terminal_size().map_or(80, |(columns, _)| columns)
}

/// Columns and rows of the terminal that standard output goes to, if it is one and tells.
pub(crate) fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    let told = size.ws_col > 0 && size.ws_row > 0;
    told.then_some((size.ws_col.into(), size.ws_row.into()))
}

/// Seconds as people say them: `42 s`, `3 min 5 s`, `2 h 0 min`, `5 d 3 h`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        86_400.. => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let rows = [
            vec!["web".to_owned(), "running".to_owned()],
            vec!["database".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["NAME", "STATUS"], &rows),
            "NAME      STATUS\nweb       running\ndatabase\n"
        );
    }

    #[test]
    fn an_answer_cannot_forge_a_line_of_the_table() {
        let text = table(&["NAME"], &[vec!["a\nb\u{1b}[31m".to_owned()]]);
        assert_eq!(text, "NAME\na\u{fffd}b\u{fffd}[31m\n");
    }

    #[test]
    fn text_cannot_be_shown_in_another_order_than_it_is_in() {
        assert_eq!(
            printable("a\u{202e}b\u{2066}c\u{200b}d\u{9b}é"),
            "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}é"
        );
    }

    #[test]
    fn bytes_read_like_speech() {
        for (amount, text) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1023.99, "1 KiB"),
            (1536.0, "1.5 KiB"),
            (5e9, "4.7 GiB"),
            (f64::from(1 << 30) * 1024.0 * 1024.0, "1 PiB"),
            (-1.0, "?"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(bytes(amount), text);
        }
    }

    #[test]
    fn durations_read_like_speech() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (7199, "1 h 59 min"),
            (100_000, "1 d 3 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
