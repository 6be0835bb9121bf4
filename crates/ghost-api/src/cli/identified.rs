//! By what a command is found again, in the server's log and in its agent's, and in its caller's trace.

use ghost_core::domain::{CallId, TraceParent};
use tonic::metadata::MetadataMap;

use super::failure::Failure;

/// The id and the trace of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identified {
    /// Of the command.
    pub(super) request_id: CallId,
    /// Of the VM that the command makes: the same, unless that may be many commands' (`GHOST_REQUEST_ID`), each of which makes a VM
    /// of its own.
    pub(super) create_id: CallId,
    traceparent: Option<TraceParent>,
}

impl Identified {
    /// As the command line says, else `GHOST_REQUEST_ID`, else a new id; in the trace of `TRACEPARENT`, if there is one.
    ///
    /// # Errors
    /// Exit 2 for a `GHOST_REQUEST_ID` that is no id.
    pub(super) fn choose(
        given: Option<CallId>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let set = |name| environment(name).filter(|value| !value.is_empty());
        let (request_id, create_id) = match (given, set("GHOST_REQUEST_ID")) {
            (Some(given), _) => (given.clone(), given),
            (None, Some(set)) => {
                let wrong = |why| Failure::usage(format!("GHOST_REQUEST_ID is no id: it {why}"));
                (set.parse().map_err(wrong)?, CallId::generate())
            }
            (None, None) => {
                let own = CallId::generate();
                (own.clone(), own)
            }
        };
        // Who made it up is not asked: what is no traceparent is not passed on (W3C Trace Context, section 3.2).
        let traceparent = set("TRACEPARENT").and_then(|text| text.parse().ok());
        Ok(Self { request_id, create_id, traceparent })
    }

    /// Writes both into the headers of a call.
    pub(super) fn mark(&self, metadata: &mut MetadataMap) {
        let id = Some(self.request_id.as_str());
        let traceparent = self.traceparent.as_ref().map(TraceParent::as_str);
        for (key, text) in [("x-request-id", id), ("traceparent", traceparent)] {
            if let Some(value) = text.and_then(|text| text.parse().ok()) {
                metadata.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_stands_before_the_environment_and_that_before_chance() {
        let set = |name: &str| (name == "GHOST_REQUEST_ID").then(|| "from-env".to_owned());
        let given = Identified::choose("given".parse().ok(), set).unwrap();
        assert_eq!((given.request_id.as_str(), given.create_id.as_str()), ("given", "given"));
        let of_many = Identified::choose(None, set).unwrap();
        assert_eq!(of_many.request_id.as_str(), "from-env");
        assert_eq!(of_many.create_id.as_str().len(), 36, "one variable is many commands'");
        let own = Identified::choose(None, |_| None).unwrap();
        assert_eq!(own.request_id, own.create_id);
        assert!(Identified::choose(None, |_| Some("has space".to_owned())).is_err());
    }
}
