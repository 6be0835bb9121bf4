//! Why guests are held by an I/O error: libvirt tells the reason once, before it says that the guest
//! is held, and keeps only that there was one. Invariant: a reason is that of the domain's last I/O
//! error, and is forgotten when the guest goes on or ends.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ghost_core::domain::PowerState;
use uuid::Uuid;

use crate::power::IO_ERROR;

/// The memory of reasons.
#[derive(Debug, Default)]
pub(crate) struct IoErrors(Mutex<HashMap<Uuid, &'static str>>);

impl IoErrors {
    /// The domain had an I/O error that holds its guest, or is about to.
    pub(crate) fn remember(&self, uuid: Uuid, reason: &'static str) {
        self.map().insert(uuid, reason);
    }

    /// The power, with the reason of an I/O error where it is known.
    pub(crate) fn explain(&self, uuid: Uuid, power: PowerState) -> PowerState {
        match power {
            PowerState::Paused(IO_ERROR) => {
                PowerState::Paused(self.map().get(&uuid).copied().unwrap_or(IO_ERROR))
            }
            PowerState::Paused(_)
            | PowerState::Running
            | PowerState::Off(_)
            | PowerState::Crashed => power,
        }
    }

    /// Notes a change of the domain's power: one that is not held has no reason to be.
    pub(crate) fn note(&self, uuid: Uuid, power: &PowerState) {
        match power {
            PowerState::Paused(_) => {}
            PowerState::Running | PowerState::Off(_) | PowerState::Crashed => {
                self.map().remove(&uuid);
            }
        }
    }

    /// Forgets all but these: nobody told what happened meanwhile.
    pub(crate) fn keep_only(&self, held: &HashSet<Uuid>) {
        self.map().retain(|uuid, _| held.contains(uuid));
    }

    /// Whether anything is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.map().is_empty()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<Uuid, &'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ghost_core::domain::OffCause;

    use super::*;

    const HELD: PowerState = PowerState::Paused(IO_ERROR);

    #[test]
    fn the_last_reason_explains_an_io_error_and_nothing_else() {
        let (errors, uuid) = (IoErrors::default(), Uuid::new_v4());
        assert_eq!(errors.explain(uuid, HELD), HELD);
        errors.remember(uuid, "earlier");
        errors.remember(uuid, "full");
        assert_eq!(errors.explain(uuid, HELD), PowerState::Paused("full"));
        assert_eq!(errors.explain(Uuid::new_v4(), HELD), HELD);
        for other in [PowerState::Paused("user"), PowerState::Running, PowerState::Crashed] {
            assert_eq!(errors.explain(uuid, other.clone()), other);
        }
    }

    #[test]
    fn a_reason_is_forgotten_when_the_guest_goes_on_or_ends_and_kept_while_it_is_held() {
        for power in [PowerState::Running, PowerState::Crashed, PowerState::Off(OffCause::Cut)] {
            let (errors, uuid) = (IoErrors::default(), Uuid::new_v4());
            errors.remember(uuid, "full");
            errors.note(uuid, &HELD);
            assert_eq!(errors.explain(uuid, HELD), PowerState::Paused("full"));
            errors.note(uuid, &power);
            assert_eq!(errors.explain(uuid, HELD), HELD, "{power:?}");
        }
    }

    #[test]
    fn after_a_gap_only_those_that_are_still_held_have_a_reason() {
        let (errors, [a, b]) = (IoErrors::default(), [Uuid::new_v4(), Uuid::new_v4()]);
        [a, b].into_iter().for_each(|uuid| errors.remember(uuid, "full"));
        errors.keep_only(&HashSet::from([a]));
        assert_eq!(errors.explain(a, HELD), PowerState::Paused("full"));
        assert_eq!(errors.explain(b, HELD), HELD);
    }
}
