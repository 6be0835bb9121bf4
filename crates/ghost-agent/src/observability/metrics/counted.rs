//! What is counted as it happens. Invariant: label values are of fixed sets, so nobody who calls can make series; and
//! counting takes no lock that is held for longer than another's counting, or the rendering of one family.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ghost_core::domain::ErrorCode;
use ghost_core::ports::{CreateStep, Measured, Outcome};
use ghost_libvirt::CallOutcome;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use tonic::Code;

use super::Limited;
use super::catalog as m;
use super::page::Page;

/// Calls of the API: reads take tens of microseconds, a create up to its two minutes.
const CALL: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0, 40.0, 60.0, 120.0];
/// Creates: 40 s are required with a cached image, a download may take far longer.
const CREATE: &[f64] =
    &[1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 90.0, 120.0, 300.0, 900.0];
/// Steps of a create: from a file written to a guest that boots.
const STEP: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 120.0];
/// Calls of libvirt: 0.1 ms for a question, 0.55 s for a start, 10 s and 30 s are the deadlines.
const LIBVIRT: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// Heartbeats: 500 ms are required, 15 s is the deadline.
const HEARTBEAT: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];

/// Heartbeats that the success rate is of.
const RECENT: u32 = 20;

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRpc {
    rpc: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStep {
    step: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfError {
    error_code: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLimit {
    limit: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCall {
    call: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCallError {
    call: &'static str,
    kind: &'static str,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Counted {
    calls: Family<OfRpc, Counter>,
    answered: Histograms<OfRpc>,
    limited: Family<OfLimit, Counter>,
    created: Counter,
    create_failures: Family<OfError, Counter>,
    creates: Histograms<OfOutcome>,
    steps: Histograms<OfStep>,
    deleted: Counter,
    libvirt: Histograms<OfCall>,
    libvirt_errors: Family<OfCallError, Counter>,
    heartbeats: Family<OfOutcome, Counter>,
    heartbeat: Histogram,
    recent: Mutex<Recent>,
    reported: Counter,
}

impl Default for Counted {
    fn default() -> Self {
        let counted = Self {
            calls: Family::default(),
            answered: Family::new_with_constructor(|| histogram(CALL)),
            limited: Family::default(),
            created: Counter::default(),
            create_failures: Family::default(),
            creates: Family::new_with_constructor(|| histogram(CREATE)),
            steps: Family::new_with_constructor(|| histogram(STEP)),
            deleted: Counter::default(),
            libvirt: Family::new_with_constructor(|| histogram(LIBVIRT)),
            libvirt_errors: Family::default(),
            heartbeats: Family::default(),
            heartbeat: histogram(HEARTBEAT),
            recent: Mutex::default(),
            reported: Counter::default(),
        };
        counted.begin_at_zero();
        counted
    }
}

impl Counted {
    /// The few that rules watch: the first event of a series that was not there before is no increase.
    fn begin_at_zero(&self) {
        for limit in [Limited::Read, Limited::Change] {
            drop(self.limited.get_or_create(&OfLimit { limit: limit.as_str() }));
        }
        for outcome in [OK, FAILED] {
            drop(self.heartbeats.get_or_create(&OfOutcome { outcome }));
        }
        for code in ERROR_CODES {
            drop(self.create_failures.get_or_create(&OfError { error_code: code.as_str() }));
        }
    }

    pub(super) fn call_ended(&self, rpc: &'static str, code: Code, took: Option<Duration>) {
        let labels = OfRpc { rpc, code: code_name(code) };
        self.calls.get_or_create(&labels).inc();
        if let Some(took) = took {
            self.answered.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    pub(super) fn rate_limited(&self, limit: Limited) {
        self.limited.get_or_create(&OfLimit { limit: limit.as_str() }).inc();
    }

    pub(super) fn libvirt_call_ended(
        &self,
        call: &'static str,
        outcome: CallOutcome,
        took: Duration,
    ) {
        if let Some(kind) = outcome.error_kind() {
            self.libvirt_errors.get_or_create(&OfCallError { call, kind }).inc();
        }
        // One that was refused was not made.
        if outcome != CallOutcome::Refused {
            self.libvirt.get_or_create(&OfCall { call }).observe(took.as_secs_f64());
        }
    }

    pub(super) fn note(&self, measured: Measured) {
        match measured {
            Measured::Create { took, outcome } => self.create_ended(took, outcome),
            Measured::Step { step, took, outcome } => self.step_ended(step, took, outcome),
            Measured::Deleted => {
                self.deleted.inc();
            }
            Measured::Heartbeat { took, taken } => {
                let outcome = if taken { OK } else { FAILED };
                self.heartbeats.get_or_create(&OfOutcome { outcome }).inc();
                self.heartbeat.observe(took.as_secs_f64());
                self.recent.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
            }
            Measured::Reported { events } => {
                self.reported.inc_by(events);
            }
        }
    }

    fn create_ended(&self, took: Duration, outcome: Outcome) {
        match outcome {
            Ok(()) => drop(self.created.inc()),
            Err(code) => {
                let labels = OfError { error_code: code.as_str() };
                self.create_failures.get_or_create(&labels).inc();
            }
        }
        let labels = OfOutcome { outcome: name_of(outcome) };
        self.creates.get_or_create(&labels).observe(took.as_secs_f64());
    }

    fn step_ended(&self, step: CreateStep, took: Duration, outcome: Outcome) {
        let labels = OfStep { step: step.as_str(), outcome: name_of(outcome) };
        self.steps.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counted(&m::VMS_CREATED, &self.created)?;
        page.counted(&m::VM_CREATE_FAILURES, &self.create_failures)?;
        page.counted(&m::VMS_DELETED, &self.deleted)?;
        page.counted(&m::CREATE_DURATION, &self.creates)?;
        page.counted(&m::STEP_DURATION, &self.steps)?;
        page.counted(&m::GRPC_REQUESTS, &self.calls)?;
        page.counted(&m::GRPC_DURATION, &self.answered)?;
        page.counted(&m::RATE_LIMITED, &self.limited)?;
        page.counted(&m::LIBVIRT_DURATION, &self.libvirt)?;
        page.counted(&m::LIBVIRT_ERRORS, &self.libvirt_errors)?;
        page.counted(&m::HEARTBEATS, &self.heartbeats)?;
        page.counted(&m::HEARTBEAT_DURATION, &self.heartbeat)?;
        page.counted(&m::EVENTS_REPORTED, &self.reported)?;
        let ratio = self.recent.lock().unwrap_or_else(PoisonError::into_inner).ratio();
        page.maybe(&m::HEARTBEAT_RATIO, ratio)
    }
}

const OK: &str = "ok";
const FAILED: &str = "failed";

const ERROR_CODES: [ErrorCode; 7] = [
    ErrorCode::Validation,
    ErrorCode::ResourceLimit,
    ErrorCode::Hypervisor,
    ErrorCode::Network,
    ErrorCode::NotFound,
    ErrorCode::Conflict,
    ErrorCode::Internal,
];

const fn name_of(outcome: Outcome) -> &'static str {
    match outcome {
        Ok(()) => OK,
        Err(_) => FAILED,
    }
}

/// As gRPC spells it (<https://grpc.io/docs/guides/status-codes/>).
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn histogram(bounds: &[f64]) -> Histogram {
    Histogram::new(bounds.iter().copied())
}

/// How the last heartbeats ended, a bit each, the newest lowest.
#[derive(Debug, Default)]
struct Recent {
    taken: u32,
    known: u32,
}

impl Recent {
    fn push(&mut self, taken: bool) {
        self.taken = (self.taken << 1 | u32::from(taken)) & ((1 << RECENT) - 1);
        self.known = (self.known + 1).min(RECENT);
    }

    fn ratio(&self) -> Option<f64> {
        let ratio = f64::from(self.taken.count_ones()) / f64::from(self.known);
        (self.known > 0).then_some(ratio)
    }
}
