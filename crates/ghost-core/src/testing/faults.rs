//! Failing at step n: each call of a port counts as a step, in the order in which they come.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::{AppError, ErrorKind};

/// Whether the call that fails has done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultMoment {
    /// It fails and nothing has happened.
    Before,
    /// It has happened, and the answer is a failure all the same.
    After,
}

#[derive(Debug, Default)]
struct Plan {
    calls: Vec<&'static str>,
    fail: Option<(usize, FaultMoment)>,
    dead_from: Option<usize>,
    dead: Option<&'static str>,
    paused_at: Option<&'static str>,
    pace: Option<fastrand::Rng>,
    lingers: Option<(&'static str, Duration)>,
}

/// Which calls were made, and which is to fail.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Plan>,
    resumed: tokio::sync::Notify,
    reached: tokio::sync::Notify,
    called: tokio::sync::Notify,
}

impl Faults {
    /// Lets the `n`th call from now on (0 is the next) fail, once.
    pub fn fail_at(&self, n: usize, moment: FaultMoment) {
        let mut plan = self.plan();
        plan.fail = Some((plan.calls.len() + n, moment));
    }

    /// Lets the `n`th call from now on and all after it fail, until [`heal`](Self::heal).
    pub fn dead_from(&self, n: usize) {
        let mut plan = self.plan();
        plan.dead_from = Some(plan.calls.len() + n);
    }

    /// Lets each call of that name from now on fail, until [`heal`](Self::heal).
    pub fn fail_always(&self, call: &'static str) {
        self.plan().dead = Some(call);
    }

    /// Lets each call from now on take some of the clock's milliseconds, 0 to 20, by `seed`: so that what
    /// goes on at once is interleaved, and always in the same way.
    pub fn interleave(&self, seed: u64) {
        self.plan().pace = Some(fastrand::Rng::with_seed(seed));
    }

    /// Lets the answers of calls of that name take some time: what they say is old when it comes.
    pub fn linger(&self, call: &'static str, time: Duration) {
        self.plan().lingers = Some((call, time));
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        let mut plan = self.plan();
        (plan.fail, plan.dead_from, plan.dead, plan.paused_at) = (None, None, None, None);
        drop(plan);
        self.resumed.notify_waiters();
    }

    /// Holds the next call of that name until [`heal`](Self::heal).
    pub fn pause_at(&self, call: &'static str) {
        self.plan().paused_at = Some(call);
    }

    /// Returns when a call is held.
    pub async fn until_paused(&self) {
        self.reached.notified().await;
    }

    /// Returns when a call of that name has been made from now on.
    pub async fn until_called(&self, name: &str) {
        let before = self.plan().calls.len();
        loop {
            let called = self.called.notified();
            if self.plan().calls[before..].contains(&name) {
                return;
            }
            called.await;
        }
    }

    /// The names of the calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<&'static str> {
        self.plan().calls.clone()
    }

    /// Whether the planned failure has come to pass.
    #[must_use]
    pub fn struck(&self) -> bool {
        let plan = self.plan();
        plan.fail.is_some_and(|(n, _)| n < plan.calls.len())
    }

    /// One call of a port: counts it, and fails it before or after `work` if it is its turn.
    pub(super) async fn call<T>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> Result<T, AppError>,
    ) -> Result<T, AppError> {
        let n = {
            let mut plan = self.plan();
            plan.calls.push(name);
            plan.calls.len() - 1
        };
        self.called.notify_waiters();
        let pace = self.plan().pace.as_mut().map(|pace| pace.u64(0..20));
        if let Some(pace) = pace {
            tokio::time::sleep(Duration::from_millis(pace)).await;
        }
        while self.plan().paused_at == Some(name) {
            let resumed = self.resumed.notified();
            self.reached.notify_one();
            resumed.await;
        }
        let (fail, is_dead) = {
            let plan = self.plan();
            let is_dead = plan.dead_from.is_some_and(|from| n >= from) || plan.dead == Some(name);
            (plan.fail, is_dead)
        };
        let failure = || {
            AppError::new(
                ErrorKind::HypervisorFailed,
                format!("planned failure of call {n}, {name}"),
            )
        };
        if is_dead || fail == Some((n, FaultMoment::Before)) {
            return Err(failure());
        }
        let done = work()?;
        let lingers = self.plan().lingers.filter(|(call, _)| *call == name);
        if let Some((_, time)) = lingers {
            tokio::time::sleep(time).await;
        }
        if fail == Some((n, FaultMoment::After)) { Err(failure()) } else { Ok(done) }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
