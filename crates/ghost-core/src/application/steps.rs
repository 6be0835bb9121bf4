//! The steps of a create, timed. Invariant: a step that was begun is told once, with how it ended.

use std::time::Duration;

use tracing::Instrument as _;

use crate::domain::AppError;
use crate::ports::{CreateStep, Measured, Ports, meter};

/// The span of a step.
pub(super) fn span(step: CreateStep) -> tracing::Span {
    tracing::info_span!("step", step = step.as_str(), error_code = tracing::field::Empty)
}

/// Does one step, in a span of its own.
///
/// # Errors
/// Those of `work`.
pub(super) async fn step<T>(
    ports: &Ports,
    step: CreateStep,
    work: impl Future<Output = Result<T, AppError>>,
) -> Result<T, AppError> {
    let began = ports.clock.monotonic();
    let span = span(step);
    let result = work.instrument(span.clone()).await;
    tell(ports, &span, step, began, outcome(&result));
    result
}

/// Tells of a step that began then, on the monotonic clock.
pub(super) fn tell(
    ports: &Ports,
    span: &tracing::Span,
    step: CreateStep,
    began: Duration,
    outcome: meter::Outcome,
) {
    if let Err(code) = outcome {
        span.record("error_code", code.as_str());
    }
    let took = ports.clock.monotonic().saturating_sub(began);
    ports.meter.note(Measured::Step { step, took, outcome });
}

/// How it ended, as it is counted.
pub(super) fn outcome<T>(result: &Result<T, AppError>) -> meter::Outcome {
    result.as_ref().map(drop).map_err(|error| error.code())
}
