//! The answer to one request.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::host::Hosts;
use super::{Pages, document};
use crate::health::{Health, Status};

const TEXT: &str = "text/plain; charset=utf-8";

/// What is said.
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Answer {
    fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: TEXT, body: body.into() }
    }
}

/// Answers; the body of the request is not looked at.
pub(super) fn to<B>(request: &Request<B>, pages: &Pages, hosts: Hosts) -> Response<Full<Bytes>> {
    let readable = request.method() == Method::GET || request.method() == Method::HEAD;
    let answer = match refusal(request, hosts) {
        Some(refusal) => refusal,
        None => match page(request, pages) {
            Some(_) if !readable => {
                Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n")
            }
            Some(page) => page(),
            None => Answer::text(StatusCode::NOT_FOUND, index(pages)),
        },
    };
    let allow = (answer.status == StatusCode::METHOD_NOT_ALLOWED).then_some("GET, HEAD");
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(allow.map(|allow| (ALLOW, HeaderValue::from_static(allow))));
    response
}

/// Why the request is not for this host.
fn refusal<B>(request: &Request<B>, hosts: Hosts) -> Option<Answer> {
    let named = request.headers().get_all(HOST);
    let named = named.iter().map(|host| host.to_str().unwrap_or_default());
    let target = request.uri().authority().map(hyper::http::uri::Authority::as_str);
    let mut all = target.into_iter().chain(named).peekable();
    if all.peek().is_none() && request.version() == Version::HTTP_11 {
        let text = "a request of HTTP/1.1 names its Host (RFC 9112, 3.2)\n";
        return Some(Answer::text(StatusCode::BAD_REQUEST, text));
    }
    let foreign = all.any(|host| !hosts.include(host));
    foreign.then(|| {
        let text = "this is not that host; ask for localhost or 127.0.0.1\n";
        Answer::text(StatusCode::MISDIRECTED_REQUEST, text)
    })
}

type Page<'a> = Box<dyn FnOnce() -> Answer + 'a>;

fn page<'a, B>(request: &'a Request<B>, pages: &'a Pages) -> Option<Page<'a>> {
    match request.uri().path() {
        // That this answers is the answer.
        "/livez" => Some(Box::new(|| Answer::text(StatusCode::OK, "OK\n"))),
        "/readyz" => Some(Box::new(|| ready(&pages.health.borrow()))),
        "/healthz" => Some(Box::new(|| health(&pages.health.borrow()))),
        path => {
            let route = pages.metrics.as_ref().filter(|route| route.path == path)?;
            Some(Box::new(|| {
                let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
                let (body, content_type) = (route.page)(accept);
                Answer { status: StatusCode::OK, content_type, body }
            }))
        }
    }
}

fn ready(health: &Health) -> Answer {
    match health.ready {
        true => Answer::text(StatusCode::OK, "READY\n"),
        false => {
            let text = format!("NOT READY: {}\n", health.not_ready_because);
            Answer::text(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

fn health(health: &Health) -> Answer {
    let status = match health.status {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    Answer { status, content_type: "application/json", body: document::of(health) }
}

fn index(pages: &Pages) -> String {
    let metrics = pages.metrics.iter().map(|route| route.path.as_str());
    let all: Vec<&str> = ["/healthz", "/livez", "/readyz"].into_iter().chain(metrics).collect();
    format!("there is: {}\n", all.join(", "))
}
