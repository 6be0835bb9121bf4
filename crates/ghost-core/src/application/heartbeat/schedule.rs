//! What to tell the control plane next, and when; decided from what it answered last.
//!
//! ```text
//!            ok                       ok, every interval
//! Register ─────▶ Heartbeat ◀──────────────┐
//!   ▲  ▲  │           │  └────────────────────┘
//!   │  │  └ refused: again in 5 min
//!   │  └── away: again after a growing pause; unknown: the same, with a count of its own
//!   └───── away, unknown, refused;  superseded: Heartbeat again in 5 min, and no Register
//! ```
//! Invariants: heartbeats keep to a grid, so that slow answers do not make them drift; two of them are
//! `interval` ± 10 % apart; a control plane that registers an agent and then does not know it can't make it spin.

use std::time::Duration;

use crate::application::backoff::{Backoff, around};
use crate::domain::control::Refusal;

/// How long a refused or superseded agent is silent.
pub const SLOW: Duration = Duration::from_secs(300);

/// How far from the grid a heartbeat may be, as a part of the interval.
const OFF_GRID: f64 = 0.05;

/// What to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Who the agent is.
    Register,
    /// That it lives.
    Heartbeat,
}

/// The plan. All times are those of the monotonic clock.
#[derive(Debug, Clone)]
pub struct Schedule {
    next: Act,
    due: Duration,
    /// Wanted by the control plane, or else by the configuration.
    interval: Duration,
    /// Where the next heartbeat is due without jitter.
    grid: Duration,
    /// Calls that failed since the last that did not.
    failures: u32,
    /// How often the control plane did not know the agent, since it last did.
    unknown: u32,
}

impl Schedule {
    /// Registers at once; heartbeats every `interval` if the control plane wants nothing else.
    #[must_use]
    pub const fn new(interval: Duration, now: Duration) -> Self {
        Self { next: Act::Register, due: now, interval, grid: now, failures: 0, unknown: 0 }
    }

    /// What to tell next, and when.
    #[must_use]
    pub const fn next(&self) -> (Act, Duration) {
        (self.next, self.due)
    }

    /// The control plane took what was due, and wants that interval; `random` is from 0 to 1.
    pub fn heard(&mut self, wanted: Option<Duration>, now: Duration, random: f64) {
        let interval = wanted.unwrap_or(self.interval);
        self.failures = 0;
        match self.next {
            // All who were away are known again at the same time: from here on each has a place of its own.
            Act::Register => self.grid = now + interval.mul_f64(random),
            Act::Heartbeat => {
                self.unknown = 0;
                if interval != self.interval {
                    self.grid = now;
                }
                while self.grid <= now + interval.mul_f64(OFF_GRID) {
                    self.grid += interval;
                }
            }
        }
        self.interval = interval;
        self.next = Act::Heartbeat;
        let off = around(interval.mul_f64(OFF_GRID), 1.0, random);
        self.due = (self.grid + off).saturating_sub(interval.mul_f64(OFF_GRID));
    }

    /// It did not; `random` is from 0 to 1.
    pub fn failed(&mut self, refusal: Refusal, now: Duration, random: f64) {
        let backoff = Backoff::CONTROL_PLANE;
        let (next, pause) = match refusal {
            Refusal::Transient { retry_after } => {
                let pause = backoff.pause_after(retry_after, self.failures, random);
                self.failures = self.failures.saturating_add(1);
                (Act::Register, pause)
            }
            Refusal::NotRegistered => {
                let pause = backoff.pause(self.unknown, random);
                self.unknown = self.unknown.saturating_add(1);
                (Act::Register, pause)
            }
            // To register would take the id away from the newer process, which would take it back.
            Refusal::Superseded => (Act::Heartbeat, around(SLOW, 0.1, random)),
            Refusal::Refused => (Act::Register, around(SLOW, 0.1, random)),
        };
        (self.next, self.due) = (next, now + pause);
    }

    /// What is registered has changed: it is told with the next sign of life.
    pub const fn register_instead(&mut self) {
        self.next = Act::Register;
    }

    /// The control plane took events of this process, so it knows it.
    pub const fn known(&mut self) {
        self.unknown = 0;
    }

    /// A reason to have been refused is gone: what is due later is due now.
    pub fn hurry(&mut self, now: Duration) {
        self.due = self.due.min(now);
    }
}

#[cfg(test)]
mod tests;
