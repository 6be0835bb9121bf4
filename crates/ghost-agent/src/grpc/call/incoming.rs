//! What a call brings along to be recognised by. Invariant: what a caller sends is an id, or it is replaced: it may not command a
//! log or a terminal.

use ghost_core::domain::Origin;
use hyper::HeaderMap;

/// The header of a call's id, both ways.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// W3C's header of the trace that a call is part of.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// The command that these headers are of: its id is the caller's (`x-request-id`, or the id of its trace), or a new one.
pub(in crate::grpc) fn origin(headers: &HeaderMap) -> Origin {
    let text = |key| headers.get(key).and_then(|value| value.to_str().ok());
    Origin::of_headers(text(REQUEST_ID), text(TRACEPARENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(pairs: &[(&'static str, &str)]) -> Origin {
        let mut headers = HeaderMap::new();
        for (key, value) in pairs {
            headers.insert(*key, value.parse().unwrap());
        }
        origin(&headers)
    }

    #[test]
    fn the_callers_id_is_kept_and_stands_before_that_of_its_trace() {
        let both = of(&[(REQUEST_ID, "abc"), (TRACEPARENT, PARENT)]);
        assert_eq!(both.request_id.as_str(), "abc");
        assert_eq!(both.traceparent.unwrap().as_str(), PARENT);
        let traced = of(&[(TRACEPARENT, PARENT)]);
        assert_eq!(traced.request_id.as_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn an_absurd_id_or_trace_is_replaced() {
        let long = "x".repeat(129);
        for wrong in ["", "has space", long.as_str()] {
            assert_eq!(of(&[(REQUEST_ID, wrong)]).request_id.as_str().len(), 36);
        }
        let zero = PARENT.replace("00f067aa0ba902b7", "0000000000000000");
        let absurd = of(&[(TRACEPARENT, &zero)]);
        assert_eq!((absurd.request_id.as_str().len(), absurd.traceparent), (36, None));
    }
}
