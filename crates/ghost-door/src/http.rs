//! Pages made of memory, over HTTP/1.1, for whoever watches. Invariant: who is slow, idle or many costs a bounded number of
//! connections and nobody else's time; all places taken, a newcomer is served in place of who has waited longest for nothing.

mod places;
#[cfg(test)]
mod tests;
mod watched;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::PAUSE;
use places::{Place, Places};
use watched::{Body, Stream};

/// What a caller may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once.
    pub places: usize,
    /// Longest wait for the whole head of a request, the first or the next one on a connection.
    pub head: Duration,
    /// Largest head of a request, in bytes; 8192 or more, as hyper wants it.
    pub head_bytes: usize,
    /// Age at which a connection is closed when no answer is under way on it; a scraper connects anew.
    pub age: Duration,
    /// How much longer an answer that is under way by then may take, and for how long, all of a connection's answers together,
    /// they are spared when newcomers find no place: beyond that the other end does not read.
    pub answer: Duration,
}

/// Answers until `closing`; each connection is a task of `tasks`. `answer` never waits, and the body of a request is not looked at.
pub async fn serve<A>(
    answer: A,
    limits: Limits,
    listener: TcpListener,
    tasks: TaskTracker,
    closing: CancellationToken,
) where
    A: Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let (answer, places) = (Arc::new(answer), Places::new(limits.places, limits.answer));
    while let Some(accepted) = closing.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            closing.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            continue;
        };
        let end = closing.child_token();
        // Without a place, the connection is closed as soon as it is there.
        let place = closing.run_until_cancelled(places.enter(end.clone())).await;
        let Some(Some(place)) = place else { continue };
        let connection = converse(Arc::clone(&answer), limits, stream, place);
        tasks.spawn(end.run_until_cancelled_owned(connection));
    }
}

async fn converse<A>(answer: Arc<A>, limits: Limits, stream: TcpStream, place: Place)
where
    A: Fn(&Request<Incoming>) -> Response<Full<Bytes>>,
{
    let place = Arc::new(place);
    let stream = Stream::new(stream, Arc::clone(&place));
    let respond = service_fn(move |request: Request<Incoming>| {
        place.asked();
        let answer = answer(&request).map(|page| Body::new(page, Arc::clone(&place)));
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .serve_connection(stream, respond);
    let mut connection = std::pin::pin!(connection);
    // How a connection ends is of no interest to the server.
    if tokio::time::timeout(limits.age, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(limits.answer, connection).await;
    }
}
