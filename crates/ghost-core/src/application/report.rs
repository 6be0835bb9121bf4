//! Delivers changes of VMs to the control plane, in order, at least once.
//!
//! ```text
//! registry's feed ──▶ compare with what was last told ──▶ queue on disk ──▶ batches ──▶ acknowledged
//! ```
//! Invariant: taking in never waits for delivering. What happened while nobody looked (the agent was down, the feed was too
//! fast, the control plane lost its memory) is found by comparing, deletions included.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{Either, join, select};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc, watch};
use tracing::Span;

use super::backoff::{Backoff, Dice, around};
use super::control_plane::{Guarded, Link, LinkState, Voice, Wake};
use super::heartbeat::{Facts, schedule};
use super::registry::Since;
use super::registry::feed::{VmChange, What};
use super::wait::within;
use crate::domain::control::{ControlError, Refusal, ToldStatus, VmEvent, VmState};
use crate::domain::{Origin, VmId, VmView};
use crate::ports::{LastTold, Measured, Memory, NewEvent};

/// The most events of one delivery (the wire contract).
const BATCH: usize = 256;

/// The use case.
#[derive(Debug)]
pub(super) struct Reporter {
    plane: Guarded,
    facts: Facts,
    link: watch::Receiver<LinkState>,
    wake: mpsc::Sender<Wake>,
    dice: Arc<Dice>,
    acknowledged: Arc<Acknowledged>,
    /// There is something to deliver.
    pushed: Notify,
    /// Everything has to be compared anew.
    anew: Notify,
}

/// What was acknowledged to this process, so that an answer that was overtaken by a newer one is known as such.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    last: AtomicU64,
    /// When the registration that counts was sent.
    then: AtomicU64,
}

impl Acknowledged {
    /// The last event.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// So much was acknowledged when the registration that counts now was sent.
    pub(super) fn registered_after(&self, last: u64) {
        self.then.store(last, Ordering::Relaxed);
    }

    /// What the control plane keeps now, if it kept `kept` when it took the registration.
    fn since(&self, kept: u64) -> u64 {
        let forgot = kept < self.then.load(Ordering::Relaxed);
        let now = if forgot { kept } else { kept.max(self.last()) };
        self.keeps(now);
        now
    }

    fn keeps(&self, last: u64) {
        self.last.store(last, Ordering::Relaxed);
    }
}

/// How a delivery went.
enum Delivered {
    /// Nothing is left.
    All,
    /// There may be more.
    Some(Span),
    Failed(Span, ControlError),
}

impl Reporter {
    pub(super) fn new(
        plane: Guarded,
        facts: Facts,
        link: watch::Receiver<LinkState>,
        wake: mpsc::Sender<Wake>,
        dice: Arc<Dice>,
        acknowledged: Arc<Acknowledged>,
    ) -> Self {
        Self {
            plane,
            facts,
            link,
            wake,
            dice,
            acknowledged,
            pushed: Notify::new(),
            anew: Notify::new(),
        }
    }

    /// Never ends by itself.
    pub(super) async fn run(&self) {
        join(self.take_in(), self.deliver()).await;
    }

    /// Takes in what is not yet, and delivers what there is, if the control plane is there.
    pub(super) async fn flush(&self) {
        let (_, since, _) = self.facts.registry.changes(None);
        self.push(since_anew(since)).await;
        if registered(&self.link.borrow()).is_some() {
            while let Delivered::Some(_) = self.deliver_batch().await {}
        }
    }

    async fn take_in(&self) {
        loop {
            let (last, since, mut changes) = self.facts.registry.changes(None);
            self.push(since_anew(since)).await;
            self.follow(last, &mut changes).await;
        }
    }

    /// Returns when everything has to be compared anew.
    async fn follow(&self, mut last: u64, changes: &mut Receiver<VmChange>) {
        loop {
            let next = {
                let (change, anew) = (pin!(changes.recv()), pin!(self.anew.notified()));
                match select(change, anew).await {
                    Either::Left((change, _)) => change,
                    Either::Right(((), _)) => return,
                }
            };
            let first = match next {
                Ok(change) => change,
                Err(RecvError::Lagged(_)) => return,
                // The registry lives as long as this does.
                Err(RecvError::Closed) => return std::future::pending().await,
            };
            let mut batch = vec![first];
            while let Ok(change) = changes.try_recv() {
                batch.push(change);
            }
            // Those up to `last` were among what was compared.
            batch.retain(|change| change.number > last);
            last = batch.last().map_or(last, |change| change.number);
            self.push(Seen::Changes(batch)).await;
        }
    }

    async fn push(&self, seen: Seen) {
        let mut told = self.facts.queue.told().await;
        let news = match seen {
            Seen::All(views) => compare(&told, views),
            Seen::Changes(changes) => {
                changes.into_iter().filter_map(|change| news(&mut told, change)).collect()
            }
        };
        if news.is_empty() {
            return;
        }
        let at = self.facts.clock.now();
        let event = |(vm, state, origin): News| {
            let origin = origin.map(Arc::unwrap_or_clone);
            NewEvent { at, vm, state, origin }
        };
        self.facts.queue.push(news.into_iter().map(event).collect()).await;
        self.pushed.notify_one();
    }

    async fn deliver(&self) {
        let (mut link, mut agreed, mut failures) = (self.link.clone(), 0, 0u32);
        let mut voice = Voice::default();
        loop {
            let Ok((count, kept)) = link
                .wait_for(|state| registered(state).is_some())
                .await
                .map(|state| registered(&state).unwrap_or_default())
            else {
                return;
            };
            if count != agreed {
                agreed = count;
                let kept = self.acknowledged.since(kept);
                if self.facts.queue.agree(kept).await == Memory::Lost {
                    tracing::warn!(
                        kept,
                        "the control plane knows fewer events than it had acknowledged; telling it of every VM anew"
                    );
                    self.anew.notify_one();
                }
            }
            match self.deliver_batch().await {
                Delivered::Some(span) => {
                    failures = 0;
                    span.in_scope(|| voice.well("report"));
                    drop(self.wake.try_send(Wake::Known));
                }
                Delivered::All => {
                    select(pin!(self.pushed.notified()), pin!(link.changed())).await;
                }
                Delivered::Failed(span, error) => {
                    span.in_scope(|| voice.failed("report", &error));
                    self.after(count, span, error, failures).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// Waits for what has to happen before it makes sense to try again.
    async fn after(&self, count: u64, span: Span, error: ControlError, failures: u32) {
        let mut link = self.link.clone();
        let again = link.wait_for(|state| registered(state).is_none_or(|(now, _)| now != count));
        let pause = match error.refusal {
            Refusal::Transient { retry_after } => {
                Backoff::CONTROL_PLANE.pause_after(retry_after, failures, self.dice.roll())
            }
            Refusal::Refused => around(schedule::SLOW, 0.1, self.dice.roll()),
            Refusal::NotRegistered | Refusal::Superseded => {
                drop(self.wake.try_send(Wake::Refused(count, error, span.clone())));
                // Should the other end be too busy to hear it, it learns it from its own next call.
                schedule::SLOW
            }
        };
        drop(span);
        let _ = within(&*self.facts.clock, pause, again).await.map(drop);
    }

    async fn deliver_batch(&self) -> Delivered {
        let batch = self.facts.queue.oldest(BATCH).await;
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            return Delivered::All;
        };
        let instance = self.facts.who.instance;
        let (span, answer) = self.plane.report(instance, &batch).await;
        match answer {
            Ok(kept) if kept < first.sequence => Delivered::Failed(span, not_kept(first)),
            Ok(kept) => {
                let kept = kept.min(last.sequence);
                self.facts.queue.acknowledge(kept).await;
                self.acknowledged.keeps(kept);
                let events = batch.iter().filter(|event| event.sequence <= kept).count() as u64;
                self.facts.meter.note(Measured::Reported { events });
                Delivered::Some(span)
            }
            Err(error) => Delivered::Failed(span, error),
        }
    }
}

/// What there is to be told.
enum Seen {
    /// All VMs as they are.
    All(Vec<Arc<VmView>>),
    Changes(Vec<VmChange>),
}

fn since_anew(since: Since) -> Seen {
    match since {
        Since::Anew(views) => Seen::All(views),
        Since::Known(changes) => Seen::Changes(changes),
    }
}

fn registered(state: &LinkState) -> Option<(u64, u64)> {
    match state.link {
        Link::Registered { count, kept } => Some((count, kept)),
        Link::Away(_) | Link::Refused(_) => None,
    }
}

/// What is to be told of a VM, and the command that caused it, as far as that is known.
type News = (VmId, VmState, Option<Arc<Origin>>);

/// All VMs, held against what was last told.
fn compare(told: &BTreeMap<VmId, LastTold>, views: Vec<Arc<VmView>>) -> Vec<News> {
    let gone = told.iter().filter(|(id, _)| views.iter().all(|view| view.record.id != **id));
    let gone = gone.map(|(id, last)| (*id, VmState::deleted(last.name.clone()), None));
    let there = views.iter().map(|view| (view.record.id, VmState::of(view), None));
    let news = there
        .filter(|(id, now, _)| told.get(id).is_none_or(|last| last.state.as_ref() != Some(now)));
    // A name may have passed from one VM to another: who is gone is told first.
    gone.chain(news).collect()
}

/// One change, held against what was last told; `None` if it is told already.
fn news(told: &mut BTreeMap<VmId, LastTold>, change: VmChange) -> Option<News> {
    let (id, state) = match change.what {
        What::Changed(view) => (view.record.id, VmState::of(&view)),
        What::Deleted(id, name) => (id, VmState::deleted(name)),
    };
    if told.get(&id).is_some_and(|last| last.state.as_ref() == Some(&state)) {
        return None;
    }
    match state.status {
        ToldStatus::Is(_) => {
            let last = LastTold { name: state.name.clone(), state: Some(state.clone()) };
            told.insert(id, last);
        }
        // Who was never told of needs no farewell.
        ToldStatus::Deleted => drop(told.remove(&id)?),
    }
    Some((id, state, change.origin))
}

fn not_kept(first: &VmEvent) -> ControlError {
    ControlError::transient(format!(
        "the control plane did not keep event {} and gave no error; look at its log",
        first.sequence
    ))
}
