//! Invariant: what clap hands on is well-formed; what depends on several options at once is decided
//! in [`crate::connect`] and ends as a usage error with the same exit code, 2.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cmds;
use crate::output::Format;

/// Printed by `--help` and in the man page; the numbers are those of [`crate::errors::Exit`].
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed for another reason
  2  wrong usage of the command line
  3  no such VM or image
  4  the agent found the request invalid
  5  conflict: name taken, wrong state, another operation under way, file exists
  6  the host has not enough CPU, memory or disk left
  7  agent or hypervisor unreachable or unavailable
  8  timed out
  9  not permitted, or an identity could not be proven (certificates)";

/// Operate a Ghost Agent: its VMs, its certificates and the host under it.
#[derive(Debug, Parser)]
#[command(name = "agentctl", version = cmds::version::LONG, after_help = EXIT_CODES, propagate_version = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every verb takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// How to print answers and errors.
    #[arg(short, long, global = true, help_heading = "Global", value_enum, default_value_t = Format::Table, env = "AGENTCTL_OUTPUT")]
    pub(crate) output: Format,
    /// Limit for the call, such as 90s, 5m or 1h [default: create 3h, start 3m, stop and delete 2m, image verify and remove 1h, image pull and update 24h, others 30s].
    #[arg(long, global = true, help_heading = "Global", value_name = "DURATION", value_parser = parse_timeout, env = "AGENTCTL_TIMEOUT")]
    pub(crate) timeout: Option<Duration>,
    /// Id of the command, by which the agent's log, its events and errors name it; a create that is given the id of an earlier
    /// one gives the same VM again [env: GHOST_REQUEST_ID, which does not make a create repeatable] [default: a new UUID].
    #[arg(long, global = true, help_heading = "Global", value_name = "ID", value_parser = parse_request_id)]
    pub(crate) request_id: Option<String>,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// Which agent to talk to, and with which identity.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// Unix socket of the local agent [env: GHOST_AGENT_SOCKET] [default: /run/ghost/agent.sock].
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Talk to a remote agent over mutual TLS 1.3 instead; the port is 9090 unless given [env: AGENTCTL_ADDR].
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    pub(crate) addr: Option<String>,
    /// Folder with ca.crt, operator.crt and operator.key, as `certs init` makes it.
    #[arg(long, global = true, value_name = "DIR", env = "AGENTCTL_CERTS")]
    pub(crate) certs: Option<PathBuf>,
    /// Certificate of the CA that signed the agent's certificate (PEM).
    #[arg(long, global = true, value_name = "FILE", env = "AGENTCTL_CA")]
    pub(crate) ca: Option<PathBuf>,
    /// Your own certificate (PEM).
    #[arg(long, global = true, value_name = "FILE", env = "AGENTCTL_CERT")]
    pub(crate) cert: Option<PathBuf>,
    /// The private key of your certificate (PEM).
    #[arg(long, global = true, value_name = "FILE", env = "AGENTCTL_KEY")]
    pub(crate) key: Option<PathBuf>,
    /// DNS name or IP that the agent's certificate must carry [default: the host of --addr].
    #[arg(long, global = true, value_name = "NAME", env = "AGENTCTL_SERVER_NAME")]
    pub(crate) server_name: Option<String>,
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Is it well, what runs, what does it cost me, what is to be done? Exit code 1 when it is unhealthy.
    #[command(after_help = EXIT_CODES)]
    Status,
    /// Create, list, watch, inspect, start, stop and delete VMs.
    #[command(subcommand, after_help = EXIT_CODES)]
    Vm(cmds::vm::Command),
    /// List, fetch, update, verify and remove the images that VMs are made from.
    #[command(subcommand, after_help = EXIT_CODES)]
    Image(cmds::image::Command),
    /// Show the host of the agent: what it has, what its owner keeps, what VMs have.
    #[command(after_help = EXIT_CODES)]
    Node,
    /// Show what each VM takes, busiest first, again and again; Ctrl-C ends it.
    #[command(after_help = EXIT_CODES)]
    Top(cmds::top::Top),
    /// Make and inspect certificates.
    #[command(subcommand)]
    Certs(cmds::certs::Command),
    /// Is this host fit to run VMs? Each finding with its remedy; exit code 1 when one failed.
    Doctor(cmds::doctor::Doctor),
    /// Collect what belongs into a bug report, secrets taken out.
    #[command(subcommand)]
    Debug(cmds::debug::Command),
    /// Show or set the level of the agent's log, without a restart.
    #[command(after_help = EXIT_CODES)]
    LogLevel(cmds::log_level::LogLevel),
    /// Print the completion script of a shell.
    Completions(cmds::completions::Completions),
    /// Write the man pages into a folder, or the main one to standard output.
    Man(cmds::man::Man),
    /// Print version, commit and target.
    Version,
}

/// An id that can stand in a log, a header and a file alike.
pub(crate) fn parse_request_id(text: &str) -> Result<String, String> {
    if (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("give 1 to 128 visible ASCII characters".to_owned())
    }
}

/// A whole number with `s`, `m` or `h`; seconds when there is no unit. At least 1 s, at most a day.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    const WANTED: &str = "give a whole number with s, m or h, from 1s to 24h, such as 90s or 5m";
    const UNITS: [(&str, u64); 4] = [("", 1), ("s", 1), ("m", 60), ("h", 3600)];
    within(text, &UNITS, 86_400).ok_or_else(|| WANTED.to_owned())
}

/// A whole number and one of the units, given with their seconds: from one second to `longest`.
pub(crate) fn within(text: &str, units: &[(&str, u64)], longest: u64) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let (_, each) = units.iter().find(|(name, _)| *name == unit)?;
    let seconds = digits.parse::<u64>().ok()?.checked_mul(*each)?;
    (1..=longest).contains(&seconds).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod documented;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn timeouts_take_units_and_refuse_what_makes_no_sense() {
        for (text, seconds) in [("1", 1), ("90s", 90), ("5m", 300), ("24h", 86_400)] {
            assert_eq!(parse_timeout(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "s",
            "5 m",
            "-1",
            "1.5m",
            "25h",
            "5d",
            "99999999999999999999h",
            "300000000000000000m",
        ] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
    }
}
