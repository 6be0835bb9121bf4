//! The level of the agent's log. Invariant: one answer, whether it was asked or set.

use std::time::Duration;

use clap::{Args, ValueEnum};
use ghost_proto::agentpb::{self, GetLogLevelRequest, SetLogLevelRequest};
use serde::Serialize;

use super::vm::READ_LIMIT;
use crate::cli::{self, Global};
use crate::connect;
use crate::errors::{Exit, Failure};
use crate::output::printable;

/// Options of `log-level`.
#[derive(Debug, Args)]
pub(crate) struct LogLevel {
    /// The least severe level to be logged from now on; without it the level is shown.
    #[arg(value_enum, conflicts_with = "reset")]
    level: Option<Level>,
    /// For how long, such as 90s, 10m, 2h or 7d; then the configuration's level is back. Without it the level holds until
    /// the agent ends.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_time, requires = "level")]
    time: Option<Duration>,
    /// Go back to the configuration's level at once.
    #[arg(long)]
    reset: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// The steps of each command, too.
    Debug,
    /// What the agent does.
    Info,
    /// What needs an eye.
    Warn,
    /// What failed.
    Error,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The level as documents show it; the fields are those of the wire contract.
#[derive(Debug, Serialize)]
struct Now {
    level: String,
    configured: String,
    until: String,
}

impl From<agentpb::LogLevel> for Now {
    fn from(now: agentpb::LogLevel) -> Self {
        let agentpb::LogLevel { level, configured, until } = now;
        Self { level, configured, until }
    }
}

/// Shows or sets the level.
pub(crate) async fn run(args: &LogLevel, global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await?;
    let now =
        if args.level.is_none() && !args.reset {
            let ask = GetLogLevelRequest {};
            agent
                .operate(ask, READ_LIMIT, |mut client, ask| async move {
                    client.get_log_level(ask).await
                })
                .await?
        } else {
            let seconds = args.time.map_or(0, |time| time.as_secs());
            let set = SetLogLevelRequest {
                level: args.level.map(Level::as_str).unwrap_or_default().to_owned(),
                for_seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
            };
            agent
                .operate(set, READ_LIMIT, |mut client, set| async move {
                    client.set_log_level(set).await
                })
                .await?
        };
    global.output.print(&Now::from(now), told)?;
    Ok(Exit::Done)
}

fn told(now: &Now) -> String {
    let (level, configured) = (printable(&now.level), printable(&now.configured));
    match now.until.as_str() {
        "" if level == configured => format!("{level}, as configured\n"),
        "" => format!("{level} until the agent ends, then {configured} as configured\n"),
        until => format!("{level} until {}, then {configured} as configured\n", printable(until)),
    }
}

/// A whole number with `s`, `m`, `h` or `d`. At least 1 s, at most 7 days (the wire contract).
fn parse_time(text: &str) -> Result<Duration, String> {
    const WANTED: &str =
        "give a whole number with s, m, h or d, from 1s to 7d, such as 90s, 10m or 2h";
    const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    cli::within(text, &UNITS, 7 * 86_400).ok_or_else(|| WANTED.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_unit_and_end_at_seven_days() {
        for (text, seconds) in [("1s", 1), ("10m", 600), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "0s", "8d", "-1m", "1.5h", "99999999999999999999d", "604801s"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
