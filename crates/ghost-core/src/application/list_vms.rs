//! ListVMs, answered from memory, in pages that stay true while VMs come and go: a page begins
//! behind a name, not behind a number.

use std::sync::Arc;

use super::registry::Registry;
use crate::domain::validation::Violations;
use crate::domain::{AppError, Invalid, VmName, VmStatus, VmView};

/// Which VMs to list, parsed.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    size: Option<usize>,
    after: Option<VmName>,
    status: Option<VmStatus>,
}

impl PageRequest {
    /// Reads the fields of the wire contract; empty and 0 mean "all".
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every wrong field.
    pub fn parse(page_size: i32, page_token: &str, status: &str) -> Result<Self, AppError> {
        let mut wrong = Violations::default();
        let size = usize::try_from(page_size)
            .map_err(|_| Invalid::new(format!("must be 0 (all) or more, not {page_size}")));
        let size = wrong.check("page_size", size).filter(|n| *n > 0);
        let token = |text: &str| {
            text.parse::<VmName>().map_err(|_| {
                Invalid::new("is not one that this agent gave: use next_page_token as it is")
            })
        };
        let after =
            if page_token.is_empty() { None } else { wrong.check("page_token", token(page_token)) };
        let status = if status.is_empty() { None } else { wrong.check("status", status.parse()) };
        wrong.finish(Some(Self { size, after, status }))
    }
}

/// A page of VMs.
#[derive(Debug, Clone)]
pub struct Page {
    /// Ordered by name.
    pub vms: Vec<Arc<VmView>>,
    /// What to ask the next page with; empty on the last one.
    pub next: String,
}

/// The use case.
#[derive(Debug)]
pub struct ListVms {
    registry: Arc<Registry>,
}

impl ListVms {
    /// Over this registry.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// One page.
    #[must_use]
    pub fn run(&self, request: &PageRequest) -> Page {
        let mut vms = self.registry.views();
        vms.retain(|vm| {
            request.after.as_ref().is_none_or(|after| vm.record.name > *after)
                && request.status.is_none_or(|status| vm.status == status)
        });
        let more = request.size.is_some_and(|size| vms.len() > size);
        vms.truncate(request.size.unwrap_or(usize::MAX));
        let last = vms.last().filter(|_| more);
        let next = last.map(|vm| vm.record.name.to_string()).unwrap_or_default();
        Page { vms, next }
    }
}
