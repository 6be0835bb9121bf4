//! By what a command is found again: in the agent's log, in the events and errors that it causes, and in its caller's trace.
//!
//! Invariant: all calls of one command carry the same id.

use tonic::metadata::MetadataMap;
use uuid::Uuid;

use crate::cli::parse_request_id;
use crate::errors::Failure;

/// The id and the trace of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identified {
    /// 1 to 128 visible ASCII characters.
    pub(super) request_id: String,
    /// Of the VM that the command makes: the same, unless that may be many commands' (`GHOST_REQUEST_ID`), each of which makes
    /// a VM of its own.
    pub(super) create_id: String,
    traceparent: Option<String>,
}

impl Identified {
    /// As the command line says, else `GHOST_REQUEST_ID`, else a new id; in the trace of `TRACEPARENT`, if there is one.
    ///
    /// # Errors
    /// Exit 2 for a `GHOST_REQUEST_ID` that is no id.
    pub(crate) fn choose(
        given: Option<&str>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let set = |name| environment(name).filter(|value| !value.is_empty());
        let own = Uuid::new_v4().to_string();
        let (request_id, create_id) = match (given, set("GHOST_REQUEST_ID")) {
            (Some(given), _) => (given.to_owned(), given.to_owned()),
            (None, Some(set)) => {
                let wrong = |wanted| Failure::usage(format!("GHOST_REQUEST_ID is no id: {wanted}"));
                (parse_request_id(&set).map_err(wrong)?, own)
            }
            (None, None) => (own.clone(), own),
        };
        // Who made it up is not asked: what is no traceparent is not passed on (W3C Trace Context, section 3.2).
        let traceparent = set("TRACEPARENT").filter(|text| is_traceparent(text));
        Ok(Self { request_id, create_id, traceparent })
    }

    /// Writes both into the headers of a call.
    pub(super) fn mark(&self, metadata: &mut MetadataMap) {
        let id = Some(self.request_id.as_str());
        for (key, text) in [("x-request-id", id), ("traceparent", self.traceparent.as_deref())] {
            if let Some(value) = text.and_then(|text| text.parse().ok()) {
                metadata.insert(key, value);
            }
        }
    }
}

/// Whether it looks like `00-<32 hexadecimal digits>-<16>-<2>`; the agent looks closer.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lengths: Vec<usize> = parts.iter().take(4).map(|part| part.len()).collect();
    lengths == [2, 32, 16, 2] && parts.iter().take(4).all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_command_line_stands_before_the_environment_and_that_before_chance() {
        let none = |_: &str| None;
        let set = |name: &str| (name == "GHOST_REQUEST_ID").then(|| "from-env".to_owned());
        let id = |given, environment: &dyn Fn(&str) -> Option<String>| {
            Identified::choose(given, environment).unwrap().request_id
        };
        assert_eq!(id(Some("given"), &set), "given");
        assert_eq!(id(None, &set), "from-env");
        assert_eq!(id(None, &none).len(), 36);
        assert_ne!(id(None, &none), id(None, &none));
        let of = |given, environment: &dyn Fn(&str) -> Option<String>| {
            Identified::choose(given, environment).unwrap().create_id
        };
        assert_eq!(of(Some("given"), &set), "given");
        assert_eq!(of(None, &set).len(), 36, "one variable is many commands'");
        let absurd = |_: &str| Some("has space".to_owned());
        assert!(Identified::choose(None, absurd).is_err());
    }

    #[test]
    fn a_trace_is_passed_on_if_it_is_one() {
        let of = |text: &str| {
            let text = text.to_owned();
            let environment = move |name: &str| (name == "TRACEPARENT").then(|| text.clone());
            let mut metadata = MetadataMap::new();
            Identified::choose(None, environment).unwrap().mark(&mut metadata);
            metadata.get("traceparent").map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(of(PARENT).as_deref(), Some(PARENT));
        for wrong in ["", "00", "00-x-y-01", &PARENT.replace('4', "g"), &PARENT[..54]] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
