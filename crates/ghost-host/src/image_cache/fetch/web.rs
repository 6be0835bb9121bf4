//! Bytes from a url. Invariant: each wait for the next ones ends, and they are as the server has them:
//! nothing is unpacked on the way.

use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::Bytes;
use ghost_core::ports::Clock;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, IF_RANGE, RANGE};
use reqwest::{Client, Response, redirect};
use tokio::time::timeout;
use tokio_util::bytes::Bytes as Chunk;
use url::{Host, Url};

use super::local::LocalFile;
use super::pace::{Meter, Speed};
use super::part::Start;
pub(super) use super::partial::Wanted;
use super::partial::{Holds, Origin, holds};
use super::redirect::Way;
use super::retry::Failure;
use super::{ImageError, Limits, shown};

/// An answer that is being read.
#[derive(Debug)]
pub(super) struct Incoming {
    bytes: Stream,
    start: Start,
    length: Option<Bytes>,
    received: u64,
    shown: String,
    stall: Duration,
    meter: Meter,
    pace: super::Pace,
}

#[derive(Debug)]
enum Stream {
    Http(Response),
    Local(LocalFile),
}

impl Incoming {
    /// Asks `url` for what is `wanted`. The answer may be the whole all the same.
    pub(super) async fn open(
        url: &Url,
        wanted: &Wanted,
        limits: &Limits,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let (bytes, start, length) = if url.scheme() == "file" {
            let file = stalling(url, limits.stall, LocalFile::open(url)).await??;
            let length = file.length();
            (Stream::Local(file), Start::Anew(Origin::local(url)), Some(length))
        } else {
            open_http(url, wanted, limits, clock).await?
        };
        let (shown, stall, pace) = (shown(url), limits.stall, limits.pace);
        let meter = Meter::start(pace, clock);
        Ok(Self { bytes, start, length, received: 0, shown, stall, meter, pace })
    }

    /// Where its bytes belong.
    pub(super) fn start(&self) -> Start {
        self.start.clone()
    }

    /// The length of the whole, where it is known beforehand.
    pub(super) fn length(&self) -> Option<Bytes> {
        self.length
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next_chunk(&mut self) -> Result<Option<Chunk>, ImageError> {
        let next = async {
            match &mut self.bytes {
                Stream::Local(file) => file.next_chunk().await,
                Stream::Http(response) => response.chunk().await.map_err(|source| {
                    let (url, received) = (self.shown.clone(), self.received);
                    ImageError::BrokeOff { url, received, source: source.without_url() }
                }),
            }
        };
        let chunk = timeout(self.stall, next).await.map_err(|_elapsed| ImageError::Stalled {
            url: self.shown.clone(),
            received: self.received,
            after: self.stall,
        })??;
        let came = chunk.as_ref().map_or(0, Chunk::len);
        self.received += came as u64;
        match self.meter.count(came) {
            Speed::TooSlow if came > 0 => Err(ImageError::Crawls {
                url: self.shown.clone(),
                received: self.received,
                pace: self.pace,
            }),
            Speed::TooSlow | Speed::Enough => Ok(chunk),
        }
    }
}

async fn stalling<T>(
    url: &Url,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, ImageError> {
    let stalled = |_elapsed| ImageError::Stalled { url: shown(url), received: 0, after: limit };
    timeout(limit, work).await.map_err(stalled)
}

async fn open_http(
    url: &Url,
    wanted: &Wanted,
    limits: &Limits,
    clock: &Arc<dyn Clock>,
) -> Result<(Stream, Start, Option<Bytes>), Failure> {
    let mut answer = ask(url, wanted, limits).await?;
    let mut held = holds(wanted, answer.status(), answer.headers());
    if held == Holds::WrongRest {
        answer = ask(url, &Wanted::Whole, limits).await?;
        held = holds(&Wanted::Whole, answer.status(), answer.headers());
    }
    let (start, length) = match held {
        Holds::Rest { length } => (Start::Behind, length),
        Holds::Whole => {
            let length = answer.content_length();
            (Start::Anew(Origin::new(url, answer.headers(), length)), length)
        }
        Holds::WrongRest | Holds::Else => return Err(Failure::status(url, &answer, &**clock)),
    };
    ensure_as_it_is(url, &answer)?;
    Ok((Stream::Http(answer), start, length.map(Bytes)))
}

/// The last answer on the way that begins at `url`.
async fn ask(url: &Url, wanted: &Wanted, limits: &Limits) -> Result<Response, ImageError> {
    let mut way = Way::new(url);
    let mut route = Route::to(url);
    let mut client = client(route, limits)?;
    loop {
        let next = Route::to(way.present());
        if next != route {
            (route, client) = (next, self::client(next, limits)?);
        }
        let mut request = client.get(way.present().clone()).header(ACCEPT_ENCODING, "identity");
        if let Wanted::Rest { offset, validator, .. } = wanted {
            request = request.header(RANGE, format!("bytes={offset}-")).header(IF_RANGE, validator);
        }
        let sent = stalling(way.present(), limits.connect + limits.stall, request.send()).await?;
        let answer = sent.map_err(|error| unanswered(way.present(), error))?;
        if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(answer);
        }
        let url = shown(way.present());
        way.follow(answer.headers()).map_err(|why| ImageError::Redirect { url, why })?;
    }
}

fn ensure_as_it_is(url: &Url, answer: &Response) -> Result<(), ImageError> {
    match answer.headers().get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.is_empty() && encoding != "identity" => {
            let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
            Err(ImageError::Encoded { url: shown(url), encoding })
        }
        Some(_) | None => Ok(()),
    }
}

fn unanswered(url: &Url, error: reqwest::Error) -> ImageError {
    let url = shown(url);
    match tls_failure(&error) {
        Some(source @ rustls::Error::InvalidCertificate(_)) => {
            ImageError::Untrusted { url, source }
        }
        Some(source) => ImageError::Tls { url, source },
        None => ImageError::Unreachable { url, source: error.without_url() },
    }
}

/// What rustls said, below reqwest's, hyper's and the operating system's errors.
fn tls_failure(error: &reqwest::Error) -> Option<rustls::Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.clone());
        }
        // An io::Error passes over what it wraps when it is asked for its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// How a url is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// A proxy's loopback isn't ours.
    Direct,
    /// `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` decide.
    ByEnvironment,
}

impl Route {
    fn to(url: &Url) -> Self {
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if is_loopback { Self::Direct } else { Self::ByEnvironment }
    }
}

/// A client for one fetch: the certificate authorities take memory that an idle agent need not hold,
/// and may have changed since the last one.
fn client(route: Route, limits: &Limits) -> Result<Client, ImageError> {
    let builder = Client::builder()
        .user_agent(concat!("ghost-agent/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(limits.connect);
    let builder = match route {
        Route::Direct => builder.no_proxy(),
        Route::ByEnvironment => builder,
    };
    builder.build().map_err(ImageError::Client)
}
