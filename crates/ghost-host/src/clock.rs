//! The system's clock. Invariant: [`Clock::monotonic`] never goes back.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use ghost_core::ports::Clock;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The wall clock, the monotonic clock and tokio's timer.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn since_boot(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        // The kernel never gives a negative one.
        Duration::try_from(now).unwrap_or_default()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_boot_goes_on_and_is_that_of_the_kernel() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let (first, second) = (SystemClock::new().since_boot(), SystemClock::new().since_boot());
        assert!(second >= first);
        assert!((first.as_secs_f64() - uptime).abs() < 5.0, "{first:?} and {uptime} s");
    }

    #[tokio::test]
    async fn a_wait_lasts_at_least_as_long_as_asked() {
        let clock = SystemClock::new();
        let before = clock.monotonic();
        clock.sleep(Duration::from_millis(2)).await;
        assert!(clock.monotonic() - before >= Duration::from_millis(2));
    }
}
