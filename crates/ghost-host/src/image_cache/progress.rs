//! What is told of the fetches under way. Invariant: a fetch is shown exactly as long as a template waits
//! for it; changes that matter are told at once, bytes at most ten times a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ghost_core::domain::{Bytes, FetchStage, Fetching, PublishedDigest, TemplateName};
use ghost_core::ports::Clock;
use tokio::sync::watch;

const TELL_EVERY: Duration = Duration::from_millis(100);

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// The publisher's word on a template.
    Word(TemplateName),
    /// A file.
    File(PublishedDigest),
}

/// All fetches under way, in the order in which they began.
#[derive(Debug)]
pub(super) struct Board {
    rows: Mutex<Rows>,
    told: watch::Sender<Vec<Fetching>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct Rows {
    /// Each names its templates as often as they wait.
    rows: Vec<(Subject, Fetching)>,
    told_at: Option<Duration>,
}

impl Board {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { rows: Mutex::default(), told: watch::Sender::default(), clock }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Vec<Fetching>> {
        self.told.subscribe()
    }

    /// Shows that a template waits, until the seat is dropped. `url` is where it comes from, as it may be
    /// shown.
    pub(super) fn join(
        self: &Arc<Self>,
        subject: Subject,
        template: &TemplateName,
        url: String,
    ) -> Seat {
        self.change(|rows| match rows.iter_mut().find(|(s, _)| *s == subject) {
            Some((_, fetching)) => fetching.templates.push(template.clone()),
            None => {
                let stage = match subject {
                    Subject::Word(_) => FetchStage::Asking,
                    Subject::File(_) => FetchStage::Downloading,
                };
                let templates = vec![template.clone()];
                let fetching = Fetching { templates, url, stage, done: Bytes(0), total: None };
                rows.push((subject.clone(), fetching));
            }
        });
        Seat { board: Arc::clone(self), subject, template: template.clone() }
    }

    /// Says how far a fetch is.
    pub(super) fn tell(
        &self,
        subject: &Subject,
        stage: FetchStage,
        done: Bytes,
        total: Option<Bytes>,
    ) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, row)) = rows.rows.iter_mut().find(|(s, _)| s == subject) else { return };
        let stage_changes = row.stage != stage;
        (row.stage, row.done, row.total) = (stage, done, total);
        let now = self.clock.monotonic();
        if stage_changes || rows.told_at.is_none_or(|told| now.saturating_sub(told) >= TELL_EVERY) {
            self.publish(&mut rows, now);
        }
    }

    /// Says that a try failed in passing; what it brought stays.
    pub(super) fn tell_waiting(&self, subject: &Subject) {
        self.change(|rows| {
            if let Some((_, row)) = rows.iter_mut().find(|(s, _)| s == subject) {
                row.stage = FetchStage::Waiting;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Vec<(Subject, Fetching)>)) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut rows.rows);
        let now = self.clock.monotonic();
        self.publish(&mut rows, now);
    }

    fn publish(&self, rows: &mut Rows, now: Duration) {
        rows.told_at = Some(now);
        let shown = |(_, fetching): &(Subject, Fetching)| {
            let mut fetching = fetching.clone();
            fetching.templates.sort();
            fetching.templates.dedup();
            fetching
        };
        self.told.send_replace(rows.rows.iter().map(shown).collect());
    }
}

/// A template's place among those that wait.
#[derive(Debug)]
#[must_use = "the template is shown as waiting until this is dropped"]
pub(super) struct Seat {
    board: Arc<Board>,
    subject: Subject,
    template: TemplateName,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.board.change(|rows| {
            let Some(at) = rows.iter().position(|(s, _)| *s == self.subject) else { return };
            let Some((_, row)) = rows.get_mut(at) else { return };
            if let Some(place) = row.templates.iter().position(|name| *name == self.template) {
                row.templates.remove(place);
            }
            if row.templates.is_empty() {
                rows.remove(at);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use ghost_core::testing::FakeClock;

    use super::*;

    fn board() -> (Arc<Board>, watch::Receiver<Vec<Fetching>>) {
        let board = Arc::new(Board::new(Arc::new(FakeClock::default())));
        let told = board.subscribe();
        (board, told)
    }

    fn subject() -> Subject {
        Subject::Word("debian-12".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_told_ten_times_a_second_and_other_stages_at_once() {
        let (board, mut told) = board();
        let _seat = board.join(subject(), &"debian-12".parse().unwrap(), "http://a/".to_owned());
        told.mark_unchanged();
        let mut times = 0;
        for n in 0..1000 {
            tokio::time::advance(Duration::from_millis(1)).await;
            board.tell(&subject(), FetchStage::Asking, Bytes(n), None);
            times += usize::from(told.has_changed().unwrap());
            told.mark_unchanged();
        }
        assert_eq!(times, 10);
        board.tell(&subject(), FetchStage::Downloading, Bytes(7), Some(Bytes(9)));
        let row = told.borrow_and_update()[0].clone();
        assert_eq!(
            (row.stage, row.done, row.total),
            (FetchStage::Downloading, Bytes(7), Some(Bytes(9)))
        );
        board.tell_waiting(&subject());
        assert_eq!(
            (told.borrow()[0].stage, told.borrow()[0].done),
            (FetchStage::Waiting, Bytes(7))
        );
    }

    #[tokio::test]
    async fn a_fetch_is_shown_until_the_last_who_waits_has_left() {
        let (board, told) = board();
        let (debian, mine) = ("debian-12".parse().unwrap(), "mine".parse().unwrap());
        let seats = [&mine, &debian, &debian]
            .map(|template| board.join(subject(), template, String::new()));
        assert_eq!(told.borrow()[0].templates, [debian.clone(), mine]);
        let [first, second, third] = seats;
        drop(first);
        drop(second);
        assert_eq!(told.borrow()[0].templates, [debian]);
        drop(third);
        assert!(told.borrow().is_empty());
    }
}
