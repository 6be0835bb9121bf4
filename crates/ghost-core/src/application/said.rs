//! What the log was told of things that are looked at again and again. Invariant: of each the same is said once, until it
//! changes or ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{AppError, ErrorKind};

/// What was said, by what it is of.
#[derive(Debug)]
pub(super) struct Said<K>(Mutex<Passes<K>>);

#[derive(Debug)]
struct Passes<K> {
    last: BTreeMap<K, String>,
    this: BTreeMap<K, String>,
}

impl<K> Default for Said<K> {
    fn default() -> Self {
        Self(Mutex::new(Passes { last: BTreeMap::new(), this: BTreeMap::new() }))
    }
}

impl<K: Ord> Said<K> {
    /// All is looked at anew: what is not said again until the next pass has ended.
    pub(super) fn begin_pass(&self) {
        let mut passes = self.passes();
        passes.last = std::mem::take(&mut passes.this);
    }

    /// Whether it was not said of `what` the last time, and is to be said now.
    pub(super) fn is_news(&self, what: K, text: impl Into<String>) -> bool {
        let (mut passes, text) = (self.passes(), text.into());
        let known = passes.this.get(&what).or_else(|| passes.last.get(&what));
        let news = known != Some(&text);
        passes.this.insert(what, text);
        news
    }

    /// It has ended; whether anything was said of it.
    pub(super) fn has_ended(&self, what: &K) -> bool {
        let mut passes = self.passes();
        let (this, last) = (passes.this.remove(what), passes.last.remove(what));
        this.or(last).is_some()
    }

    fn passes(&self) -> MutexGuard<'_, Passes<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of an error is news: while libvirt is away it is that, in whatever words; elsewhere the words without their
/// numbers, which may count seconds or tries.
pub(super) fn gist(error: &AppError) -> String {
    match error.kind() {
        ErrorKind::HypervisorUnavailable => "away".to_owned(),
        ErrorKind::Validation
        | ErrorKind::NotFound
        | ErrorKind::NameTaken
        | ErrorKind::Busy
        | ErrorKind::WrongState
        | ErrorKind::TooManyCalls
        | ErrorKind::ResourceLimit
        | ErrorKind::ShuttingDown
        | ErrorKind::HypervisorFailed
        | ErrorKind::AddressTimeout
        | ErrorKind::NetworkUnavailable
        | ErrorKind::Internal => {
            error.to_string().chars().filter(|c| !c.is_ascii_digit()).collect()
        }
    }
}
