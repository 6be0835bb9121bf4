//! A control plane in memory that keeps the wire contract's promises, and can be made to break them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use uuid::Uuid;

use super::clock::FakeClock;
use crate::domain::control::{
    Beat, ControlError, HeartbeatReport, Refusal, Registered, Registration, VmEvent,
};
use crate::ports::{Clock as _, ControlPlane, ControlResult};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// As the contract says, each answer after that time.
    Answers(Duration),
    /// It registers at once, and says so after that time; all else is answered at once.
    RegistersSlowly(Duration),
    /// Nobody reaches it: each call fails after that time.
    Away(Duration),
    /// It takes calls and answers none.
    Silent,
    /// It does what it was asked, and the answer is lost.
    LosesAnswers,
    /// It registers agents and does not know them then.
    Forgetful,
    /// It refuses everything.
    Refuses,
    /// It says that it keeps nothing of what it was sent.
    KeepsNothing,
}

/// One call, at that time of the monotonic clock.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// As of the port.
    Register(Duration, Registration),
    /// As of the port.
    Heartbeat(Duration, HeartbeatReport),
    /// As of the port: the numbers.
    Report(Duration, Vec<u64>),
}

#[derive(Debug, Default)]
struct State {
    current: Option<Uuid>,
    events: BTreeMap<u64, VmEvent>,
    calls: Vec<Call>,
}

/// The control plane of one agent.
#[derive(Debug)]
pub struct FakeControlPlane {
    clock: Arc<FakeClock>,
    conduct: Mutex<Conduct>,
    state: Mutex<State>,
    interval: Mutex<Option<Duration>>,
    /// How far its clock is ahead, in seconds.
    ahead: Mutex<i64>,
}

impl FakeControlPlane {
    /// One that answers at once.
    #[must_use]
    pub fn new(clock: Arc<FakeClock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            conduct: Mutex::new(Conduct::Answers(Duration::ZERO)),
            state: Mutex::default(),
            interval: Mutex::default(),
            ahead: Mutex::default(),
        })
    }

    /// Changes how it behaves from now on.
    pub fn conducts(&self, conduct: Conduct) {
        *lock(&self.conduct) = conduct;
    }

    /// Wants that interval from now on.
    pub fn wants(&self, interval: Duration) {
        *lock(&self.interval) = Some(interval);
    }

    /// Sets its clock so many seconds ahead.
    pub fn clock_ahead(&self, seconds: i64) {
        *lock(&self.ahead) = seconds;
    }

    /// Another process of the same id registers.
    pub fn other_registers(&self) {
        lock(&self.state).current = Some(Uuid::from_u128(1));
    }

    /// The other process is gone, and it knows nobody.
    pub fn forgets_registrations(&self) {
        lock(&self.state).current = None;
    }

    /// It was set up anew.
    pub fn forgets_everything(&self) {
        let mut state = lock(&self.state);
        (state.current, state.events) = (None, BTreeMap::new());
    }

    /// All calls that reached it, and takes them.
    #[must_use]
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut lock(&self.state).calls)
    }

    /// All events that it keeps, ascending, as `name status`.
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        let state = lock(&self.state);
        let text = |e: &VmEvent| format!("{} {}", e.state.name, e.state.status.as_str());
        state.events.values().map(text).collect()
    }

    async fn met(&self) -> ControlResult<Conduct> {
        let conduct = *lock(&self.conduct);
        match conduct {
            Conduct::Answers(after) => self.clock.sleep(after).await,
            Conduct::Away(after) => {
                self.clock.sleep(after).await;
                return Err(ControlError::transient("nobody answers"));
            }
            Conduct::Silent => std::future::pending().await,
            Conduct::Refuses => return Err(ControlError::refused("the agent was revoked")),
            Conduct::LosesAnswers
            | Conduct::Forgetful
            | Conduct::KeepsNothing
            | Conduct::RegistersSlowly(_) => {}
        }
        Ok(conduct)
    }

    fn beat(&self, state: &State) -> Beat {
        let ahead = SignedDuration::from_secs(*lock(&self.ahead));
        Beat {
            server_time: Some(self.clock.now() + ahead),
            interval: *lock(&self.interval),
            last_event: state.events.keys().next_back().copied().unwrap_or_default(),
        }
    }

    fn is_known(state: &State, instance: Uuid, conduct: Conduct) -> ControlResult<()> {
        match state.current {
            Some(current) if current == instance && conduct != Conduct::Forgetful => Ok(()),
            Some(current) if current != instance => {
                Err(ControlError::new(Refusal::Superseded, "another process registered"))
            }
            Some(_) | None => Err(ControlError::new(Refusal::NotRegistered, "unknown process")),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer<T>(conduct: Conduct, answer: T) -> ControlResult<T> {
    match conduct {
        Conduct::LosesAnswers => Err(ControlError::transient("the connection broke")),
        Conduct::Answers(_)
        | Conduct::RegistersSlowly(_)
        | Conduct::Away(_)
        | Conduct::Silent
        | Conduct::Forgetful
        | Conduct::Refuses
        | Conduct::KeepsNothing => Ok(answer),
    }
}

#[async_trait]
impl ControlPlane for FakeControlPlane {
    async fn register(&self, registration: &Registration) -> ControlResult<Registered> {
        let at = self.clock.monotonic();
        let met = self.met().await;
        let (conduct, registered) = {
            let mut state = lock(&self.state);
            state.calls.push(Call::Register(at, registration.clone()));
            let conduct = met?;
            let before = state.current.replace(registration.instance);
            let superseded = before.filter(|b| *b != registration.instance).map(|b| b.to_string());
            (conduct, Registered { beat: self.beat(&state), superseded })
        };
        if let Conduct::RegistersSlowly(after) = conduct {
            self.clock.sleep(after).await;
        }
        answer(conduct, registered)
    }

    async fn heartbeat(&self, report: &HeartbeatReport) -> ControlResult<Beat> {
        let at = self.clock.monotonic();
        let met = self.met().await;
        let mut state = lock(&self.state);
        state.calls.push(Call::Heartbeat(at, report.clone()));
        let conduct = met?;
        Self::is_known(&state, report.instance, conduct)?;
        answer(conduct, self.beat(&state))
    }

    async fn report(&self, instance: Uuid, events: &[VmEvent]) -> ControlResult<u64> {
        let at = self.clock.monotonic();
        let met = self.met().await;
        let mut state = lock(&self.state);
        let numbers = events.iter().map(|event| event.sequence).collect();
        state.calls.push(Call::Report(at, numbers));
        let conduct = met?;
        Self::is_known(&state, instance, conduct)?;
        if conduct == Conduct::KeepsNothing {
            return Ok(0);
        }
        for event in events {
            // At least once: what is kept already is not kept twice.
            state.events.entry(event.sequence).or_insert_with(|| event.clone());
        }
        answer(conduct, self.beat(&state).last_event)
    }
}
