//! GetVMStatus (FR1.5), answered from memory.

use std::sync::Arc;

use super::registry::Registry;
use crate::domain::{AppError, VmRef, VmView};

/// The use case.
#[derive(Debug)]
pub struct VmStatusQuery {
    registry: Arc<Registry>,
}

impl VmStatusQuery {
    /// Over this registry.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// The VM as it is now.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn run(&self, vm: &VmRef) -> Result<Arc<VmView>, AppError> {
        self.registry.view(vm)
    }
}
