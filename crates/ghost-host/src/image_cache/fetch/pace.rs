//! How fast it must come. Invariant: a server that sends without end, but hardly anything, is left.

use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::Bytes;
use ghost_core::ports::Clock;

/// The least that must come in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// So much.
    pub least: Bytes,
    /// In any stretch of this length.
    pub per: Duration,
}

impl Default for Pace {
    /// 64 KiB a minute.
    fn default() -> Self {
        Self { least: Bytes(64 << 10), per: Duration::from_secs(60) }
    }
}

/// Measures one answer, stretch by stretch.
#[derive(Debug)]
pub(super) struct Meter {
    pace: Pace,
    clock: Arc<dyn Clock>,
    began: Duration,
    came: u64,
}

impl Meter {
    pub(super) fn start(pace: Pace, clock: &Arc<dyn Clock>) -> Self {
        Self { pace, clock: Arc::clone(clock), began: clock.monotonic(), came: 0 }
    }

    /// Counts `bytes` that came, and says whether it goes fast enough.
    pub(super) fn count(&mut self, bytes: usize) -> Speed {
        self.came += bytes as u64;
        let now = self.clock.monotonic();
        if now.saturating_sub(self.began) < self.pace.per {
            return Speed::Enough;
        }
        if self.came < self.pace.least.0 {
            return Speed::TooSlow;
        }
        (self.began, self.came) = (now, 0);
        Speed::Enough
    }
}

/// How fast it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speed {
    /// At least at the pace.
    Enough,
    /// Below the pace.
    TooSlow,
}
