//! `/healthz` and `/metrics`, for monitoring on this host. Invariant: reads memory only, and no caller
//! holds a connection for longer than a request takes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ghost_door::http::Limits;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::plane::Plane;

/// A scrape takes milliseconds: none stays for longer than 10 s in all.
const LIMITS: Limits = Limits {
    places: 32,
    head: Duration::from_secs(10),
    head_bytes: 16 * 1024,
    age: Duration::from_secs(5),
    answer: Duration::from_secs(5),
};

/// Answers until `closing`.
pub async fn serve(
    plane: Arc<Plane>,
    listener: TcpListener,
    tasks: TaskTracker,
    closing: CancellationToken,
) {
    let answer =
        move |request: &Request<Incoming>| answer(&plane, request.method(), request.uri().path());
    ghost_door::http::serve(answer, LIMITS, listener, tasks, closing).await;
}

fn answer(plane: &Plane, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let (status, kind, body) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/healthz") => {
            let (status, body) = health(plane);
            (status, "application/json", body.to_owned())
        }
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, "text/plain; version=0.0.4", metrics(plane))
        }
        (_, "/healthz" | "/metrics") => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned())
        }
        (_, _) => (StatusCode::NOT_FOUND, "text/plain", "/healthz or /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

fn health(plane: &Plane) -> (StatusCode, &'static str) {
    match plane.is_forgetful() {
        false => (StatusCode::OK, "{\"status\":\"healthy\"}\n"),
        true => (
            StatusCode::SERVICE_UNAVAILABLE,
            "{\"status\":\"unhealthy\",\"message\":\"the store failed: nobody can enrol, register or report; see the log, and look for a full disk\"}\n",
        ),
    }
}

/// In Prometheus' text format, version 0.0.4. No label is of an agent's choosing.
fn metrics(plane: &Plane) -> String {
    let mut text = String::with_capacity(2048);
    let head = |text: &mut String, name: &str, kind: &str, help: &str| {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    };
    head(&mut text, "ghost_api_agents", "gauge", "Agents by status.");
    for (presence, count) in plane.census() {
        let _ = writeln!(text, "ghost_api_agents{{status=\"{}\"}} {count}", presence.as_str());
    }
    let counters = &plane.counters;
    for (name, help, count) in [
        ("heartbeats", "Heartbeats answered.", &counters.heartbeats),
        ("events", "Events of VMs kept.", &counters.events),
        ("enrolments", "Agents enrolled.", &counters.enrolments),
        ("renewals", "Certificates renewed.", &counters.renewals),
        ("registrations", "Registrations accepted.", &counters.registrations),
    ] {
        let name = format!("ghost_api_{name}_total");
        head(&mut text, &name, "counter", help);
        let _ = writeln!(text, "{name} {}", count.get());
    }
    head(
        &mut text,
        "ghost_api_store_failing",
        "gauge",
        "Whether the last access to the store failed.",
    );
    let _ = writeln!(text, "ghost_api_store_failing {}", u8::from(plane.is_forgetful()));
    let name = "ghost_api_refused_calls_total";
    head(&mut text, name, "counter", "Calls refused, by reason.");
    for (reason, count) in counters.refusals() {
        let _ = writeln!(text, "{name}{{reason=\"{reason}\"}} {count}");
    }
    text
}
