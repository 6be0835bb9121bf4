//! A clock that no one waits for. Tokio's paused one, behind ghost-core's, would run ahead of a real
//! server: it takes waiting for a socket for idleness.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use ghost_core::ports::Clock;
use jiff::Timestamp;

/// Pauses end at once, and are counted.
#[derive(Debug, Default)]
pub(super) struct TestClock {
    monotonic: Mutex<Duration>,
    sleeps: Mutex<Vec<Duration>>,
    /// What passes between two looks.
    tick: Mutex<Duration>,
}

impl TestClock {
    pub(super) fn advance(&self, time: Duration) {
        *self.monotonic.lock().unwrap() += time;
    }

    /// From now on, so much passes between two looks.
    pub(super) fn tick(&self, time: Duration) {
        *self.tick.lock().unwrap() = time;
    }

    pub(super) fn sleeps(&self) -> Vec<Duration> {
        self.sleeps.lock().unwrap().clone()
    }
}

#[async_trait]
impl Clock for TestClock {
    /// 1970: the host's clock is wrong in all of these tests.
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn monotonic(&self) -> Duration {
        self.advance(*self.tick.lock().unwrap());
        *self.monotonic.lock().unwrap()
    }

    fn since_boot(&self) -> Duration {
        self.monotonic()
    }

    async fn sleep(&self, time: Duration) {
        self.sleeps.lock().unwrap().push(time);
        self.advance(time);
        tokio::task::yield_now().await;
    }
}
