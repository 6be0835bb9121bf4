//! Where an image comes from. Invariant: each wait for the next bytes ends.

use std::time::Duration;

use ghost_core::domain::Bytes;
use reqwest::{Client, Response};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use url::{Host, Url};

use super::{ImageError, Limits};

/// Read at once from a local file; tokio hands each read to a thread.
const LOCAL_CHUNK: usize = 1 << 20;

/// An image being read from the start.
#[derive(Debug)]
pub(super) struct Source {
    bytes: Stream,
    length: Option<Bytes>,
    received: u64,
    shown: String,
    stall: Duration,
}

#[derive(Debug)]
enum Stream {
    Http(Response),
    Local(File),
}

/// The url without user, password and query, which may hold secrets.
pub(super) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

impl Source {
    /// Opens a `file://`, `http://` or `https://` url.
    pub(super) async fn open(url: &Url, limits: Limits) -> Result<Self, ImageError> {
        let (bytes, length) = if url.scheme() == "file" {
            open_local(url, limits).await?
        } else {
            open_http(url, limits).await?
        };
        Ok(Self { bytes, length, received: 0, shown: shown(url), stall: limits.stall })
    }

    /// The length, where it is known beforehand.
    pub(super) fn length(&self) -> Option<Bytes> {
        self.length
    }

    /// The url as it may be shown.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, ImageError> {
        let next = async {
            match &mut self.bytes {
                Stream::Http(response) => match response.chunk().await {
                    Ok(chunk) => Ok(chunk.map(Vec::from)),
                    Err(source) => Err(ImageError::BrokeOff {
                        url: self.shown.clone(),
                        received: self.received,
                        source: source.without_url(),
                    }),
                },
                Stream::Local(file) => read(file).await.map_err(|source| ImageError::Unreadable {
                    path: self.shown.clone().into(),
                    source,
                }),
            }
        };
        let chunk = timeout(self.stall, next).await.map_err(|_elapsed| ImageError::Stalled {
            url: self.shown.clone(),
            received: self.received,
            after: self.stall,
        })??;
        self.received += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Ok(chunk)
    }
}

async fn read(file: &mut File) -> std::io::Result<Option<Vec<u8>>> {
    let mut chunk = Vec::with_capacity(LOCAL_CHUNK);
    let read = file.read_buf(&mut chunk).await?;
    Ok((read > 0).then_some(chunk))
}

async fn open_local(url: &Url, limits: Limits) -> Result<(Stream, Option<Bytes>), ImageError> {
    let path = url.to_file_path().map_err(|()| ImageError::NoRegularFile { url: shown(url) })?;
    let unreadable = |source| ImageError::Unreadable { path: path.clone(), source };
    let open = async {
        // Opening a pipe would wait for its writer, so look first.
        let found = tokio::fs::metadata(&path).await.map_err(unreadable)?;
        if !found.is_file() {
            return Err(ImageError::NoRegularFile { url: shown(url) });
        }
        let file = File::open(&path).await.map_err(unreadable)?;
        Ok((Stream::Local(file), Some(Bytes(found.len()))))
    };
    let stalled =
        |_elapsed| ImageError::Stalled { url: shown(url), received: 0, after: limits.stall };
    timeout(limits.stall, open).await.map_err(stalled)?
}

async fn open_http(url: &Url, limits: Limits) -> Result<(Stream, Option<Bytes>), ImageError> {
    let stalled =
        |_elapsed| ImageError::Stalled { url: shown(url), received: 0, after: limits.stall };
    let request = client(url, limits)?.get(url.clone()).send();
    let response = timeout(limits.connect + limits.stall, request).await.map_err(stalled)?;
    let response = response.map_err(|source| ImageError::Unreachable {
        url: shown(url),
        source: source.without_url(),
    })?;
    if !response.status().is_success() {
        return Err(ImageError::Status { url: shown(url), status: response.status() });
    }
    let length = response.content_length().map(Bytes);
    Ok((Stream::Http(response), length))
}

/// A client for one fetch: the certificate authorities take memory that an idle agent need not hold,
/// and may have changed since the last one.
fn client(url: &Url, limits: Limits) -> Result<Client, ImageError> {
    let builder = Client::builder()
        .user_agent(concat!("ghost-agent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect);
    let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
    builder.build().map_err(ImageError::Client)
}

/// A proxy's loopback isn't ours.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_url_are_not_shown() {
        let url = "https://user:pass@mirror.example:8443/a.qcow2?token=x#y".parse().unwrap();
        assert_eq!(shown(&url), "https://mirror.example:8443/a.qcow2");
    }
}
