//! `CollectDebug`: the collected files, in pieces.

use ghost_core::domain::validation::Violations;
use ghost_core::domain::{AppError, Invalid};
use ghost_proto::agentpb::CollectDebugRequest;

use crate::debug::{Collection, Collector};

/// Lines of the log when no number was given, and at most.
const LINES: usize = 10_000;

/// Begins to collect.
///
/// # Errors
/// `VALIDATION_ERROR` for a negative number of lines; `CONFLICT` while another bundle is collected.
pub(super) fn collect(
    collector: &Collector,
    request: &CollectDebugRequest,
) -> Result<Collection, AppError> {
    let mut wrong = Violations::default();
    let lines = usize::try_from(request.log_lines)
        .map_err(|_| Invalid::new(format!("must be 0 (all) or more, not {}", request.log_lines)));
    let lines = wrong.check("log_lines", lines);
    let lines = wrong.finish(lines)?;
    collector.collect(if lines == 0 { LINES } else { lines.min(LINES) })
}
