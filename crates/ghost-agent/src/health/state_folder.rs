//! A look at the file system of the state folder. Invariant: nothing that it writes outlives it, even if it dies: the file has no
//! name.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use ghost_core::domain::Bytes;
use rustix::fs::StatVfsMountFlags;

/// From one trial write to the next. Nothing waits for the disk, so that it may sleep in between.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// What it is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFolder {
    /// Space that the agent can still use.
    pub free: Bytes,
    /// Why a file can't be written there, if it can't.
    pub refuses: Option<String>,
}

/// Looks at it; may take as long as the disk does.
pub type StateFolderLook = Arc<dyn Fn() -> BoxFuture<'static, StateFolder> + Send + Sync>;

/// When a byte was last tried to be written, and why it was not.
type Written = Arc<Mutex<Option<(Instant, Option<String>)>>>;

impl StateFolder {
    /// The way to look at that folder: how much is free at each look, and once a minute whether a byte can be written. Each
    /// look has a thread of its own.
    #[must_use]
    pub fn look_at(folder: &Path) -> StateFolderLook {
        let (folder, written) = (folder.to_owned(), Written::default());
        Arc::new(move || {
            let (folder, written) = (folder.clone(), Arc::clone(&written));
            let looking = tokio::task::spawn_blocking(move || Self::look(&folder, &written));
            Box::pin(
                async move { looking.await.unwrap_or_else(|died| Self::refuses(died.to_string())) },
            )
        })
    }

    fn refuses(why: String) -> Self {
        Self { free: Bytes(0), refuses: Some(why) }
    }

    fn look(folder: &Path, written: &Written) -> Self {
        let space = match rustix::fs::statvfs(folder) {
            Ok(space) => space,
            Err(error) => return Self::refuses(io::Error::from(error).to_string()),
        };
        let free = Bytes(space.f_bavail.saturating_mul(space.f_frsize));
        if space.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Self { free, refuses: Some("it is mounted read-only".to_owned()) };
        }
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = match written.take().filter(|(at, _)| at.elapsed() < WRITE_EVERY) {
            Some((at, None)) => (at, None),
            // What failed is tried again at once, so that its end is seen.
            Some((_, Some(_))) | None => (Instant::now(), refusal(folder)),
        };
        let refuses = written.insert(tried).1.clone();
        Self { free, refuses }
    }
}

fn refusal(folder: &Path) -> Option<String> {
    let written = tempfile::tempfile_in(folder).and_then(|mut file| file.write_all(b"?"));
    written.err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_can_be_written_stays_empty() {
        let folder = tempfile::tempdir().unwrap();
        let found = StateFolder::look_at(folder.path())().await;
        assert_eq!(found.refuses, None);
        assert!(found.free > Bytes(0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_folder_in_which_no_file_can_be_made_refuses() {
        let found = StateFolder::look_at(Path::new("/proc"))().await;
        assert!(found.refuses.is_some(), "{found:?}");
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_and_comes_back_is_seen_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let look = StateFolder::look_at(&state);
        assert!(look().await.refuses.is_some_and(|why| why.contains("No such file")));
        std::fs::create_dir(&state).unwrap();
        assert_eq!(look().await.refuses, None);
    }
}
