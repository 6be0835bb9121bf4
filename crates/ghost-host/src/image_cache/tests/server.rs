//! A web server that fails on demand.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What every request is answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) body: Vec<u8>,
    /// The length in the header; the connection is closed after `body`.
    pub(super) promised: u64,
    /// Whether the header says a length at all.
    pub(super) announced: bool,
    /// Whether the body waits for [`Server::open_gate`].
    pub(super) gated: bool,
}

impl Answer {
    pub(super) fn file(body: &[u8]) -> Self {
        let promised = body.len() as u64;
        Self { status: "200 OK", body: body.to_vec(), promised, announced: true, gated: false }
    }
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    requests: Arc<AtomicUsize>,
    gate: Sender<()>,
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Server {
    pub(super) fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a.qcow2", listener.local_addr().unwrap());
        let (gate, opened) = channel();
        let opened = Arc::new(Mutex::new(opened));
        let (requests, stopped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stop) = (Arc::clone(&requests), Arc::clone(&stopped));
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (answer, opened, count) =
                    (answer.clone(), Arc::clone(&opened), Arc::clone(&count));
                std::thread::spawn(move || serve(connection.unwrap(), &answer, &opened, &count));
            }
        });
        Self { url, requests, gate, stopped, thread }
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(super) fn open_gate(&self) {
        self.gate.send(()).unwrap();
    }

    /// Closes the port, which no one else gets while the test runs, and gives its url.
    pub(super) fn stop(self) -> String {
        self.stopped.store(true, Ordering::SeqCst);
        let address = self.url.trim_start_matches("http://").trim_end_matches("/a.qcow2");
        drop(TcpStream::connect(address).unwrap());
        self.thread.join().unwrap();
        self.url
    }
}

/// A client that breaks off is its own test's affair.
fn serve(
    mut connection: TcpStream,
    answer: &Answer,
    gate: &Mutex<Receiver<()>>,
    count: &AtomicUsize,
) {
    let mut request = BufReader::new(connection.try_clone().unwrap());
    if !request.fill_buf().is_ok_and(|start| start.starts_with(b"GET ")) {
        return;
    }
    if !request.lines().any(|line| line.is_ok_and(|line| line.is_empty())) {
        return;
    }
    count.fetch_add(1, Ordering::SeqCst);
    let length = if answer.announced {
        format!("Content-Length: {}\r\n", answer.promised)
    } else {
        String::new()
    };
    let head = format!("HTTP/1.1 {}\r\n{length}Connection: close\r\n\r\n", answer.status);
    let _broken_off = connection.write_all(head.as_bytes());
    if answer.gated && gate.lock().unwrap().recv().is_err() {
        return;
    }
    let _broken_off = connection.write_all(&answer.body);
}
