//! A publisher of images on loopback: a web server that knows ranges and can hold its breath.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

/// Written at once.
const CHUNK: usize = 64 << 10;

#[derive(Debug, Default)]
struct Shelf {
    files: BTreeMap<String, Arc<Vec<u8>>>,
    /// Each request: its path, and where it began to read.
    asked: Vec<(String, usize)>,
    /// No file goes further than this while it is set.
    held_at: Option<usize>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shop {
    shelf: Mutex<Shelf>,
    changed: Condvar,
}

impl Shop {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server. Dropping it closes it.
#[derive(Debug)]
pub struct Publisher {
    address: SocketAddr,
    shop: Arc<Shop>,
}

impl Publisher {
    /// Opens on a free port, with nothing to offer.
    ///
    /// # Errors
    /// If there is no port.
    pub fn open() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, shop) = (listener.local_addr()?, Arc::<Shop>::default());
        let serving = Arc::clone(&shop);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let shop = Arc::clone(&serving);
                if shop.shelf().closed {
                    return;
                }
                let Ok(client) = client else { continue };
                std::thread::spawn(move || serve(&client, &shop));
            }
        });
        Ok(Self { address, shop })
    }

    /// The url of a file.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Offers a file, and the list `SHA256SUMS` with all digests.
    pub fn offer(&self, name: &str, content: Vec<u8>) {
        let mut shelf = self.shop.shelf();
        shelf.files.insert(name.to_owned(), Arc::new(content));
        shelf.files.remove("SHA256SUMS");
        let hex = |bytes: &[u8]| -> String {
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let lines = shelf.files.iter().map(|(name, bytes)| format!("{}  {name}\n", hex(bytes)));
        let list: String = lines.collect();
        shelf.files.insert("SHA256SUMS".to_owned(), Arc::new(list.into_bytes()));
    }

    /// A row of a catalogue for one of its files, proven by its list.
    #[must_use]
    pub fn row(&self, template: &str, file: &str) -> String {
        format!(
            "- name: {template}\n  arch: {}\n  url: {}\n  sums: {}\n  sums_format: gnu\n  \
             sums_algorithm: sha256\n  default_user: root\n",
            std::env::consts::ARCH,
            self.url(file),
            self.url("SHA256SUMS")
        )
    }

    /// From which bytes on the file was asked for, in the order of the requests.
    #[must_use]
    pub fn asked_for(&self, file: &str) -> Vec<usize> {
        let shelf = self.shop.shelf();
        shelf.asked.iter().filter(|(name, _)| name == file).map(|(_, from)| *from).collect()
    }

    /// Sends no file further than that, until [`Self::go_on`].
    pub fn hold_at(&self, bytes: usize) {
        self.shop.shelf().held_at = Some(bytes);
    }

    /// Holds nothing back any more.
    pub fn go_on(&self) {
        self.shop.shelf().held_at = None;
        self.shop.changed.notify_all();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shop.shelf().closed = true;
        self.go_on();
        drop(TcpStream::connect(self.address));
    }
}

/// A client that breaks off is its own test's affair.
fn serve(client: &TcpStream, shop: &Shop) -> Option<()> {
    let mut lines = BufReader::new(client).lines().map_while(Result::ok);
    let first = lines.next()?;
    let path = first.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let from = headers.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let range = name.eq_ignore_ascii_case("range").then(|| value.trim())?;
        range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
    });
    let file = {
        let mut shelf = shop.shelf();
        shelf.asked.push((path.clone(), from.unwrap_or(0)));
        shelf.files.get(&path).cloned()
    };
    let mut client = client;
    let Some(file) = file else {
        return client
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .ok();
    };
    let (from, whole) = (from.unwrap_or(0).min(file.len()), file.len());
    let status = if from > 0 {
        format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{whole}", whole - 1)
    } else {
        "200 OK".to_owned()
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{whole}\"\r\nConnection: close\r\n\r\n",
        whole - from
    );
    client.write_all(head.as_bytes()).ok()?;
    let mut at = from;
    while at < whole {
        let end = allowed(shop, at, whole, &path)?;
        client.write_all(file.get(at..end)?).ok()?;
        at = end;
    }
    Some(())
}

/// How far the next chunk goes, once it may go at all. Lists are never held.
fn allowed(shop: &Shop, at: usize, whole: usize, path: &str) -> Option<usize> {
    let next = (at + CHUNK).min(whole);
    if path == "SHA256SUMS" {
        return Some(next);
    }
    let held = |shelf: &mut Shelf| !shelf.closed && shelf.held_at.is_some_and(|limit| at >= limit);
    let shelf = shop.changed.wait_while(shop.shelf(), held).ok()?;
    if shelf.closed {
        None
    } else {
        Some(shelf.held_at.map_or(next, |limit| next.min(limit.max(at + 1))))
    }
}
