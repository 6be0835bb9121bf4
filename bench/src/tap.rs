//! A tap on the agent's connections to libvirtd: a socket that passes everything on and notes how long each
//! call took. Invariant: not a byte is changed, held back or reordered; time spent in here counts as the agent's.

mod frames;
mod union;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use frames::{Frames, Header, Kind};

/// libvirtd's socket, or that of virtproxyd, which stands in for it.
const LIBVIRTD: &str = "/run/libvirt/libvirt-sock";

/// A call of libvirt's protocol: its number in libvirt's `remote_protocol.x`, which never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Procedure(u32);

impl Procedure {
    /// Makes a volume.
    pub(crate) const VOL_CREATE_XML: Self = Self(93);
    /// Starts a domain.
    pub(crate) const DOMAIN_CREATE_WITH_FLAGS: Self = Self(196);
    /// Begins to fill a volume.
    pub(crate) const VOL_UPLOAD: Self = Self(208);
    /// Adds a static host.
    pub(crate) const NETWORK_UPDATE: Self = Self(291);
    /// Defines a domain.
    pub(crate) const DOMAIN_DEFINE_XML_FLAGS: Self = Self(350);
}

/// A call that libvirtd has answered.
#[derive(Debug, Clone, Copy)]
struct Call {
    procedure: Procedure,
    asked: Instant,
    took: Duration,
}

/// The tap; it is closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Tap {
    socket: PathBuf,
    answered: Arc<Mutex<Vec<Call>>>,
    _serving: JoinSet<()>,
}

impl Tap {
    /// Listens on a socket in `folder`.
    ///
    /// # Errors
    /// If there is no libvirtd, or the socket can't be made.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        ensure!(
            Path::new(LIBVIRTD).exists(),
            "no {LIBVIRTD}; start libvirtd or virtproxyd: ./dev setup"
        );
        let socket = folder.join("libvirt-tap.sock");
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        let answered = Arc::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&answered)));
        Ok(Self { socket, answered, _serving: serving })
    }

    /// The libvirt URI that goes through it.
    pub(crate) fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.socket.display())
    }

    /// How long at least one of these calls was under way: of each procedure the first so many that
    /// were made since then.
    ///
    /// # Errors
    /// If there were fewer.
    pub(crate) fn busy(
        &self,
        calls: &[(Procedure, usize)],
        since: Instant,
    ) -> anyhow::Result<Duration> {
        let answered = lock(&self.answered);
        let mut spans = Vec::new();
        for (procedure, count) in calls {
            let wanted =
                answered.iter().filter(|call| call.procedure == *procedure && call.asked >= since);
            let found: Vec<_> = wanted.map(|call| (call.asked, call.took)).take(*count).collect();
            ensure!(
                found.len() == *count,
                "the agent made {} of {count} calls of {procedure:?}",
                found.len()
            );
            spans.extend(found);
        }
        Ok(union::length(spans))
    }

    /// The first call of that procedure that was made since then: how long after, and how long it took.
    ///
    /// # Errors
    /// If there was none.
    pub(crate) fn first(
        &self,
        procedure: Procedure,
        since: Instant,
    ) -> anyhow::Result<(Duration, Duration)> {
        let answered = lock(&self.answered);
        let wanted = |call: &&Call| call.procedure == procedure && call.asked >= since;
        let first = answered.iter().filter(wanted).min_by_key(|call| call.asked);
        let first = first.with_context(|| format!("the agent made no call of {procedure:?}"))?;
        Ok((first.asked - since, first.took))
    }
}

async fn serve(listener: UnixListener, answered: Arc<Mutex<Vec<Call>>>) {
    let mut connections = JoinSet::new();
    // It ends with its client; a connection that fails is the client's to report.
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(pass(client, Arc::clone(&answered)));
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(client: UnixStream, answered: Arc<Mutex<Vec<Call>>>) {
    let Ok(libvirtd) = UnixStream::connect(LIBVIRTD).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_libvirtd, to_libvirtd) = libvirtd.into_split();
    let asked = Mutex::new(HashMap::new());
    let calls = copy(from_client, to_libvirtd, |header| {
        if header.kind == Kind::Call {
            lock(&asked).insert(header.serial, Instant::now());
        }
    });
    let replies = copy(from_libvirtd, to_client, |header| {
        if header.kind == Kind::Reply
            && let Some(asked) = lock(&asked).remove(&header.serial)
        {
            let (procedure, took) = (Procedure(header.procedure), asked.elapsed());
            lock(&answered).push(Call { procedure, asked, took });
        }
    });
    // When one side is gone the other must see it.
    tokio::select! { _ = calls => {}, _ = replies => {} }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut seen: impl FnMut(Header),
) -> std::io::Result<()> {
    let mut frames = Frames::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        frames.feed(bytes, &mut seen);
        to.write_all(bytes).await?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
