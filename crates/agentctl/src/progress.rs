//! Invariant: a spinner shows only what is known, on standard error, and only to a person; when the
//! command ends it leaves no trace.

mod rate;

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

use crate::output;
pub(crate) use rate::Rate;

/// Eight steps a second look alive and cost nothing.
const TICK: Duration = Duration::from_millis(120);
/// How often the agent is asked what it sees; it answers from its cache.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// A spinner, or nothing when nobody looks.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    doing: String,
    since: Instant,
}

impl Progress {
    /// Starts a spinner that says `doing`, such as `creating web-1`.
    pub(crate) fn start(doing: &str) -> Self {
        let doing = output::printable(doing);
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.with_style(ProgressStyle::default_spinner()).with_message(doing.clone())
        });
        Self { bar, doing, since: Instant::now() }
    }

    /// Removes the spinner.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Runs `work` under a spinner that says `doing`.
    pub(crate) async fn around<T>(doing: &str, work: impl Future<Output = T>) -> T {
        let progress = Self::start(doing);
        let outcome = progress.watch(work, || std::future::ready(None)).await;
        progress.finish();
        outcome
    }

    /// Runs `work` to its end and meanwhile shows what `ask` last learned, if anything.
    pub(crate) async fn watch<T, F>(&self, work: impl Future<Output = T>, ask: impl Fn() -> F) -> T
    where
        F: Future<Output = Option<String>>,
    {
        let Some(bar) = self.bar.clone() else { return work.await };
        tokio::select! {
            outcome = work => outcome,
            never = self.ask_on(&bar, ask) => match never {},
            never = spin(&bar) => match never {},
        }
    }

    async fn ask_on<F>(&self, bar: &ProgressBar, ask: impl Fn() -> F) -> Infallible
    where
        F: Future<Output = Option<String>>,
    {
        let mut ticks = interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            ticks.tick().await;
            seen = ask().await.or(seen);
            bar.set_message(self.message(seen.as_deref()));
        }
    }

    fn message(&self, seen: Option<&str>) -> String {
        let elapsed = output::duration(self.since.elapsed().as_secs());
        match seen {
            Some(seen) => format!("{} ({elapsed}; {seen})", self.doing),
            None => format!("{} ({elapsed})", self.doing),
        }
    }
}

async fn spin(bar: &ProgressBar) -> Infallible {
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        bar.tick();
    }
}
