//! A meter that remembers.

use std::sync::{Mutex, PoisonError};

use crate::ports::meter::{Measured, Meter};

/// Everything that was noted, in order.
#[derive(Debug, Default)]
pub struct MemoryMeter(Mutex<Vec<Measured>>);

impl MemoryMeter {
    /// What was noted so far.
    #[must_use]
    pub fn noted(&self) -> Vec<Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Meter for MemoryMeter {
    fn note(&self, measured: Measured) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(measured);
    }
}
