//! The load generator. Invariant: an open loop sends at its times, whatever is not answered yet; a closed
//! one sends when it was answered. Only a call that succeeded has a time; every other is counted.

mod calls;
pub(crate) mod observed;
mod rows;

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tonic::Status;

use calls::{Call, Connections};
pub(crate) use rows::{Plan, count, measure, millis};

/// Longest wait for an answer; what takes longer has failed.
const LIMIT: Duration = Duration::from_secs(10);

/// When an open loop sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Calls in a second.
    pub(crate) per_second: u32,
    /// How long.
    pub(crate) span: Duration,
}

/// What became of some calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Of each that succeeded, from its sending to its answer.
    pub(crate) times: Vec<Duration>,
    /// How many did not.
    pub(crate) failed: usize,
    /// Why the first of those did not.
    pub(crate) reason: Option<String>,
}

impl Pace {
    /// When the call is sent, from the beginning.
    fn at(self, n: u32) -> Duration {
        Duration::from_secs_f64(f64::from(n) / f64::from(self.per_second))
    }

    fn all(self) -> impl Iterator<Item = (u32, Duration)> {
        (0..).map(move |n| (n, self.at(n))).take_while(move |(_, at)| *at < self.span)
    }
}

impl Tally {
    fn note(&mut self, answer: Result<(), Status>, took: Duration) {
        match answer {
            Ok(()) => self.times.push(took),
            Err(status) => {
                self.failed += 1;
                self.reason.get_or_insert_with(|| status.to_string());
            }
        }
    }

    /// Adds another's calls.
    fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.failed += other.failed;
        self.reason = self.reason.take().or(other.reason);
    }
}

/// What an open loop did.
#[derive(Debug, Clone)]
pub(crate) struct Opened<const KINDS: usize> {
    /// One for each kind of call.
    pub(crate) kinds: [Tally; KINDS],
    /// How much later than its time each call was sent: the generator's own doing, in no call's time.
    pub(crate) late: Vec<Duration>,
}

/// Sends the n-th call of all at its time; the kinds follow one another. A call's time begins when it is
/// handed to the runtime: waiting for a thread and for the connection counts as the call's.
pub(crate) async fn open<const KINDS: usize, F>(
    pace: Pace,
    send: impl Fn(u32) -> F,
) -> anyhow::Result<Opened<KINDS>>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (mut calls, mut late) = (JoinSet::new(), Vec::new());
    let began = Instant::now();
    for (n, at) in pace.all() {
        tokio::time::sleep_until((began + at).into()).await;
        let (call, sent) = (send(n), Instant::now());
        late.push(sent.saturating_duration_since(began + at));
        calls.spawn(async move {
            let answer = within_limit(call).await;
            (n, answer, sent.elapsed())
        });
    }
    let mut kinds = std::array::from_fn(|_| Tally::default());
    while let Some(ended) = calls.join_next().await {
        let (n, answer, took) = ended?;
        if let Some(tally) = kinds.get_mut(n as usize % KINDS) {
            tally.note(answer, took);
        }
    }
    Ok(Opened { kinds, late })
}

/// Keeps `callers` calls under way for the span; each caller sends its next when it was answered.
async fn closed<F>(
    callers: u32,
    span: Duration,
    send: impl Fn(u32, u32) -> F + Clone + Send + 'static,
) -> anyhow::Result<Tally>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let end = Instant::now() + span;
    let mut under_way = JoinSet::new();
    for caller in 0..callers {
        let send = send.clone();
        under_way.spawn(async move {
            let (mut tally, mut sent, mut n) = (Tally::default(), Instant::now(), 0);
            while sent < end {
                let answer = within_limit(send(caller, n)).await;
                // What is answered behind the end is none of the span's.
                let answered = Instant::now();
                if answered < end || answer.is_err() {
                    tally.note(answer, answered - sent);
                }
                (sent, n) = (answered, n + 1);
            }
            tally
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = under_way.join_next().await {
        all.add(tally?);
    }
    Ok(all)
}

async fn within_limit(call: impl Future<Output = Result<(), Status>>) -> Result<(), Status> {
    let ended = tokio::time::timeout(LIMIT, call).await;
    ended.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer to the generator in time")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Barrier;

    use super::*;

    const PACE: Pace = Pace { per_second: 1000, span: Duration::from_millis(20) };

    #[test]
    fn an_open_loop_sends_as_often_as_it_is_told_and_not_at_its_end() {
        let times: Vec<_> = Pace { per_second: 4, span: Duration::from_secs(1) }.all().collect();
        let millis = |(n, at): &(u32, Duration)| (*n, at.as_millis());
        assert_eq!(
            times.iter().map(millis).collect::<Vec<_>>(),
            [(0, 0), (1, 250), (2, 500), (3, 750)]
        );
    }

    #[tokio::test]
    async fn an_open_loop_sends_the_last_call_though_the_first_waits_for_it() {
        let met = Arc::new(Barrier::new(20));
        let all: Opened<1> = open(PACE, |_| {
            let met = Arc::clone(&met);
            async move {
                met.wait().await;
                Ok(())
            }
        })
        .await
        .unwrap();
        assert_eq!((all.kinds[0].times.len(), all.late.len()), (20, 20));
    }

    #[tokio::test]
    async fn each_kind_has_its_own_tally_and_a_call_that_failed_no_time() {
        let all: Opened<2> = open(PACE, |n| async move {
            if n % 4 == 1 { Err(Status::unavailable("gone")) } else { Ok(()) }
        })
        .await
        .unwrap();
        let [even, odd] = &all.kinds;
        assert_eq!((even.times.len(), even.failed), (10, 0));
        assert_eq!((odd.times.len(), odd.failed), (5, 5));
        assert!(odd.reason.as_ref().unwrap().contains("gone"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_fails_at_its_limit() {
        let answer = within_limit(std::future::pending()).await;
        assert_eq!(answer.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_closed_loop_never_has_more_calls_under_way_than_callers() {
        let most = Arc::new(tokio::sync::Semaphore::new(3));
        let places = Arc::clone(&most);
        let tally = closed(3, Duration::from_millis(20), move |_, _| {
            let place = Arc::clone(&places).try_acquire_owned();
            async move {
                tokio::task::yield_now().await;
                place.map(drop).map_err(|_| Status::internal("a fourth call"))
            }
        })
        .await
        .unwrap();
        assert_eq!((tally.failed, tally.reason), (0, None));
        assert!(tally.times.len() > 3);
    }
}
