//! The level of the log. Invariant: what is set ends by itself, if it was to.

use std::time::Duration;

use ghost_core::domain::AppError;
use ghost_core::domain::validation::{Invalid, Violations};
use ghost_proto::agentpb::{LogLevel, SetLogLevelRequest};

use crate::config;
use crate::observability::logging::LogHandle;

/// Longest time for which a level is set (the wire contract).
const LONGEST_SECONDS: i64 = 7 * 86_400;

pub(super) fn told(log: &LogHandle) -> LogLevel {
    let now = log.level();
    LogLevel {
        level: now.level.as_str().to_owned(),
        configured: now.configured.as_str().to_owned(),
        until: now.until.map(|until| format!("{until:.0}")).unwrap_or_default(),
    }
}

/// # Errors
/// `VALIDATION_ERROR`, with every wrong field.
pub(super) fn set(log: &LogHandle, message: &SetLogLevelRequest) -> Result<LogLevel, AppError> {
    let mut wrong = Violations::default();
    let level = wrong.check("level", level(&message.level));
    let time = wrong.check("for_seconds", time(message));
    let (level, time) = wrong.finish(level.zip(time))?;
    log.set_level(level, time);
    Ok(told(log))
}

fn level(name: &str) -> Result<Option<config::LogLevel>, Invalid> {
    match name {
        "" => Ok(None),
        "debug" => Ok(Some(config::LogLevel::Debug)),
        "info" => Ok(Some(config::LogLevel::Info)),
        "warn" => Ok(Some(config::LogLevel::Warn)),
        "error" => Ok(Some(config::LogLevel::Error)),
        _ => Err(Invalid::new(
            "must be debug, info, warn or error, or empty for the configuration's",
        )),
    }
}

fn time(message: &SetLogLevelRequest) -> Result<Option<Duration>, Invalid> {
    match message.for_seconds {
        0 => Ok(None),
        _ if message.level.is_empty() => Err(Invalid::new("needs a level")),
        seconds @ 1..=LONGEST_SECONDS => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        _ => Err(Invalid::new("must be 0 to 604800 (7 days)")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ghost_core::testing::FakeClock;

    use super::*;

    fn asked(log: &LogHandle, level: &str, for_seconds: i64) -> Result<LogLevel, AppError> {
        set(log, &SetLogLevelRequest { level: level.to_owned(), for_seconds })
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_is_set_for_a_time_until_the_end_or_taken_back() {
        let log = LogHandle::detached(Arc::new(FakeClock::default()));
        let now = asked(&log, "debug", 600).unwrap();
        assert_eq!(
            (&*now.level, &*now.configured, &*now.until),
            ("debug", "info", "2026-01-01T00:10:00Z")
        );
        assert_eq!(told(&log), now);
        assert_eq!(asked(&log, "error", 0).unwrap().until, "");
        assert_eq!(asked(&log, "", 0).unwrap().level, "info");
    }

    #[tokio::test]
    async fn every_wrong_field_is_named_and_nothing_is_set() {
        let log = LogHandle::detached(Arc::new(FakeClock::default()));
        for (level, seconds, wrong) in [
            ("verbose", 0, &["level"][..]),
            ("DEBUG", -1, &["level", "for_seconds"]),
            ("debug", LONGEST_SECONDS + 1, &["for_seconds"]),
            ("", 60, &["for_seconds"]),
        ] {
            let refused = asked(&log, level, seconds).unwrap_err();
            let fields: Vec<_> = refused.violations().iter().map(|v| &*v.field).collect();
            assert_eq!(fields, wrong);
        }
        assert_eq!(told(&log).level, "info");
    }
}
