//! Who has a place. Invariant: at most so many connections are open, and none is closed for a newcomer that another has a
//! weaker claim than.
//!
//! ```text
//! enter ──▶ New ──asked──▶ Answering ──written──▶ Written ──flushed──▶ Idle
//!                              ▲  └────────────────── asked ──────────────┘
//! ```
//!
//! An honest caller sends its head at once, so who has sent none goes first, then who was answered and rests, then who has
//! only just come: callers who say nothing push out each other. Only then go answers that nobody reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// By then an honest caller's head is here, also from a busy host: it follows the connection without a round trip.
const HEAD_COMES: Duration = Duration::from_millis(100);

/// All places of a server.
#[derive(Debug)]
pub(super) struct Places {
    /// One for each that is free.
    free: Arc<Semaphore>,
    /// See [`super::Limits::answer`].
    answer: Duration,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    end: CancellationToken,
    phase: Phase,
    since: Instant,
    /// What answers before this one took.
    answered_for: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No whole head came yet.
    New,
    /// The answer is being made or handed over.
    Answering,
    /// The answer is handed over whole, and not with the kernel yet.
    Written,
    /// All answers are with the kernel, and no further head is whole.
    Idle,
}

/// On a place when others want it, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// Sent no whole head, though there was time.
    Silent,
    /// Was answered, and has nothing to ask now.
    Resting,
    /// Has only just come.
    Fresh,
    /// Does not read its answer.
    Unread,
}

/// One connection's, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Places>,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(places: usize, answer: Duration) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(places));
        Arc::new(Self { free, answer, table: Mutex::default() })
    }

    /// A place for one more, whose connection ends with `end`; if there is none free, that of who has the weakest claim, and of
    /// these who has waited longest. `None` if all are being answered. To be called by one task only.
    pub(super) async fn enter(self: &Arc<Self>, end: CancellationToken) -> Option<Place> {
        if self.free.available_permits() == 0 {
            // Heads that are there already are read before it is decided who goes.
            tokio::task::yield_now().await;
        }
        if self.free.available_permits() == 0 {
            self.lock().give_up_one(Instant::now(), self.answer)?;
        }
        // At once: nothing waits in who was told to end.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        let number = self.lock().take(end, Instant::now());
        Some(Place { all: Arc::clone(self), number, _permit: permit })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, end: CancellationToken, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        let taken = Taken { end, phase: Phase::New, since: now, answered_for: Duration::ZERO };
        self.taken.insert(number, taken);
        number
    }

    /// One look at each.
    fn give_up_one(&mut self, now: Instant, answer: Duration) -> Option<()> {
        let claims = self.taken.iter().filter_map(|(number, taken)| {
            taken.claim(now, answer).map(|claim| (claim, taken.since, *number))
        });
        let (_, _, weakest) = claims.min()?;
        self.taken.remove(&weakest)?.end.cancel();
        Some(())
    }
}

impl Taken {
    /// `None` if it is being answered, and may be for longer.
    fn claim(&self, now: Instant, answer: Duration) -> Option<Claim> {
        let waited = now.duration_since(self.since);
        match self.phase {
            Phase::New if waited < HEAD_COMES => Some(Claim::Fresh),
            Phase::New => Some(Claim::Silent),
            Phase::Idle => Some(Claim::Resting),
            Phase::Answering | Phase::Written => {
                (self.answered_for + waited >= answer).then_some(Claim::Unread)
            }
        }
    }

    fn asked(&mut self, now: Instant) {
        match self.phase {
            Phase::New | Phase::Idle => self.since = now,
            // Asked again before the answer is read: that gives no more time.
            Phase::Answering | Phase::Written => {}
        }
        self.phase = Phase::Answering;
    }

    fn written(&mut self) {
        self.phase = Phase::Written;
    }

    fn flushed(&mut self, now: Instant) {
        match self.phase {
            Phase::New | Phase::Answering | Phase::Idle => {}
            Phase::Written => {
                self.answered_for += now.duration_since(self.since);
                (self.phase, self.since) = (Phase::Idle, now);
            }
        }
    }
}

impl Place {
    /// A whole head came.
    pub(super) fn asked(&self) {
        self.change(|taken| taken.asked(Instant::now()));
    }

    /// The answer is handed over whole to what sends it.
    pub(super) fn written(&self) {
        self.change(Taken::written);
    }

    /// All that was handed over is with the kernel.
    pub(super) fn flushed(&self) {
        self.change(|taken| taken.flushed(Instant::now()));
    }

    fn change(&self, change: impl FnOnce(&mut Taken)) {
        if let Some(taken) = self.all.lock().taken.get_mut(&self.number) {
            change(taken);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 4;
    const ANSWER: Duration = Duration::from_secs(5);

    /// A place, and what ends its connection; as a connection, it leaves when it is told to.
    async fn enter(all: &Arc<Places>) -> Option<(Arc<Place>, CancellationToken)> {
        let end = CancellationToken::new();
        let place = Arc::new(all.enter(end.clone()).await?);
        let (kept, told) = (Arc::clone(&place), end.clone());
        tokio_util::task::TaskTracker::new().spawn(async move {
            told.cancelled().await;
            drop(kept);
        });
        Some((place, end))
    }

    /// All places taken, a second apart each; what is given of each lets go of its place when told.
    async fn full(all: &Arc<Places>, then: impl Fn(&Place)) -> Vec<(u64, CancellationToken)> {
        let mut taken = Vec::new();
        for _ in 0..PLACES {
            let (place, end) = enter(all).await.unwrap();
            then(&place);
            taken.push((place.number, end));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        taken
    }

    fn gone(taken: &[(u64, CancellationToken)]) -> Vec<usize> {
        (0..taken.len()).filter(|n| taken[*n].1.is_cancelled()).collect()
    }

    fn answered(place: &Place) {
        place.asked();
        place.written();
        place.flushed();
    }

    fn answer(all: &Arc<Places>, number: u64, step: impl FnOnce(&mut Taken)) {
        step(all.lock().taken.get_mut(&number).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_goes_before_who_was_answered_and_the_oldest_first() {
        let all = Places::new(PLACES, ANSWER);
        let taken = full(&all, |_| {}).await;
        for n in [0, 2] {
            answer(&all, taken[n].0, |taken| {
                taken.asked(Instant::now());
                taken.written();
                taken.flushed(Instant::now());
            });
        }
        let mut order = Vec::new();
        for _ in 0..PLACES {
            let (place, _) = enter(&all).await.unwrap();
            answered(&place);
            let now_gone = gone(&taken);
            order.extend(now_gone.into_iter().filter(|n| !order.contains(n)).collect::<Vec<_>>());
        }
        assert_eq!(order, [1, 3, 0, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_rests_does_so_from_the_end_of_the_answer() {
        let all = Places::new(2, ANSWER);
        let (slow, told) = enter(&all).await.unwrap();
        slow.asked();
        tokio::time::advance(Duration::from_secs(1)).await;
        let (quick, _) = enter(&all).await.unwrap();
        answered(&quick);
        tokio::time::advance(Duration::from_secs(1)).await;
        slow.written();
        slow.flushed();
        drop((slow, quick));
        assert!(enter(&all).await.is_some() && !told.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_only_just_come_is_not_pushed_out_while_others_rest() {
        let all = Places::new(PLACES, ANSWER);
        let taken = full(&all, answered).await;
        let (_, first) = enter(&all).await.unwrap();
        let (_, second) = enter(&all).await.unwrap();
        assert_eq!(gone(&taken), [0, 1]);
        assert!(!first.is_cancelled() && !second.is_cancelled());
        tokio::time::advance(HEAD_COMES).await;
        let (_, _) = enter(&all).await.unwrap();
        assert_eq!(gone(&taken), [0, 1], "it had its time");
        assert!(first.is_cancelled() && !second.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn whose_answer_is_under_way_is_spared_and_no_longer_than_that() {
        let all = Places::new(PLACES, ANSWER);
        let taken = full(&all, Place::asked).await;
        assert!(enter(&all).await.is_none(), "the oldest has had 4 s");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(enter(&all).await.is_some());
        assert_eq!(gone(&taken), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_again_and_again_is_spared_no_longer() {
        for step in [Taken::written as fn(&mut Taken), |taken| {
            taken.written();
            taken.flushed(Instant::now());
        }] {
            let all = Places::new(1, ANSWER);
            let (place, end) = enter(&all).await.unwrap();
            place.asked();
            tokio::time::advance(ANSWER / 2).await;
            answer(&all, place.number, step);
            place.asked();
            tokio::time::advance(ANSWER / 2).await;
            drop(place);
            assert!(enter(&all).await.is_some() && end.is_cancelled());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_taken_over_only_once_it_is_left() {
        let all = Places::new(1, ANSWER);
        let (held, end) = enter(&all).await.unwrap();
        let mut late = std::pin::pin!(all.enter(CancellationToken::new()));
        let soon = Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, late.as_mut()).await.is_err());
        assert!(end.is_cancelled());
        drop(held);
        let late = late.await.unwrap();
        assert_eq!(all.lock().taken.keys().copied().collect::<Vec<_>>(), [late.number]);
        drop(late);
        assert_eq!((all.lock().taken.len(), all.free.available_permits()), (0, 1));
    }
}
