//! A real server on loopback, and callers who crowd it.

use std::io::Write as _;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::*;

const LIMITS: Limits = Limits {
    places: 64,
    head: Duration::from_secs(20),
    head_bytes: 8 * 1024,
    age: Duration::from_secs(60),
    answer: Duration::from_secs(30),
};
/// More than the kernel keeps for one who does not read.
const LARGE: usize = 32 << 20;
const LARGE_PAGE: &[u8] = &[b'x'; LARGE];
/// What an answer may take while others crowd; alone it takes milliseconds, also on a busy host.
const PROMPT: Duration = Duration::from_secs(2);

const ASK: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const ASK_MUCH: &str = "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct Server {
    address: SocketAddr,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

async fn start() -> Server {
    start_with(LIMITS).await
}

async fn start_with(limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, tasks) = (listener.local_addr().unwrap(), TaskTracker::new());
    let closing = CancellationToken::new();
    let answer = |request: &Request<Incoming>| {
        Response::new(Full::from(match request.uri().path() {
            "/large" => Bytes::from_static(LARGE_PAGE),
            _ => Bytes::from_static(b"well\n"),
        }))
    };
    tasks.spawn(serve(answer, limits, listener, tasks.clone(), closing.clone()));
    Server { address, closing, tasks }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn says(&self, words: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(words.as_bytes()).await.unwrap();
        stream
    }

    /// So many, one after the other; `then` is done with each before the next comes.
    async fn crowd(&self, words: &str, then: impl AsyncFn(&mut TcpStream)) -> Vec<TcpStream> {
        let mut all = Vec::new();
        for _ in 0..LIMITS.places {
            let mut stream = self.says(words).await;
            then(&mut stream).await;
            all.push(stream);
        }
        all
    }

    /// That a probe is answered, as soon as without a crowd.
    async fn answers_a_probe(&self) -> bool {
        let mut stream = self.says(ASK).await;
        let answered = tokio::time::timeout(PROMPT, reads_an_answer(&mut stream));
        answered.await.unwrap_or(false)
    }
}

/// False if the connection was closed before.
async fn reads_an_answer(stream: &mut TcpStream) -> bool {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nwell\n") {
        match stream.read_buf(&mut answer).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
    }
    true
}

/// The first line of an answer is here: it is under way.
async fn begins_to_be_answered(stream: &mut TcpStream) {
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(first, *b"HTTP/1.1 200 OK");
}

/// That it was closed, or is within that time.
async fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    let mut all = Vec::new();
    tokio::time::timeout(within, stream.read_to_end(&mut all)).await.is_ok()
}

async fn are_answered(streams: &mut [TcpStream]) -> bool {
    for stream in streams {
        if stream.write_all(ASK.as_bytes()).await.is_err() || !reads_an_answer(stream).await {
            return false;
        }
    }
    true
}

#[tokio::test]
async fn whoever_rests_gives_way_to_a_probe_who_rests_longest_first() {
    let server = start().await;
    let mut resting =
        server.crowd(ASK, async |stream| assert!(reads_an_answer(stream).await)).await;
    // The first asks again: the second has rested longest now.
    assert!(are_answered(&mut resting[..1]).await);
    assert!(server.answers_a_probe().await);
    assert!(is_closed(&mut resting[1], PROMPT).await);
    resting.remove(1);
    assert!(are_answered(&mut resting).await);
}

#[tokio::test]
async fn whoever_says_nothing_gives_way_to_a_probe() {
    let server = start().await;
    let mut silent = server.crowd("", async |_| {}).await;
    assert!(server.answers_a_probe().await);
    assert!(is_closed(&mut silent[0], PROMPT).await);
    assert!(are_answered(&mut silent[1..]).await);
}

#[tokio::test]
async fn whoever_says_it_byte_by_byte_gives_way_to_a_probe() {
    let server = start().await;
    let mut slow = server.crowd("GET / HTTP/1.1\r\nHost: local", async |_| {}).await;
    for stream in &mut slow {
        stream.write_all(b"x").await.unwrap();
    }
    assert!(server.answers_a_probe().await);
    assert!(is_closed(&mut slow[0], PROMPT).await, "one more byte of a head is no request");
    for stream in &mut slow[1..] {
        stream.write_all(b"\r\n\r\n").await.unwrap();
        assert!(reads_an_answer(stream).await, "only one had to go");
    }
}

#[tokio::test]
async fn a_burst_of_callers_who_ask_at_once_is_answered_whole() {
    // So few that one turn of the server's task could fill them all.
    let server = start_with(Limits { places: 8, ..LIMITS }).await;
    // The kernel takes these before the server's task runs; on many hosts it keeps 128 at most.
    let burst = (0..96).map(|_| {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream.write_all(ASK.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    });
    for stream in burst.collect::<Vec<_>>() {
        let mut stream = TcpStream::from_std(stream).unwrap();
        assert!(reads_an_answer(&mut stream).await);
    }
}

#[tokio::test]
async fn an_answer_under_way_is_not_cut_off_by_newcomers() {
    let server = start().await;
    let mut scrape = server.says(ASK_MUCH).await;
    begins_to_be_answered(&mut scrape).await;
    let _crowds = [server.crowd("", async |_| {}).await, server.crowd("", async |_| {}).await];
    assert!(server.answers_a_probe().await);
    let mut left = Vec::new();
    while left.len() < LARGE {
        let read = scrape.read_buf(&mut left).await.unwrap();
        assert_ne!(read, 0, "cut off after {} bytes", left.len());
    }
    assert!(left.ends_with(b"xxx"));
}

#[tokio::test]
async fn all_places_full_of_answers_that_nobody_reads_a_newcomer_is_closed_at_once() {
    let server = start().await;
    let mut unread = server.crowd(ASK_MUCH, begins_to_be_answered).await;
    let began = Instant::now();
    assert!(!server.answers_a_probe().await);
    assert!(began.elapsed() < PROMPT, "closed, not left waiting: {:?}", began.elapsed());
    assert_eq!(server.tasks.len(), 1 + LIMITS.places);
    drop(unread.pop());
    let room = async { while !server.answers_a_probe().await {} };
    tokio::time::timeout(PROMPT, room).await.unwrap();
    let mut one = unread.remove(0);
    let mut answer = Vec::new();
    while answer.len() < LARGE {
        assert_ne!(one.read_buf(&mut answer).await.unwrap(), 0, "cut off by the newcomers");
    }
}

#[tokio::test]
async fn connections_are_never_more_than_places() {
    let server = start().await;
    let _crowds = [server.crowd("", async |_| {}).await, server.crowd("", async |_| {}).await];
    assert!(server.answers_a_probe().await);
    // And the one that accepts.
    assert!(server.tasks.len() <= 1 + LIMITS.places, "{}", server.tasks.len());
}
