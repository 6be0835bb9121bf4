//! The level in force. Invariant: what overrides the configuration ends when it was said to, by itself.
//!
//! ```text
//! configured ──set(level, None)──▶ until the agent ends or set(None)
//!     ▲  └──set(level, time)──▶ for a time ──┐
//!     └───────────── set(None), time over ───┘
//! ```

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ghost_core::ports::Clock;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

use crate::config::LogLevel;

/// Its lines are written whatever the level: they are about the log.
pub(super) const ALWAYS: &str = "ghost_agent::log";

/// The level now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelNow {
    /// In force.
    pub level: LogLevel,
    /// The configuration's.
    pub configured: LogLevel,
    /// When the configuration's is in force again, if that is known; nothing if it is, or if the level holds until the
    /// agent ends.
    pub until: Option<Timestamp>,
}

/// What is in the place of the configuration's level.
#[derive(Debug, Clone, Copy)]
struct Override {
    /// On the monotonic clock.
    ends: Option<Duration>,
    /// The same on the wall clock, as it was when it was set.
    until: Option<Timestamp>,
}

/// The level and what it may change.
#[derive(Debug)]
pub(super) struct Switch {
    configured: LogLevel,
    in_force: Arc<AtomicU8>,
    state: Mutex<Option<Override>>,
    changed: Notify,
}

impl Switch {
    pub(super) fn new(configured: LogLevel) -> Self {
        Self {
            configured,
            in_force: Arc::new(AtomicU8::new(configured as u8)),
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn filter(&self) -> LevelGate {
        LevelGate(Arc::clone(&self.in_force))
    }

    pub(super) fn now(&self) -> LevelNow {
        let state = self.state();
        LevelNow {
            level: decode(self.in_force.load(Ordering::Relaxed)),
            configured: self.configured,
            until: state.and_then(|over| over.until),
        }
    }

    pub(super) fn set(&self, level: Option<LogLevel>, time: Option<Duration>, clock: &dyn Clock) {
        let mut state = self.state();
        *state = level.map(|_| Override {
            ends: time.map(|time| clock.monotonic() + time),
            until: time.and_then(|time| {
                clock.now().checked_add(SignedDuration::try_from(time).ok()?).ok()
            }),
        });
        self.put(level.unwrap_or(self.configured));
        drop(state);
        self.changed.notify_one();
    }

    /// Returns when a level that was set for a time was taken back because its time is over.
    pub(super) async fn over(&self, clock: &dyn Clock) {
        loop {
            let changed = self.changed.notified();
            let ends = self.state().and_then(|over| over.ends);
            let Some(ends) = ends else {
                changed.await;
                continue;
            };
            tokio::select! {
                () = changed => {}
                () = clock.sleep(ends.saturating_sub(clock.monotonic())) => {}
            }
            let mut state = self.state();
            let over =
                state.and_then(|over| over.ends).is_some_and(|ends| clock.monotonic() >= ends);
            if over {
                *state = None;
                self.put(self.configured);
                return;
            }
        }
    }

    fn put(&self, level: LogLevel) {
        self.in_force.store(level as u8, Ordering::Relaxed);
        // Each place that logs remembers whether it has to.
        tracing::callsite::rebuild_interest_cache();
    }

    fn state(&self) -> MutexGuard<'_, Option<Override>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn decode(level: u8) -> LogLevel {
    const DEBUG: u8 = LogLevel::Debug as u8;
    const INFO: u8 = LogLevel::Info as u8;
    const WARN: u8 = LogLevel::Warn as u8;
    match level {
        DEBUG => LogLevel::Debug,
        INFO => LogLevel::Info,
        WARN => LogLevel::Warn,
        _ => LogLevel::Error,
    }
}

/// Lets pass what is to be logged: our lines of the level in force, a library's warnings and errors, and all our spans,
/// because a line at any level needs their fields.
#[derive(Debug, Clone)]
pub(super) struct LevelGate(Arc<AtomicU8>);

impl LevelGate {
    fn level(&self) -> LevelFilter {
        match decode(self.0.load(Ordering::Relaxed)) {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
        }
    }

    fn passes(&self, what: &Metadata<'_>) -> bool {
        let level = self.level();
        let level = match ours(what.target()) {
            true if what.is_span() => level.max(LevelFilter::INFO),
            true if what.target() == ALWAYS => level.max(LevelFilter::WARN),
            true => level,
            false => level.min(LevelFilter::WARN),
        };
        *what.level() <= level
    }
}

fn ours(target: &str) -> bool {
    target.starts_with("ghost_")
}

impl<S> Filter<S> for LevelGate {
    fn enabled(&self, what: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.passes(what)
    }

    fn callsite_enabled(&self, what: &'static Metadata<'static>) -> Interest {
        match self.passes(what) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level().max(LevelFilter::INFO))
    }
}

/// Which of the four counters counts this level: those of [`LogLevel`], from debug to error.
pub(super) fn index(level: Level) -> usize {
    match level {
        Level::ERROR => 3,
        Level::WARN => 2,
        Level::INFO => 1,
        Level::DEBUG | Level::TRACE => 0,
    }
}
