//! Invariant: every failure that leaves a port or a use case is one [`AppError`], which names its
//! cause in one line, its remedy where there is one, and keeps the technical cause as a source.

use std::backtrace::Backtrace;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// The published classes of failure; the `reason` of `google.rpc.ErrorInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request itself is wrong.
    Validation,
    /// The host has not what was asked for.
    ResourceLimit,
    /// libvirt or QEMU failed or is away.
    Hypervisor,
    /// The guest has no address, or the network is away.
    Network,
    /// No such VM.
    NotFound,
    /// The request contradicts the state of the VM.
    Conflict,
    /// The agent is at fault.
    Internal,
}

impl ErrorCode {
    /// The published spelling (requirements, "Error Types & Classification").
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "VALIDATION_ERROR",
            Self::ResourceLimit => "RESOURCE_LIMIT_EXCEEDED",
            Self::Hypervisor => "HYPERVISOR_ERROR",
            Self::Network => "NETWORK_ERROR",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::Internal => "INTERNAL_ERROR",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What failed, finer than [`ErrorCode`]: each kind has exactly one gRPC status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// One or more fields of the request are wrong.
    Validation,
    /// CPU, memory or disk do not suffice.
    ResourceLimit,
    /// No VM of that id or name.
    NotFound,
    /// The name, or the request id, belongs to another VM.
    NameTaken,
    /// The VM is in a state in which this cannot be done.
    WrongState,
    /// Another operation on the same VM is under way.
    Busy,
    /// The caller, or all of them together, call more often than they may.
    TooManyCalls,
    /// libvirt cannot be reached now; a retry may help.
    HypervisorUnavailable,
    /// libvirt answered, with an error.
    HypervisorFailed,
    /// The guest did not take its address in time.
    AddressTimeout,
    /// The network, or an image server, is away.
    NetworkUnavailable,
    /// The agent is shutting down.
    ShuttingDown,
    /// The agent is at fault.
    Internal,
}

impl ErrorKind {
    /// The published class of this kind.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Validation => ErrorCode::Validation,
            Self::ResourceLimit | Self::TooManyCalls => ErrorCode::ResourceLimit,
            Self::NotFound => ErrorCode::NotFound,
            Self::NameTaken | Self::WrongState | Self::Busy => ErrorCode::Conflict,
            Self::HypervisorUnavailable | Self::HypervisorFailed => ErrorCode::Hypervisor,
            Self::AddressTimeout | Self::NetworkUnavailable => ErrorCode::Network,
            Self::ShuttingDown | Self::Internal => ErrorCode::Internal,
        }
    }
}

/// One wrong field of a request: `field` as in the wire contract, `problem` with the allowed range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's name in the wire contract, such as `ram_gb`.
    pub field: Cow<'static, str>,
    /// What is wrong and what is allowed, in one line.
    pub problem: String,
}

/// A failure with everything that its reader needs.
///
/// `Display` is one line, cause then remedy; the technical cause is the source.
#[derive(Debug)]
pub struct AppError {
    kind: ErrorKind,
    message: String,
    remedy: Option<Cow<'static, str>>,
    context: Vec<(&'static str, String)>,
    violations: Box<[FieldViolation]>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// Boxed: an error is returned by value, and nearly none has one.
    backtrace: Option<Box<Backtrace>>,
}

impl AppError {
    /// A failure of `kind`; `message` is one line that names the cause.
    ///
    /// For [`ErrorKind::Internal`] the stack is captured here, where the fault was found: at the edge nothing of it is
    /// left. That takes 2 µs (25 µs the first time); the names are looked up by whoever writes it down.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            remedy: None,
            context: Vec::new(),
            violations: Box::default(),
            source: None,
            backtrace: (kind == ErrorKind::Internal).then(|| Box::new(Backtrace::force_capture())),
        }
    }

    /// All wrong fields of one request at once; `violations` is not empty.
    #[must_use]
    pub fn validation(violations: Vec<FieldViolation>) -> Self {
        let list: Vec<String> =
            violations.iter().map(|v| format!("{}: {}", v.field, v.problem)).collect();
        Self { violations: violations.into(), ..Self::new(ErrorKind::Validation, list.join("; ")) }
    }

    /// Adds what the reader can do about it, in the imperative.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds a fact, such as `("vm_name", "web-1")`, or replaces the one of this name; it reaches the log and the caller's
    /// metadata.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        match self.context.iter_mut().find(|(known, _)| *known == key) {
            Some((_, former)) => *former = value,
            None => self.context.push((key, value)),
        }
        self
    }

    /// Adds the technical cause; it reaches the log only.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same failure for somebody else who waits for it; without the technical cause, which is
    /// logged once, for the first.
    #[must_use]
    pub fn repeat(&self) -> Self {
        Self {
            kind: self.kind,
            message: self.message.clone(),
            remedy: self.remedy.clone(),
            context: self.context.clone(),
            violations: self.violations.clone(),
            source: None,
            backtrace: None,
        }
    }

    /// Where the fault was found; only of [`ErrorKind::Internal`], and not of a [`Self::repeat`].
    ///
    /// To show it looks the names up, which can take 60 ms and, where the debug symbols of system libraries are
    /// installed, 31 MB that stay resident (measured with Rust 1.95 on Debian 12 with libc6-dbg).
    #[must_use]
    pub fn backtrace(&self) -> Option<&Backtrace> {
        self.backtrace.as_deref()
    }

    /// What failed.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The published class.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        self.kind.code()
    }

    /// The cause in one line, without the remedy.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the reader can do about it, in the imperative, if that is known.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The facts, in the order in which they were added.
    #[must_use]
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.context
    }

    /// The wrong fields; empty unless the kind is [`ErrorKind::Validation`].
    #[must_use]
    pub fn violations(&self) -> &[FieldViolation] {
        &self.violations
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl StdError for AppError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

/// `error` as the value of a field of a line in the log, always the field `error`: the log then tells its causes, and of an
/// [`AppError`] its class and where a fault was found. Its text alone (`%error`) hides them.
///
/// ```
/// use ghost_core::domain::{AppError, ErrorKind, cause};
///
/// let error = AppError::new(ErrorKind::Internal, "cannot encode a record");
/// tracing::error!(error = cause(&error), "failed");
/// ```
pub fn cause<E: StdError + 'static>(error: &E) -> &(dyn StdError + 'static) {
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_cause_then_remedy_in_one_line() {
        let error = AppError::new(ErrorKind::HypervisorUnavailable, "libvirt does not answer")
            .remedy("start it with: systemctl start libvirtd");
        assert_eq!(
            error.to_string(),
            "libvirt does not answer; start it with: systemctl start libvirtd"
        );
    }

    #[test]
    fn only_a_fault_of_the_agent_knows_where_it_was_found() {
        let fault = AppError::new(ErrorKind::Internal, "cannot encode a record");
        let found = fault.backtrace().unwrap().to_string();
        assert!(found.contains("only_a_fault_of_the_agent"), "{found}");
        assert!(fault.repeat().backtrace().is_none());
        assert!(AppError::new(ErrorKind::NotFound, "there is no VM x").backtrace().is_none());
    }

    #[test]
    fn a_fact_is_told_once_and_the_last_word_counts() {
        let error = AppError::new(ErrorKind::WrongState, "VM 'web' is not complete");
        let error = error.with("vm_id", "former").with("vm_name", "web").with("vm_id", "id-1");
        let told = [("vm_id", "id-1".to_owned()), ("vm_name", "web".to_owned())];
        assert_eq!(error.context(), told);
    }

    #[test]
    fn all_wrong_fields_are_named_at_once() {
        let violation = |field: &'static str| FieldViolation {
            field: field.into(),
            problem: "must be 1 to 32".to_owned(),
        };
        let error = AppError::validation(vec![violation("vcpu"), violation("ram_gb")]);
        assert_eq!(error.to_string(), "vcpu: must be 1 to 32; ram_gb: must be 1 to 32");
        assert_eq!(error.violations().len(), 2);
    }
}
