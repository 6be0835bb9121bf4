//! How a fetch is told. Invariant: the answer goes to standard output; how far it is goes to standard
//! error, as a bar to a person and as a line now and then to a log; documents have all of it, a line each.

mod bar;
mod lines;

use std::io::IsTerminal as _;
use std::time::Instant;

use ghost_proto::agentpb::ImageProgress;
use serde::Serialize;

use crate::errors::Failure;
use crate::output::{self, Format, Reader};
use bar::Bar;
use lines::Lines;

/// Tells one stream of [`ImageProgress`].
#[derive(Debug)]
pub(super) enum Teller {
    /// For a person at a terminal.
    Bar(Box<Bar>),
    /// For a log.
    Lines(Lines),
    /// For a program: every event.
    Documents(Format),
}

/// An event as a document.
#[derive(Debug, Serialize)]
struct Document<'a> {
    /// When it was received, local time with its offset, RFC 3339.
    time: String,
    template: &'a str,
    stage: &'a str,
    done_bytes: i64,
    total_bytes: i64,
    digest: &'a str,
    /// What "updated" took the place of, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    url: &'a str,
    message: &'a str,
}

impl Teller {
    /// The one that fits the format and the terminal.
    pub(super) fn new(format: Format) -> Self {
        match format {
            Format::Table if std::io::stderr().is_terminal() => Self::Bar(Box::default()),
            Format::Table => Self::Lines(Lines::default()),
            Format::Json | Format::Yaml => Self::Documents(format),
        }
    }

    /// Tells a stage that is under way.
    pub(super) fn under_way(&mut self, progress: ImageProgress) -> Result<Reader, Failure> {
        match self {
            Self::Bar(bar) => bar.show(progress, Instant::now()),
            Self::Lines(lines) => {
                if let Some(line) = lines.line(&progress, Instant::now()) {
                    output::remark(&line);
                }
            }
            Self::Documents(format) => return document(*format, &progress, None),
        }
        Ok(Reader::There)
    }

    /// Tells what became of a template, for people as `line`, which ends with a line feed.
    pub(super) fn outcome(
        &mut self,
        progress: &ImageProgress,
        from: Option<&str>,
        line: &str,
    ) -> Result<Reader, Failure> {
        match self {
            Self::Bar(bar) => {
                bar.clear();
                output::emit_more(line)
            }
            Self::Lines(_) => output::emit_more(line),
            Self::Documents(format) => document(*format, progress, from),
        }
    }

    /// Shows that time goes by.
    pub(super) fn tick(&mut self) {
        match self {
            Self::Bar(bar) => bar.tick(Instant::now()),
            Self::Lines(_) | Self::Documents(_) => {}
        }
    }
}

fn document(
    format: Format,
    progress: &ImageProgress,
    from: Option<&str>,
) -> Result<Reader, Failure> {
    let document = Document {
        time: jiff::Zoned::now().strftime("%FT%T%.3f%:z").to_string(),
        template: &progress.template,
        stage: &progress.stage,
        done_bytes: progress.done_bytes,
        total_bytes: progress.total_bytes,
        digest: &progress.digest,
        from,
        url: &progress.url,
        message: &progress.message,
    };
    output::emit_more(&format.line(&document)?.unwrap_or_default())
}
