//! A web server that misbehaves on purpose.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use url::Url;

use super::clock::TestClock;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) target: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn path(&self) -> &str {
        &self.target
    }

    /// Where the asked range begins.
    pub(super) fn offset(&self) -> Option<usize> {
        self.header("range").map(|range| {
            range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap()
        })
    }
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    status: String,
    headers: Vec<String>,
    body: Vec<u8>,
    announced: Option<usize>,
    manner: Manner,
}

#[derive(Debug, Clone)]
enum Manner {
    /// At once, then the connection is closed.
    Plain,
    /// Then nothing more, until the client leaves.
    Silent,
    /// Not even a head.
    Mute,
    /// So many bytes in so much time of the clock.
    Dripping(Arc<TestClock>, Duration, usize),
}

impl Reply {
    pub(super) fn file(body: &[u8]) -> Self {
        Self {
            status: "200 OK".to_owned(),
            headers: Vec::new(),
            body: body.to_vec(),
            announced: Some(body.len()),
            manner: Manner::Plain,
        }
    }

    pub(super) fn status(status: &str) -> Self {
        Self { status: status.to_owned(), ..Self::file(b"no") }
    }

    pub(super) fn redirect(to: &str) -> Self {
        Self::status("302 Found").with(&format!("Location: {to}"))
    }

    /// As a server should: the rest, if the content is still the one with that tag.
    pub(super) fn ranged(asked: &Asked, body: &[u8], tag: &str) -> Self {
        let etag = format!("ETag: {tag}");
        match asked.offset() {
            Some(offset) if asked.header("if-range") == Some(tag) => {
                let (length, last) = (body.len(), body.len() - 1);
                Self::file(&body[offset..])
                    .partial()
                    .with(&format!("Content-Range: bytes {offset}-{last}/{length}"))
                    .with(&etag)
            }
            _ => Self::file(body).with(&etag),
        }
    }

    pub(super) fn partial(self) -> Self {
        Self { status: "206 Partial Content".to_owned(), ..self }
    }

    pub(super) fn silence() -> Self {
        Self { manner: Manner::Mute, ..Self::file(b"") }
    }

    pub(super) fn with(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    /// Without saying how long it is.
    pub(super) fn unannounced(self) -> Self {
        Self { announced: None, ..self }
    }

    /// Saying that it is so long.
    pub(super) fn announced(self, length: usize) -> Self {
        Self { announced: Some(length), ..self }
    }

    /// Only the first bytes of what is announced.
    pub(super) fn cut(mut self, length: usize) -> Self {
        self.body.truncate(length);
        self
    }

    pub(super) fn then_silent(self) -> Self {
        Self { manner: Manner::Silent, ..self }
    }

    pub(super) fn dripping(self, clock: Arc<TestClock>, time: Duration, bytes: usize) -> Self {
        Self { manner: Manner::Dripping(clock, time, bytes), ..self }
    }

    /// A client that breaks off is its own test's affair.
    fn send(&self, connection: &mut impl Connection) -> std::io::Result<()> {
        if matches!(self.manner, Manner::Mute) {
            return until_gone(connection);
        }
        let length = self.announced.map(|length| format!("Content-Length: {length}\r\n"));
        let headers: String = self.headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = length.unwrap_or_default();
        write!(
            connection,
            "HTTP/1.1 {}\r\n{length}{headers}Connection: close\r\n\r\n",
            self.status
        )?;
        match &self.manner {
            Manner::Plain => connection.write_all(&self.body),
            Manner::Silent => {
                connection.write_all(&self.body)?;
                connection.flush()?;
                until_gone(connection)
            }
            Manner::Mute => Ok(()),
            Manner::Dripping(clock, time, bytes) => {
                self.body.chunks(*bytes).try_for_each(|chunk| {
                    clock.advance(*time);
                    connection.write_all(chunk)
                })
            }
        }
    }
}

fn until_gone(connection: &mut impl Connection) -> std::io::Result<()> {
    let mut byte = [0];
    while connection.read(&mut byte)? > 0 {}
    Ok(())
}

pub(super) trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

type Log = Arc<Mutex<Vec<Asked>>>;

/// Answers on a port of its own until the test ends.
#[derive(Debug)]
pub(super) struct Server {
    /// `http://127.0.0.1:<port>/a.qcow2`
    pub(super) url: String,
    log: Log,
}

impl Server {
    /// `answer` gets the requests' numbers, from 0, and the requests.
    pub(super) fn start(answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen("http", answer, Ok)
    }

    /// The same, encrypted.
    pub(super) fn start_tls(
        config: rustls::ServerConfig,
        answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let config = Arc::new(config);
        Self::listen("https", answer, move |tcp| {
            let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            Ok(rustls::StreamOwned::new(tls, tcp))
        })
    }

    fn listen<C: Connection>(
        scheme: &str,
        answer: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
        accept: impl Fn(TcpStream) -> std::io::Result<C> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}/a.qcow2", listener.local_addr().unwrap());
        let log = Log::default();
        let (requests, answer, accept) = (Arc::clone(&log), Arc::new(answer), Arc::new(accept));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (log, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                let (accept, tcp) = (Arc::clone(&accept), connection.unwrap());
                std::thread::spawn(move || accept(tcp).and_then(|c| serve(c, &*answer, &log)));
            }
        });
        Self { url, log }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// Where the asked ranges began.
    pub(super) fn offsets(&self) -> Vec<Option<usize>> {
        self.asked().iter().map(Asked::offset).collect()
    }

    /// The url of another path.
    pub(super) fn at(&self, path: &str) -> Url {
        self.url.parse::<Url>().unwrap().join(path).unwrap()
    }
}

fn serve(
    mut connection: impl Connection,
    answer: &(impl Fn(usize, &Asked) -> Reply + ?Sized),
    log: &Log,
) -> std::io::Result<()> {
    let asked = {
        // A client without a body sends nothing behind the head.
        let mut lines = BufReader::new(&mut connection).lines();
        let first =
            lines.next().unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()))?;
        let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        for line in lines {
            match line?.split_once(": ") {
                Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
                None => break,
            }
        }
        Asked { target, headers }
    };
    let number = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    answer(number, &asked).send(&mut connection)?;
    connection.flush()
}
