//! Invariant: every failure is one [`Failure`]: an exit code, a line that names the cause, and a
//! remedy where there is one. It is printed once, in `main`, and free of control characters.

pub(crate) mod from_status;
pub(crate) mod from_tls;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::output::{self, Format};

/// Why the process ended, as its exit code; documented in `--help` by [`crate::cli::EXIT_CODES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
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

impl Exit {
    /// 0 to 9.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// The `code` of failures that agentctl itself found; the agent's own have its error code.
    const fn local_code(self) -> &'static str {
        match self {
            Self::Done => "OK",
            Self::Failed => "FAILED",
            Self::Usage => "USAGE",
            Self::NotFound => "NOT_FOUND",
            Self::Invalid => "VALIDATION_ERROR",
            Self::Conflict => "CONFLICT",
            Self::Exhausted => "RESOURCE_LIMIT_EXCEEDED",
            Self::Unavailable => "UNAVAILABLE",
            Self::TimedOut => "TIMED_OUT",
            Self::NotPermitted => "NOT_PERMITTED",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// One wrong field of a request, as the agent reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    pub(crate) field: String,
    pub(crate) description: String,
}

/// A failure with everything that its reader needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The agent's error code, such as `NOT_FOUND`, or agentctl's own, such as `UNAVAILABLE`.
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) remedy: Option<String>,
    pub(crate) details: Box<Details>,
}

/// What the agent adds to some failures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) violations: Vec<Violation>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// When a retry may help, how long to wait first.
    pub(crate) retry_after: Option<Duration>,
    /// Under which the agent was asked.
    pub(crate) request_id: Option<String>,
}

impl Failure {
    /// A failure that agentctl found by itself.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: exit.local_code().to_owned(),
            message: message.into(),
            remedy: None,
            details: Box::default(),
        }
    }

    /// Exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Exit code 1.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Says what the reader can do about it, in the imperative.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Says under which id the agent was asked, for whoever looks into its log.
    pub(crate) fn of_request(mut self, request_id: &str) -> Self {
        self.details.request_id = Some(request_id.to_owned());
        self
    }

    /// Says a further thing to do, after the remedy that is there.
    pub(crate) fn also(mut self, further: &str) -> Self {
        self.remedy = Some(match self.remedy.take() {
            Some(remedy) => format!("{remedy}; {further}"),
            None => further.to_owned(),
        });
        self
    }

    /// May the same call succeed later, with nobody doing anything about it?
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self.exit, Exit::Unavailable | Exit::TimedOut)
            || self.details.retry_after.is_some()
    }

    /// One line for the cause and its remedy, one bullet a wrong field, then what the guest said.
    pub(crate) fn text(&self) -> String {
        let mut text = if self.details.violations.is_empty() {
            output::printable(&self.message)
        } else {
            "invalid request".to_owned()
        };
        if let Some(remedy) = &self.remedy {
            let _ = write!(text, "; {}", output::printable(remedy));
        }
        // The agent may have said either by itself.
        if let Some(wait) = self.details.retry_after
            && !text.contains("again in ")
        {
            let _ = write!(text, "; try again in {} s", wait.as_secs_f64().ceil());
        }
        if let (true, Some(id)) = (self.is_in_the_log(), &self.details.request_id)
            && !text.contains(&format!("request_id {id}"))
        {
            let _ = write!(text, " (request id {})", output::printable(id));
        }
        for violation in &self.details.violations {
            let (field, why) =
                (output::printable(&violation.field), output::printable(&violation.description));
            let _ = write!(text, "\n  - {field}: {why}");
        }
        for (key, value) in self.details.metadata.iter().filter(|(_, value)| value.contains('\n')) {
            let _ = write!(text, "\n  {}:", output::printable(key));
            for line in value.lines() {
                let _ = write!(text, "\n    {}", output::printable(line));
            }
        }
        text
    }

    /// May the agent's log say more?
    const fn is_in_the_log(&self) -> bool {
        match self.exit {
            Exit::Failed | Exit::Unavailable | Exit::TimedOut => true,
            Exit::Done
            | Exit::Usage
            | Exit::NotFound
            | Exit::Invalid
            | Exit::Conflict
            | Exit::Exhausted
            | Exit::NotPermitted => false,
        }
    }

    /// What `-o json` and `-o yaml` print on standard error.
    pub(crate) fn document(&self) -> ErrorDocument<'_> {
        ErrorDocument {
            error: ErrorBody {
                code: &self.code,
                message: &self.message,
                remedy: self.remedy.as_deref(),
                violations: &self.details.violations,
                metadata: &self.details.metadata,
                request_id: self.details.request_id.as_deref(),
                retry_after_seconds: self.details.retry_after.map(|wait| wait.as_secs_f64()),
            },
            exit_code: self.exit.code(),
        }
    }
}

/// `{"error": {…}, "exit_code": 3}`.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDocument<'a> {
    error: ErrorBody<'a>,
    exit_code: u8,
}

#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    violations: &'a [Violation],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<f64>,
}

/// Prints `failure` on standard error, in red on a terminal unless `NO_COLOR` is set.
pub(crate) fn report(failure: &Failure, format: Format) {
    let text = match format.document(&failure.document()) {
        Ok(Some(text)) => text,
        Ok(None) | Err(_) => format!("\u{1b}[1;31merror:\u{1b}[0m {}\n", failure.text()),
    };
    // Nobody is left to tell when standard error is gone.
    let _ = anstream::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_cause_and_remedy() {
        let failure = Failure::local("no room").remedy("make some").also("then repeat");
        assert_eq!(failure.text(), "no room; make some; then repeat");
    }

    #[test]
    fn what_the_agent_said_by_itself_is_not_said_again() {
        let mut failure = Failure::local("it failed; its log says why under request_id r-1");
        failure.exit = Exit::Unavailable;
        failure.details.request_id = Some("r-1".to_owned());
        failure.details.retry_after = Some(Duration::from_secs(2));
        assert_eq!(
            failure.text(),
            "it failed; its log says why under request_id r-1; try again in 2 s"
        );
        failure.message = "libvirt is away; it is tried again in 2 s".to_owned();
        assert_eq!(failure.text(), "libvirt is away; it is tried again in 2 s (request id r-1)");
    }

    #[test]
    fn what_a_guest_wrote_cannot_command_the_terminal() {
        let mut failure = Failure::local("evil \u{1b}[2J name");
        failure
            .details
            .metadata
            .insert("console".to_owned(), "panic\u{1b}]0;x\u{7}\nhalt".to_owned());
        let text = failure.text();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
        assert!(text.ends_with("\n    halt"), "{text:?}");
    }
}
