//! Man pages, made from the definition of the command line.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};

use crate::cli::Cli;
use crate::errors::{Exit, Failure};
use crate::output;

/// Options of `man`.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write agentctl.1 and one page per verb here, such as /usr/local/share/man/man1; made when missing.
    dir: Option<PathBuf>,
}

/// Writes the pages.
pub(crate) fn run(args: &Man) -> Result<Exit, Failure> {
    match &args.dir {
        Some(dir) => all_pages(dir)?,
        None => {
            let mut page = Vec::new();
            let failed = |error| Failure::local(format!("cannot make the man page: {error}"));
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
            output::emit(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(Exit::Done)
}

fn all_pages(dir: &Path) -> Result<(), Failure> {
    let written =
        std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    written.map_err(|error| {
        Failure::local(format!("cannot write man pages into {}: {error}", dir.display()))
            .remedy("give a folder that you may write to")
    })
}
