//! Invariant: every failure is an exit code and one line that names the cause and the remedy, free of
//! control characters; it is printed once, in `main`.

use std::io::Write as _;
use std::process::ExitCode;

use ghost_core::domain::CallId;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::output::{Format, printable};

/// Why the process ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Invalid = 4,
    Conflict = 5,
    Exhausted = 6,
    Unavailable = 7,
    TimedOut = 8,
    NotPermitted = 9,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The server's or the agent's reason; empty if the command line itself found it.
    reason: String,
    message: String,
    /// Under which the server was asked.
    request_id: Option<CallId>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, reason: String::new(), message: message.into(), request_id: None }
    }

    /// Exit code 1.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// An error with its causes.
    pub(crate) fn chain(exit: Exit, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message = format!("{message} ({error})");
            cause = error.source();
        }
        Self::new(exit, message)
    }

    /// Says a further thing to do.
    pub(crate) fn also(mut self, further: &str) -> Self {
        self.message = format!("{}; {further}", self.message);
        self
    }

    /// Says under which id the server was asked, for whoever looks into its log.
    pub(crate) fn of_request(mut self, request_id: &CallId) -> Self {
        self.request_id = Some(request_id.clone());
        self
    }

    /// May the server's log, or the agent's, say more?
    const fn is_in_the_log(&self) -> bool {
        match self.exit {
            Exit::Failed | Exit::Unavailable | Exit::TimedOut => true,
            Exit::Usage
            | Exit::NotFound
            | Exit::Invalid
            | Exit::Conflict
            | Exit::Exhausted
            | Exit::NotPermitted => false,
        }
    }

    /// One line.
    fn text(&self) -> String {
        match (&self.request_id, self.is_in_the_log()) {
            (Some(id), true) => format!("{} (request id {id})", printable(&self.message)),
            (Some(_) | None, _) => printable(&self.message),
        }
    }

    /// What the server, or an agent through it, answered.
    pub(crate) fn of(status: &Status) -> Self {
        let exit = exit(status.code());
        match status.get_details_error_info() {
            Some(info) => Self { reason: info.reason, ..Self::new(exit, status.message()) },
            // Not the server's own words: the connection's, or our deadline's.
            None => Self::new(
                exit,
                format!(
                    "{:?}: {}; look at the log of ghost-api serve",
                    status.code(),
                    status.message()
                ),
            ),
        }
    }
}

fn exit(code: Code) -> Exit {
    match code {
        Code::NotFound => Exit::NotFound,
        Code::InvalidArgument | Code::OutOfRange => Exit::Invalid,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Exit::Conflict,
        Code::ResourceExhausted => Exit::Exhausted,
        Code::Unavailable => Exit::Unavailable,
        Code::DeadlineExceeded => Exit::TimedOut,
        Code::PermissionDenied | Code::Unauthenticated => Exit::NotPermitted,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => Exit::Failed,
    }
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    error: Body<'a>,
    exit_code: u8,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// Prints `failure` on standard error, in red on a terminal unless `NO_COLOR` is set.
pub(crate) fn report(failure: &Failure, format: Format) {
    let Failure { exit, reason, message, request_id } = failure;
    let text = match format {
        Format::Table => format!("\u{1b}[1;31merror:\u{1b}[0m {}\n", failure.text()),
        Format::Json => {
            let error =
                Body { code: reason, message, request_id: request_id.as_ref().map(CallId::as_str) };
            let document = Document { error, exit_code: *exit as u8 };
            serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
        }
    };
    // Nobody is left to tell when standard error is gone.
    let _ = anstream::stderr().write_all(text.as_bytes());
}
