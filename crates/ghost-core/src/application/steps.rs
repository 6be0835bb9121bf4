//! The steps of a command, timed. Invariant: a step that was begun is told once, with how it ended: to the meter those of a
//! create, to the log, at debug, all.

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
    span.in_scope(|| log(step.as_str(), took, outcome));
    ports.meter.note(Measured::Step { step, took, outcome });
}

/// Does one step that is not counted, and tells the log.
///
/// # Errors
/// Those of `work`.
pub(super) async fn logged<T>(
    ports: &Ports,
    step: &'static str,
    work: impl Future<Output = Result<T, AppError>>,
) -> Result<T, AppError> {
    let began = ports.clock.monotonic();
    let result = work.await;
    let took = ports.clock.monotonic().saturating_sub(began);
    log(step, took, outcome(&result));
    result
}

/// The failure itself is told where the command ends.
fn log(step: &'static str, took: Duration, outcome: meter::Outcome) {
    let error_code = outcome.err().map(|code| code.as_str());
    tracing::debug!(step, ?took, error_code, "a step has ended");
}

/// How it ended, as it is counted.
pub(super) fn outcome<T>(result: &Result<T, AppError>) -> meter::Outcome {
    result.as_ref().map(drop).map_err(|error| error.code())
}
