//! What systemd is told (sd_notify(3)): READY, STATUS, STOPPING, WATCHDOG. Without it nobody is told, and nothing else changes.
//!
//! Invariant: telling never waits and never fails the agent; the watchdog is fed only as long as the runtime turns and each
//! watched task has turned within [`LONGEST_SILENCE`], so that an agent that is stuck is started anew.

#[cfg(test)]
mod tests;

use ghost_core::domain::cause;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use ghost_core::ports::Clock;
use sd_notify::NotifyState;

use crate::health::{EVERY, Health, HealthView, Pulse, Status};

/// How long a task may not turn before it counts as stuck.
pub const LONGEST_SILENCE: Duration = EVERY.saturating_mul(3);

/// When it is looked again after one was found stuck: after the whole process was stopped for a while, each seems to be, and
/// the service manager's patience is nearly at its end.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The most bytes of a status: one line of `systemctl status`.
const LONGEST_STATUS: usize = 250;

/// Whoever started the agent and wants to know how it is.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    /// `NOTIFY_SOCKET`.
    socket: Option<OsString>,
    /// How often it wants a sign of life, at least.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// This process's, by its environment.
    #[must_use]
    pub fn of_process() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty());
        Self { socket, watchdog: sd_notify::watchdog_enabled() }
    }

    /// One that listens on a datagram socket at that path.
    #[must_use]
    pub fn at(socket: impl Into<OsString>, watchdog: Option<Duration>) -> Self {
        Self { socket: Some(socket.into()), watchdog }
    }

    /// The doors are open.
    pub fn ready(&self) {
        self.tell(&NotifyState::Ready);
    }

    /// The agent ends.
    pub fn stopping(&self) {
        self.tell(&NotifyState::Stopping);
    }

    /// Tells each change of the health, in one line; ends with the health's task.
    pub async fn follow(self, mut view: HealthView) {
        let mut told = String::new();
        loop {
            let status = line(&view.borrow_and_update());
            if status != told {
                self.tell(&NotifyState::Status(&status));
                told = status;
            }
            if view.changed().await.is_err() {
                return;
            }
        }
    }

    /// Feeds the watchdog, if there is one, while all tasks turn; never ends.
    pub async fn feed_watchdog(self, tasks: Vec<(&'static str, Pulse)>, clock: Arc<dyn Clock>) {
        let Some(limit) = self.watchdog else { return std::future::pending().await };
        let mut tasks = Tasks::new(tasks, clock.monotonic());
        let mut silent = 0_u64;
        loop {
            let Some(task) = tasks.stuck(clock.monotonic()) else {
                self.tell(&NotifyState::Watchdog);
                silent = 0;
                clock.sleep(limit / 2).await;
                continue;
            };
            silent = silent.saturating_add(1);
            // At first it may be the whole process that was stopped.
            if silent == 2 {
                tracing::error!(task, limit = ?LONGEST_SILENCE, "a task of the agent does not turn any more: the service manager is to start the agent anew; guests run on");
            }
            clock.sleep(LOOK_AGAIN.min(limit / 2)).await;
        }
    }

    /// Whoever does not listen misses it.
    fn tell(&self, state: &NotifyState<'_>) {
        let Some(socket) = &self.socket else { return };
        let told = (|| {
            let bytes = socket.as_bytes();
            let address = match bytes.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(socket)?,
            };
            let datagram = UnixDatagram::unbound()?;
            // Its queue may be full: then the next word counts.
            datagram.set_nonblocking(true)?;
            datagram.send_to_addr(state.to_string().as_bytes(), &address)
        })();
        if let Err(error) = told {
            tracing::debug!(error = cause(&error), "the service manager can't be told");
        }
    }
}

/// When each task was seen to turn last.
#[derive(Debug)]
struct Tasks(Vec<Task>);

#[derive(Debug)]
struct Task {
    name: &'static str,
    pulse: Pulse,
    count: u64,
    turned: Duration,
}

impl Tasks {
    fn new(tasks: Vec<(&'static str, Pulse)>, now: Duration) -> Self {
        let task =
            |(name, pulse): (_, Pulse)| Task { name, count: pulse.count(), pulse, turned: now };
        Self(tasks.into_iter().map(task).collect())
    }

    /// The first that has not turned for too long.
    fn stuck(&mut self, now: Duration) -> Option<&'static str> {
        for task in &mut self.0 {
            let count = task.pulse.count();
            if count != task.count {
                (task.count, task.turned) = (count, now);
            }
        }
        let silent = |task: &&Task| now.saturating_sub(task.turned) > LONGEST_SILENCE;
        self.0.iter().find(silent).map(|task| task.name)
    }
}

/// The health in one line.
fn line(health: &Health) -> String {
    let status = health.status.as_str();
    let mut line = match (health.status, health.worst()) {
        (Status::Healthy, _) | (_, None) => {
            let running = health.metric("vms_running").unwrap_or_default();
            match running {
                1.0 => format!("{status}: 1 VM runs"),
                running => format!("{status}: {running} VMs run"),
            }
        }
        (Status::Degraded | Status::Unhealthy, Some(check)) => {
            format!("{status}: {}: {}", check.name, check.message)
        }
    };
    line = line.replace(char::is_control, " ");
    let end = (0..=LONGEST_STATUS.min(line.len())).rev().find(|at| line.is_char_boundary(*at));
    line.truncate(end.unwrap_or_default());
    line
}
