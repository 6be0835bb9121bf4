//! Why a call is refused. Invariant: every refusal has a cause and a remedy in one line, and one of the
//! contract's reasons; how it looks on the wire is in [`crate::grpc::status`].

use std::time::Duration;

use jiff::Timestamp;

use crate::authority::AuthorityError;
use crate::commander::CommandError;
use crate::domain::AgentId;
use crate::domain::csr::CsrFault;
use crate::domain::placement::NoneFits;
use crate::domain::token::KeyRefusal;
use crate::store::{EnrolError, StoreError};

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The enrolment key opens nothing.
    #[error(transparent)]
    Key(KeyRefusal),
    /// The request can't be certified.
    #[error(transparent)]
    Csr(CsrFault),
    /// Something else is wrong with an enrolment.
    #[error("the enrolment cannot be accepted: {0}")]
    BadEnrolment(&'static str),
    /// The caller has no certificate, or none of an agent.
    #[error("this call needs an agent's certificate, and the caller's {0}; enrol the agent first")]
    NoCertificate(&'static str),
    /// The caller's certificate has ended while its connection was open.
    #[error(
        "the agent's certificate ended at {0}; renew it earlier, or enrol the agent again with a key of: ghost-api token create --agent ID"
    )]
    CertificateEnded(Timestamp),
    /// Nobody enrolled it.
    #[error("agent {0} is not known here; enrol it with a key of: ghost-api token create")]
    AgentUnknown(AgentId),
    /// It is barred.
    #[error("agent {0} was revoked; let it take a new id and a new key, if it shall come back")]
    AgentRevoked(AgentId),
    /// It enrolled again since, and this is the certificate from before.
    #[error(
        "agent {0} enrolled again after this certificate was issued; use the newer one, or enrol it with a key of: ghost-api token create --agent {0}"
    )]
    Replaced(AgentId),
    /// What it says of itself is out of bounds.
    #[error("the registration cannot be accepted: {0}")]
    BadRegistration(String),
    /// A heartbeat is out of bounds.
    #[error("the heartbeat cannot be accepted: {0}")]
    BadHeartbeat(String),
    /// Events are out of order, or too many.
    #[error("the events cannot be accepted: {0}")]
    BadEvents(String),
    /// It has to register first.
    #[error("this agent is not registered; register first")]
    NotRegistered,
    /// Another process of the same id registered since.
    #[error(
        "another process of this agent's id registered since; if it is on another host, give one of them a new id and key"
    )]
    Superseded,
    /// Too many calls.
    #[error("too many calls of this kind; try again in {} s", .0.as_secs_f64().ceil())]
    TooOften(Duration),
    /// An operator asked for something that makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// An operator named an agent that is not there.
    #[error("no agent is called '{0}'; look at: ghost-api agents")]
    NoSuchAgent(String),
    /// An operator named more than one agent.
    #[error("{count} agents are called '{name}'; give the UUID, see: ghost-api agents -o json")]
    Ambiguous {
        /// What was given.
        name: String,
        /// How many have it.
        count: usize,
    },
    /// The named agent can't be commanded.
    #[error("agent {name} cannot be commanded: it {why}")]
    NotCommandable {
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// No agent can have the VM.
    #[error(transparent)]
    NoneFits(NoneFits),
    /// The command did not work out.
    #[error(transparent)]
    Command(CommandError),
    /// It takes longer than a caller should wait; it is done nevertheless.
    #[error("the control plane is slow; the same call may be repeated safely")]
    Slow,
    /// A bug of ours.
    #[error("the control plane failed; its log says why")]
    Died,
    /// The store can't be used.
    #[error("the control plane's store failed; its log says why")]
    Store(#[source] StoreError),
    /// No certificate can be made.
    #[error("the control plane's authority failed; its log says why")]
    Authority(#[source] AuthorityError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<EnrolError> for Refusal {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Refused(refusal) => Self::Key(refusal),
            EnrolError::Store(error) => Self::Store(error),
        }
    }
}
