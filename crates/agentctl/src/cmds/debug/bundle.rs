//! `debug bundle`: collects, writes, and says what to do with it. Invariant: a dead agent is a reason for a bundle, not against one.

use std::path::PathBuf;

use clap::Args;
use ghost_scrub::Scrubber;
use serde::Serialize;

use super::agent;
use super::archive::Place;
use super::contents::Contents;
use super::local::{self, Looks};
use crate::cli::Global;
use crate::connect::Target;
use crate::errors::{Exit, Failure};
use crate::interrupt::or_interrupted;
use crate::output;

/// Options of `debug bundle`.
#[derive(Debug, Args)]
pub(crate) struct Bundle {
    /// Where to write it, or - for standard output [default: ghost-debug-HOST-TIME.tar.gz, here]; nothing is overwritten.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Last lines of the agent's log, at most.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    log_lines: i32,
}

/// What is printed about it.
#[derive(Debug, Serialize)]
struct Written {
    /// `null` for standard output.
    file: Option<String>,
    bytes: u64,
    files: usize,
    missing: Vec<String>,
}

/// Collects and writes.
pub(super) async fn run(args: Bundle, global: &Global) -> Result<Exit, Failure> {
    let folder = folder_name();
    let file = args.file.unwrap_or_else(|| format!("{folder}.tar.gz").into());
    let place = Place::choose(file)?;
    let interrupted = || Err(Failure::local("interrupted; nothing was written"));
    let contents = or_interrupted(Box::pin(collect(args.log_lines, global)), interrupted).await?;
    let missing = contents.missing().to_vec();
    let files = contents.finish();
    let bytes = place.write(&folder, &files)?;
    let file = match &place {
        Place::Stdout => None,
        Place::File(path) => Some(path.display().to_string()),
    };
    tell(&Written { file, bytes, files: files.len(), missing }, global)?;
    Ok(Exit::Done)
}

async fn collect(log_lines: i32, global: &Global) -> Result<Contents, Failure> {
    let secrets = local::secrets();
    let mut contents = Contents::new(Scrubber::knowing(secrets.iter().map(String::as_str)));
    local::version(&mut contents);
    let target = Target::choose(&global.connection, |name| std::env::var(name).ok())?;
    let sent = match &target {
        Target::Socket(_) => {
            let (sent, looks) =
                tokio::join!(agent::collect(log_lines, global), Looks::take(global));
            looks.put_into(&mut contents);
            sent
        }
        Target::Remote(_) => {
            contents.miss("doctor, journal: left out, because this is not the agent's host; run this there too");
            agent::collect(log_lines, global).await
        }
    };
    match sent {
        Ok(sent) => {
            for (name, bytes) in &sent.files {
                contents.add_sent(name, &String::from_utf8_lossy(bytes));
            }
            sent.missing.iter().for_each(|what| contents.miss(what));
        }
        Err(failure) if failure.exit == Exit::Usage => return Err(failure),
        Err(failure) => {
            contents.miss(&format!(
                "agent, ledger, libvirt, host: the agent did not tell: {}",
                failure.text()
            ));
        }
    }
    Ok(contents)
}

/// `ghost-debug-HOST-TIME`, of characters that every file system takes.
fn folder_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    format!("ghost-debug-{host}-{time}")
}

/// Standard output is the bundle's, if it went there.
fn tell(written: &Written, global: &Global) -> Result<(), Failure> {
    match written.file {
        Some(_) => global.output.print(written, draw),
        None => {
            output::remark(draw(written).trim_end());
            Ok(())
        }
    }
}

fn draw(written: &Written) -> String {
    let to = written.file.as_deref().unwrap_or("standard output");
    #[expect(clippy::cast_precision_loss, reason = "a bundle has 64 MiB at most")]
    let size = output::bytes(written.bytes as f64);
    let mut text = format!("wrote {}: {size}, {} files\n", output::printable(to), written.files);
    for missing in &written.missing {
        text.push_str(&format!("missing: {}\n", output::printable(missing)));
    }
    text.push_str(
        "look through it before you send it; README.txt says what is in it and what was left out\n",
    );
    text
}
