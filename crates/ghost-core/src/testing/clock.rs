//! Time that passes only when everybody waits: tokio's paused clock behind the port.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::ports::Clock;

/// A clock for tests with `#[tokio::test(start_paused = true)]`. The wall clock can be made to
/// jump; the monotonic one can't.
#[derive(Debug)]
pub struct FakeClock {
    began: Instant,
    jumped_seconds: AtomicI64,
}

impl Default for FakeClock {
    fn default() -> Self {
        Self { began: Instant::now(), jumped_seconds: AtomicI64::new(0) }
    }
}

impl FakeClock {
    /// Moves the wall clock.
    pub fn jump(&self, seconds: i64) {
        self.jumped_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

#[async_trait]
impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        /// 2026-01-01T00:00:00Z
        const BEGAN_AT: i64 = 1_767_225_600;
        let passed = SignedDuration::try_from(self.began.elapsed()).unwrap_or_default();
        let jumped = SignedDuration::from_secs(self.jumped_seconds.load(Ordering::Relaxed));
        Timestamp::from_second(BEGAN_AT).unwrap_or_default() + passed + jumped
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }

    fn since_boot(&self) -> Duration {
        self.began.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
