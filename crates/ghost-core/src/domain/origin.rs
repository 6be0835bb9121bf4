//! Where a change came from. Invariant: an id that exists is one line of visible ASCII, so that it can stand in a log line, a header, a
//! file and XML alike.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::identity::opaque;
use super::validation::Invalid;

/// The id of one call at the agent's edge: the caller's `x-request-id`, or one of the agent's own.
///
/// 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CallId(String);

impl CallId {
    /// A new random one.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }

    /// The id as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CallId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        opaque(text).map(Self)
    }
}

impl TryFrom<String> for CallId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<CallId> for String {
    fn from(id: CallId) -> Self {
        id.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A position in a distributed trace: W3C's `traceparent`, version 00, of at most 55 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent(String);

impl TraceParent {
    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trace's id, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }

    /// The id of the caller's span, 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> &str {
        &self.0[36..52]
    }
}

impl FromStr for TraceParent {
    type Err = Invalid;

    /// Source: W3C Trace Context, section 3.2. Later versions may have more parts; these are cut off, as it demands.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("is no W3C traceparent");
        let hex = |part: &str, digits: usize| {
            part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let zero = |part: &str| part.bytes().all(|b| b == b'0');
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or_else(wrong);
        let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
        let known =
            hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        let ids = hex(trace, 32) && !zero(trace) && hex(span, 16) && !zero(span);
        if !known || !ids || !hex(flags, 2) {
            return Err(wrong());
        }
        Ok(Self(format!("00-{trace}-{span}-{flags}")))
    }
}

impl TryFrom<String> for TraceParent {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.0
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The command that causes a change.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The call's id.
    pub request_id: CallId,
    /// Where it stands in a trace, if the caller said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
}

impl Origin {
    /// Of what a caller sent along: the id is the caller's (`x-request-id`), else that of the trace that the caller is in (W3C
    /// `traceparent`), else a new one. What is no id or no traceparent counts as not sent: it may not command a log or a terminal.
    #[must_use]
    pub fn of_headers(request_id: Option<&str>, traceparent: Option<&str>) -> Self {
        let traceparent: Option<TraceParent> = traceparent.and_then(|text| text.parse().ok());
        let given = request_id.and_then(|text| text.parse().ok());
        let of_trace = || traceparent.as_ref().and_then(|parent| parent.trace_id().parse().ok());
        let request_id = given.or_else(of_trace).unwrap_or_else(CallId::generate);
        Self { request_id, traceparent }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_w3c_writes_it() {
        let parent: TraceParent = GOOD.parse().unwrap();
        assert_eq!(parent.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span_id(), "00f067aa0ba902b7");
        let later = GOOD.replacen("00", "01", 1) + "-what-comes-later";
        assert_eq!(later.parse::<TraceParent>().unwrap().as_str(), GOOD);
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let zero_trace = GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = GOOD.replace("00f067aa0ba902b7", &"0".repeat(16));
        let more = format!("{GOOD}-00");
        for wrong in
            ["", "00", &GOOD.to_uppercase(), &GOOD[1..], &zero_trace, &zero_span, &more, "ff-a-b-c"]
        {
            assert!(wrong.parse::<TraceParent>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_at_all_makes_it_panic_and_what_is_read_is_read_again(text in "\\PC{0,80}|0[0-9a-f]-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
            if let Ok(parent) = text.parse::<TraceParent>() {
                prop_assert_eq!(parent.as_str().parse::<TraceParent>(), Ok(parent.clone()));
                prop_assert_eq!((parent.trace_id().len(), parent.span_id().len()), (32, 16));
            }
        }
    }
}
