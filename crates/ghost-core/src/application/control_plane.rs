//! The agent's side of the control plane: one future that registers and sends signs of life ([`super::heartbeat`]), one that
//! takes in and delivers changes of VMs ([`super::report`]).
//!
//! Invariant: neither waits for the other, and no guest waits for either. A control plane that is away, answers
//! nothing or refuses the agent costs a bounded queue and some log lines.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, select};
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::backoff::Dice;
use super::heartbeat::{Facts, Heartbeat};
use super::report::{Acknowledged, Reporter};
use super::wait::within;
use crate::domain::control::{
    Beat, ControlError, HeartbeatReport, Refusal, Registered, Registration, VmEvent,
};
use crate::ports::{Clock, ControlPlane, ControlResult, Measured, Meter, call_span};

/// How long one call may take; the adapter's own limit is shorter and says more.
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// How long the last words may take.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// What is between the agent and its control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It was not reached yet, or not any more; the cause, if a call failed.
    Away(Option<ControlError>),
    /// It knows this process.
    Registered {
        /// Counts registrations, from 1.
        count: u64,
        /// The last event that it kept then.
        kept: u64,
    },
    /// It will have nothing to do with this process, or the agent with it.
    Refused(ControlError),
}

/// The link, for health and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// How it is.
    pub link: Link,
    /// When the control plane last took a sign of life.
    pub last_heard: Option<Timestamp>,
}

/// Why the plan of heartbeats has to be looked at.
#[derive(Debug)]
pub(super) enum Wake {
    /// A delivery of events was refused, under that registration, in that call.
    Refused(u64, ControlError, Span),
    /// Events were taken.
    Known,
    /// Somebody wants it sooner.
    Changed,
}

/// Makes the agent talk to its control plane sooner than planned.
#[derive(Debug, Clone)]
pub struct Hurry(Arc<Notify>);

impl Hurry {
    /// After a change, such as a new certificate. Never waits.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// Both futures.
#[derive(Debug)]
pub struct Control {
    heartbeat: Heartbeat,
    reporter: Reporter,
    clock: Arc<dyn Clock>,
    state: watch::Receiver<LinkState>,
    hurry: Hurry,
}

impl Control {
    /// Over `plane`; heartbeats every `interval` if the control plane wants nothing else.
    #[must_use]
    pub fn new(plane: Arc<dyn ControlPlane>, facts: Facts, interval: Duration, dice: Dice) -> Self {
        let (wake, wakes) = mpsc::channel(8);
        let first = LinkState { link: Link::Away(None), last_heard: None };
        let (sender, state) = watch::channel(first);
        let (dice, clock) = (Arc::new(dice), Arc::clone(&facts.clock));
        let meter = Arc::clone(&facts.meter);
        let plane = Guarded { plane, clock: Arc::clone(&clock), meter };
        let acknowledged = Arc::<Acknowledged>::default();
        let reporter = Reporter::new(
            plane.clone(),
            facts.clone(),
            state.clone(),
            wake,
            Arc::clone(&dice),
            Arc::clone(&acknowledged),
        );
        let hurry = Arc::new(Notify::new());
        let heartbeat = Heartbeat::new(
            plane,
            facts,
            interval,
            sender,
            wakes,
            Arc::clone(&hurry),
            dice,
            acknowledged,
        );
        Self { heartbeat, reporter, clock, state, hurry: Hurry(hurry) }
    }

    /// The link now and after each change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// To be used when a certificate changes.
    #[must_use]
    pub fn hurry(&self) -> Hurry {
        self.hurry.clone()
    }

    /// Runs until `closing`, then says farewell within 2 s if the control plane is there.
    pub async fn run(self, closing: impl Future<Output = ()>) {
        let Self { mut heartbeat, reporter, clock, .. } = self;
        {
            let both = pin!(join(heartbeat.run(), reporter.run()));
            select(both, pin!(closing)).await;
        }
        within(&*clock, FAREWELL_LIMIT, async {
            reporter.flush().await;
            heartbeat.farewell().await;
        })
        .await;
    }
}

/// The control plane, of which every answer comes to an end, and every sign of life is counted. What came of a call is to be
/// said in the span that comes with it, and that is to be let go before anything is waited for: its end is the call's.
#[derive(Debug, Clone)]
pub(super) struct Guarded {
    plane: Arc<dyn ControlPlane>,
    clock: Arc<dyn Clock>,
    meter: Arc<dyn Meter>,
}

impl Guarded {
    /// As of the port.
    pub(super) async fn register(&self, who: &Registration) -> Called<Registered> {
        called("Register", self.timed(self.plane.register(who))).await
    }

    /// As of the port.
    pub(super) async fn heartbeat(&self, report: &HeartbeatReport) -> Called<Beat> {
        called("Heartbeat", self.timed(self.plane.heartbeat(report))).await
    }

    /// As of the port.
    pub(super) async fn report(&self, instance: Uuid, events: &[VmEvent]) -> Called<u64> {
        called("ReportEvents", self.limited(self.plane.report(instance, events))).await
    }

    async fn timed<T>(&self, call: impl Future<Output = ControlResult<T>>) -> ControlResult<T> {
        let began = self.clock.monotonic();
        let result = self.limited(call).await;
        let took = self.clock.monotonic().saturating_sub(began);
        self.meter.note(Measured::Heartbeat { took, taken: result.is_ok() });
        result
    }

    async fn limited<T>(&self, call: impl Future<Output = ControlResult<T>>) -> ControlResult<T> {
        within(&*self.clock, CALL_LIMIT, call).await.unwrap_or_else(|| {
            Err(ControlError::transient(format!(
                "the control plane took a call and gave no answer in {} s; see whether it is overloaded",
                CALL_LIMIT.as_secs()
            )))
        })
    }
}

/// What came of a call, and its span.
type Called<T> = (Span, ControlResult<T>);

async fn called<T>(rpc: &'static str, call: impl Future<Output = ControlResult<T>>) -> Called<T> {
    let span = call_span(rpc);
    let result = call.instrument(span.clone()).await;
    (span, result)
}

/// Says each change of the link once, not each try.
#[derive(Debug, Default)]
pub(super) struct Voice(Option<ControlError>);

impl Voice {
    /// `doing` failed.
    pub(super) fn failed(&mut self, doing: &'static str, error: &ControlError) {
        // How long to wait is no news.
        let refusal = match error.refusal {
            Refusal::Transient { .. } => Refusal::Transient { retry_after: None },
            same @ (Refusal::NotRegistered | Refusal::Superseded | Refusal::Refused) => same,
        };
        let error = ControlError::new(refusal, error.cause.clone());
        if self.0.as_ref() == Some(&error) {
            return;
        }
        let cause = &error.cause;
        match refusal {
            Refusal::Transient { .. } => tracing::warn!(
                cause,
                "{doing}: the control plane is away; trying again, with growing pauses up to 60 s; guests are not affected"
            ),
            Refusal::NotRegistered => {
                tracing::info!(cause, "{doing}: the control plane does not know this process");
            }
            Refusal::Superseded => tracing::error!(
                cause,
                "{doing}: another agent with this agent's id has registered since: two hosts may share one state folder; this one is silent now but for a try every 5 minutes, until the other is gone or this one is started again"
            ),
            Refusal::Refused => tracing::error!(
                cause,
                "{doing}: the control plane and this agent do not accept each other; trying again every 5 minutes"
            ),
        }
        self.0 = Some(error);
    }

    /// It worked.
    pub(super) fn well(&mut self, doing: &'static str) {
        if let Some(error) = self.0.take() {
            tracing::info!(was = error.cause, "{doing}: the control plane takes it again");
        }
    }
}
