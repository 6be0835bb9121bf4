//! One bundle on its way. Invariant: the pieces of a file come one after another, none larger than [`PIECE`]; the last file
//! says what is missing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, FuturesUnordered, StreamExt as _};
use ghost_core::domain::{AppError, ErrorKind};
use ghost_proto::agentpb::DebugFile;
use ghost_scrub::{Scrubbed, Scrubber};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Kept, Secrets, Sheet, Sheets};

/// Largest piece (the wire contract).
const PIECE: usize = 64 * 1024;
/// Largest file.
const FILE: usize = 8 << 20;
/// All files together.
const BUNDLE: usize = 32 << 20;
/// Pieces that wait for the caller, at most.
const AHEAD: usize = 16;
/// How long a caller may take to read all of it: until then no other has a turn.
const LIMIT: Duration = Duration::from_secs(120);

type Tell = mpsc::Sender<Result<DebugFile, AppError>>;

/// A bundle that was begun.
pub struct Collection {
    parts: FuturesUnordered<BoxFuture<'static, (&'static str, Sheets)>>,
    secrets: Secrets,
    ready: VecDeque<DebugFile>,
    left: usize,
    /// Taken when it is told.
    missing: Option<Vec<String>>,
    closing: CancellationToken,
    tasks: TaskTracker,
    _turn: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collection").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl Collection {
    pub(super) fn new(
        parts: FuturesUnordered<BoxFuture<'static, (&'static str, Sheets)>>,
        secrets: Secrets,
        turn: OwnedSemaphorePermit,
        closing: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let missing = Some(Vec::new());
        let (ready, left, _turn) = (VecDeque::new(), BUNDLE, turn);
        Self { parts, secrets, ready, left, missing, closing, tasks, _turn }
    }

    /// The pieces; the collecting ends when the stream is dropped, and at its `LIMIT` also if nobody reads: a stream that
    /// nobody reads is not polled.
    #[must_use]
    pub fn told(self) -> BoxStream<'static, Result<DebugFile, AppError>> {
        let (tell, told) = mpsc::channel(AHEAD);
        self.tasks.clone().spawn(self.tell(tell));
        stream::unfold(told, |mut told| async { Some((told.recv().await?, told)) }).boxed()
    }

    async fn tell(mut self, tell: Tell) {
        // The last word has its place, however full it is.
        let Ok(last) = tell.clone().reserve_owned().await else { return };
        let end = end(self.closing.clone());
        let error = tokio::select! {
            biased;
            error = end => error,
            () = tell.closed() => return,
            () = self.tell_all(&tell) => return,
        };
        last.send(Err(error));
    }

    async fn tell_all(&mut self, tell: &Tell) {
        while let Some(piece) = self.next().await {
            if tell.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    }

    async fn next(&mut self) -> Option<DebugFile> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            match self.parts.next().await {
                Some((_, Ok(sheets))) => self.take(sheets).await,
                Some((name, Err(why))) => self.note(format!("{name}: {why}")),
                None => {
                    let missing = self.missing.take()?;
                    let text = match missing.is_empty() {
                        true => "nothing is missing\n".to_owned(),
                        false => missing.join("\n") + "\n",
                    };
                    self.take(vec![Sheet::new("agent/errors.txt", text)]).await;
                }
            }
        }
    }

    fn note(&mut self, missing: String) {
        self.missing.get_or_insert_default().push(missing.replace('\n', " "));
    }

    async fn take(&mut self, sheets: Vec<Sheet>) {
        let secrets = Arc::clone(&self.secrets);
        let scrub = move || {
            let secrets = secrets();
            let scrubber = Scrubber::knowing(secrets.iter().map(String::as_str));
            sheets.into_iter().map(|sheet| clean(&scrubber, &sheet)).collect::<Vec<_>>()
        };
        match tokio::task::spawn_blocking(scrub).await {
            Ok(files) => files.into_iter().for_each(|(name, text)| self.cut(&name, &text)),
            Err(died) => self.note(format!("a part could not be scrubbed and is left out: {died}")),
        }
    }

    fn cut(&mut self, name: &Scrubbed, text: &Scrubbed) {
        let (name, bytes) = (name.as_str(), text.as_str().as_bytes());
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            return self.note(format!("{name}: left out, because the bundle is full"));
        };
        self.left = left;
        let piece = |content: &[u8]| DebugFile { name: name.to_owned(), content: content.to_vec() };
        if bytes.is_empty() {
            self.ready.push_back(piece(&[]));
        }
        self.ready.extend(bytes.chunks(PIECE).map(piece));
    }
}

/// Why a bundle ends before it is whole, when it does.
async fn end(closing: CancellationToken) -> AppError {
    tokio::select! {
        () = closing.cancelled() => AppError::new(ErrorKind::ShuttingDown, "the agent is shutting down")
            .remedy("try again when it is back"),
        () = tokio::time::sleep(LIMIT) => {
            let limit = LIMIT.as_secs();
            AppError::new(ErrorKind::Busy, format!("the bundle was not read within {limit} s"))
                .remedy("read it faster: others wait for their turn")
        }
    }
}

fn clean(scrubber: &Scrubber, sheet: &Sheet) -> (Scrubbed, Scrubbed) {
    let text = scrubber.scrub(&sheet.text);
    let text = match sheet.kept {
        Kept::Beginning => text.beginning(FILE),
        Kept::End => text.end(FILE),
    };
    (scrubber.scrub(&sheet.name), text)
}
