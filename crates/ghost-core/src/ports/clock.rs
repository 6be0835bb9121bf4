//! Time as a port, so that tests never wait.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

/// Wall-clock and monotonic time, and waiting.
#[async_trait]
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// The wall clock; it may jump.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary fixed moment, without suspension; it never jumps.
    fn monotonic(&self) -> Duration;

    /// Time since the host was booted, suspension included; it never jumps.
    fn since_boot(&self) -> Duration;

    /// Returns after `time` has passed on the monotonic clock.
    async fn sleep(&self, time: Duration);
}
