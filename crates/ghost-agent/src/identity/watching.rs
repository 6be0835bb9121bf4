//! Looking at the files again and again. Invariant: whatever becomes of them is noticed at the next
//! look, and one state of them is complained of at most once.
//!
//! By looks rather than by inotify: renames, switched links, replaced folders and network file systems
//! all show in a look, and three `stat` calls in ten seconds cost nothing.

use ghost_core::domain::cause;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Identity;
use super::stamp::Stamp;
use crate::grpc::tls::TlsError;

/// From one look to the next.
pub(super) const EVERY: Duration = Duration::from_secs(10);

impl Identity {
    /// Keeps what is in force as the files are, for ever; the first look is at once.
    pub async fn watch_files(self: Arc<Self>) {
        let (mut looks, mut told) = (Looks::default(), Remaining::Long);
        loop {
            let (identity, settled) = (Arc::clone(&self), looks.settled.clone());
            let look = tokio::task::spawn_blocking(move || identity.look(settled.as_ref()));
            if let Ok(Some((stamp, outcome))) = look.await
                && let Some(error) = looks.judge(stamp, outcome, self.current().is_some())
            {
                tracing::warn!(
                    error = cause(&error),
                    "the certificates in the files can't be used; {}",
                    self.stays()
                );
            }
            self.tell_of_the_end(&mut told);
            self.clock.sleep(EVERY).await;
        }
    }

    /// What the files look like, and what a reload gave; nothing if they are as they were.
    fn look(&self, settled: Option<&Stamp>) -> Option<(Stamp, Result<(), TlsError>)> {
        // Before the reading: what is written during it shows at the next look.
        let stamp = Stamp::of(&self.files);
        (settled != Some(&stamp)).then(|| (stamp, self.reload()))
    }

    fn stays(&self) -> &'static str {
        match self.current() {
            Some(_) => "the former stay in force",
            None => "the agent does not listen on TCP until they can",
        }
    }

    /// A warning at each threshold.
    fn tell_of_the_end(&self, told: &mut Remaining) {
        let Some(current) = self.current() else { return };
        let remaining = Remaining::of(current.not_after, self.clock.now());
        let remedy = "renew it: put another certificate into the files, or look why the control plane gave none";
        if remaining > *told {
            let not_after = current.not_after;
            match remaining {
                Remaining::Long => {}
                Remaining::Week | Remaining::Day => {
                    tracing::warn!(%not_after, "the agent's certificate expires soon; {remedy}");
                }
                Remaining::Nothing => {
                    tracing::error!(%not_after, "the agent's certificate has expired, so nobody believes the agent; {remedy}");
                }
            }
        }
        *told = remaining;
    }
}

/// What former looks gave.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// How the files looked when all was well with them.
    settled: Option<Stamp>,
    /// How they looked when they were unfit.
    unfit: Option<Stamp>,
    /// Whether that was complained of.
    told: bool,
}

impl Looks {
    /// What to complain of: files that are unfit at two looks in a row, for at one they may be half
    /// written. Files that are awaited and not there are no reason for it.
    pub(super) fn judge(
        &mut self,
        stamp: Stamp,
        outcome: Result<(), TlsError>,
        in_force: bool,
    ) -> Option<TlsError> {
        let Err(error) = outcome else {
            *self = Self { settled: Some(stamp), ..Self::default() };
            return None;
        };
        self.settled = None;
        let again = self.unfit.as_ref() == Some(&stamp);
        let awaited = !in_force && stamp.lacks_a_file();
        self.unfit = Some(stamp);
        self.told &= again;
        if !again || self.told || awaited {
            return None;
        }
        self.told = true;
        Some(error)
    }
}

/// How much of a certificate's life is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remaining {
    Long,
    Week,
    Day,
    Nothing,
}

impl Remaining {
    pub(super) fn of(not_after: Timestamp, now: Timestamp) -> Self {
        match not_after.duration_since(now) {
            left if left.is_negative() => Self::Nothing,
            left if left < SignedDuration::from_hours(24) => Self::Day,
            left if left < SignedDuration::from_hours(7 * 24) => Self::Week,
            _ => Self::Long,
        }
    }
}
