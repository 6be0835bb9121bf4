//! Registers the agent and sends its signs of life.
//!
//! Invariant: who the agent is was told, and taken, before any sign of life or event is sent; it is told again whenever the
//! control plane may have forgotten it, or it has changed. When to tell what is [`schedule::Schedule`]'s.

mod facts;
pub mod schedule;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use jiff::SignedDuration;
use tokio::sync::{Notify, mpsc, watch};

use super::backoff::Dice;
use super::control_plane::{Guarded, Link, LinkState, Voice, Wake};
use super::report::Acknowledged;
use super::wait::within;
use crate::domain::control::{Beat, ControlError, Profile, Refusal};
pub use facts::{Facts, Who};
use schedule::{Act, Schedule};

/// The use case.
#[derive(Debug)]
pub(super) struct Heartbeat {
    plane: Guarded,
    facts: Facts,
    schedule: Schedule,
    state: watch::Sender<LinkState>,
    wakes: mpsc::Receiver<Wake>,
    hurry: Arc<Notify>,
    dice: Arc<Dice>,
    acknowledged: Arc<Acknowledged>,
    voice: Voice,
    /// What was registered last.
    told: Option<Profile>,
    registrations: u64,
    /// How far the control plane's clock is ahead.
    skew: SignedDuration,
}

impl Heartbeat {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is of its own type, and one caller gives them"
    )]
    pub(super) fn new(
        plane: Guarded,
        facts: Facts,
        interval: Duration,
        state: watch::Sender<LinkState>,
        wakes: mpsc::Receiver<Wake>,
        hurry: Arc<Notify>,
        dice: Arc<Dice>,
        acknowledged: Arc<Acknowledged>,
    ) -> Self {
        let schedule = Schedule::new(interval, facts.clock.monotonic());
        Self {
            plane,
            facts,
            schedule,
            state,
            wakes,
            hurry,
            dice,
            acknowledged,
            voice: Voice::default(),
            told: None,
            registrations: 0,
            skew: SignedDuration::ZERO,
        }
    }

    /// Never ends by itself.
    pub(super) async fn run(&mut self) {
        loop {
            let (act, due) = self.schedule.next();
            let left = due.saturating_sub(self.now());
            match (left.is_zero(), act) {
                (false, _) => self.wait(left).await,
                (true, Act::Register) => self.register().await,
                (true, Act::Heartbeat) => self.heartbeat().await,
            }
        }
    }

    async fn wait(&mut self, left: Duration) {
        let clock = Arc::clone(&self.facts.clock);
        let woken = {
            let (wake, hurry) = (pin!(self.wakes.recv()), pin!(self.hurry.notified()));
            within(&*clock, left, select(wake, hurry)).await.map(|either| match either {
                Either::Left((wake, _)) => wake,
                Either::Right(((), _)) => Some(Wake::Changed),
            })
        };
        if let Some(wake) = woken.flatten() {
            self.woken(wake);
        }
    }

    /// The last sign of life; nothing if the control plane is not there.
    pub(super) async fn farewell(&self) {
        let known = matches!(self.state.borrow().link, Link::Registered { .. });
        if known {
            let last = self.facts.farewell();
            let (span, answer) = self.plane.heartbeat(&last).await;
            if let Err(error) = answer {
                span.in_scope(|| {
                    tracing::warn!(
                        cause = error.cause,
                        "could not tell the control plane of the end"
                    );
                });
            }
        }
    }

    fn woken(&mut self, wake: Wake) {
        match wake {
            Wake::Refused(under, error, span) => {
                // Since then it may have been registered again.
                if matches!(self.state.borrow().link, Link::Registered { count, .. } if count == under)
                {
                    span.in_scope(|| self.failed("report", error));
                }
            }
            Wake::Known => self.schedule.known(),
            Wake::Changed => {
                self.schedule.hurry(self.now());
            }
        }
    }

    async fn register(&mut self) {
        let registration = self.facts.registration();
        let acknowledged = self.acknowledged.last();
        let (span, answer) = self.plane.register(&registration).await;
        span.in_scope(|| match answer {
            Ok(registered) => {
                if let Some(other) = registered.superseded {
                    tracing::warn!(
                        other,
                        "another process with this agent's id was registered until now; if it is on another host, two hosts share one state folder: give one of them a new one"
                    );
                }
                self.told = Some(registration.profile);
                self.registrations += 1;
                self.acknowledged.registered_after(acknowledged);
                let (count, kept) = (self.registrations, registered.beat.last_event);
                self.heard(registered.beat, Link::Registered { count, kept });
                tracing::info!(count, kept, "registered with the control plane");
            }
            Err(error) => self.failed("register", error),
        });
    }

    async fn heartbeat(&mut self) {
        let profile = self.facts.registration().profile;
        let known = matches!(self.state.borrow().link, Link::Registered { .. });
        if known && self.told.as_ref() != Some(&profile) {
            self.schedule.register_instead();
            return self.register().await;
        }
        let report = self.facts.heartbeat(self.skew);
        let (span, answer) = self.plane.heartbeat(&report).await;
        span.in_scope(|| match answer {
            // It was superseded until now, and is the newest again.
            Ok(_) if !known => self.failed("heartbeat", not_registered()),
            Ok(beat) => {
                let link = self.state.borrow().link.clone();
                self.heard(beat, link);
            }
            Err(error) => self.failed("heartbeat", error),
        });
    }

    fn heard(&mut self, beat: Beat, link: Link) {
        let (now, wall) = (self.now(), self.facts.clock.now());
        self.schedule.heard(beat.interval, now, self.dice.roll());
        self.voice.well("heartbeat");
        let skew = beat.server_time.map_or(self.skew, |theirs| theirs.duration_since(wall));
        let (was, is) = (facts::skewed(self.skew).is_some(), facts::skewed(skew));
        if let Some(trouble) = is.filter(|_| !was) {
            tracing::warn!("{trouble}");
        }
        self.skew = skew;
        self.state.send_replace(LinkState { link, last_heard: Some(wall) });
    }

    fn failed(&mut self, doing: &'static str, error: ControlError) {
        self.voice.failed(doing, &error);
        self.schedule.failed(error.refusal, self.now(), self.dice.roll());
        let link = match error.refusal {
            Refusal::Transient { .. } | Refusal::NotRegistered => Link::Away(Some(error)),
            Refusal::Superseded | Refusal::Refused => Link::Refused(error),
        };
        self.state.send_modify(|state| state.link = link);
    }

    fn now(&self) -> Duration {
        self.facts.clock.monotonic()
    }
}

fn not_registered() -> ControlError {
    ControlError::new(Refusal::NotRegistered, "the other agent of this id is gone")
}
