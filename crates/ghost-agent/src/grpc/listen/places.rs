//! How many may be connected. Invariant: each kind of caller has places of its own, so that none
//! can crowd out another, and all together stay within the files that a process may open.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::grpc::access::{Access, Caller};

/// Most connections over TCP that may command.
const REMOTE: usize = 256;
/// Most connections over the unix socket.
const LOCAL: usize = 64;
/// Most connections whose certificate may not command: they are let in to be told so.
const STRANGERS: usize = 8;

/// The places, and who may have which.
#[derive(Debug)]
pub(super) struct Places {
    access: Access,
    remote: Arc<Semaphore>,
    local: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("all {REMOTE} connections over TCP are taken; close some clients")]
    Remote,
    #[error("all {LOCAL} connections over the unix socket are taken; close some clients")]
    Local,
    #[error(
        "its certificate is not permitted, and {STRANGERS} such clients are connected already; add one of its names to grpc.allowed_clients, or stop it"
    )]
    Stranger,
}

impl Places {
    pub(super) fn new(access: Access) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        let (remote, local, strangers) = (places(REMOTE), places(LOCAL), places(STRANGERS));
        Self { access, remote, local, strangers }
    }

    /// A place for that caller, free again when it is dropped.
    ///
    /// # Errors
    /// If all of its kind are taken.
    pub(super) fn take(&self, caller: &Caller) -> Result<OwnedSemaphorePermit, NoPlace> {
        let (places, refusal) = match caller {
            Caller::Local { .. } => (&self.local, NoPlace::Local),
            Caller::Loopback { .. } => (&self.remote, NoPlace::Remote),
            Caller::Certificate { names, .. } if self.access.permits(names) => {
                (&self.remote, NoPlace::Remote)
            }
            Caller::Certificate { .. } => (&self.strangers, NoPlace::Stranger),
        };
        Arc::clone(places).try_acquire_owned().map_err(|_| refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientName;

    fn certificate(uri: &str) -> Caller {
        let names = [ClientName::Uri(uri.to_owned())].into();
        let until = jiff::Timestamp::MAX;
        Caller::Certificate { peer: ([100, 64, 0, 1], 4000).into(), names, until }
    }

    fn fill(places: &Places, caller: &Caller) -> Vec<OwnedSemaphorePermit> {
        std::iter::from_fn(|| places.take(caller).ok()).collect()
    }

    #[test]
    fn no_kind_of_caller_takes_the_places_of_another() {
        let (operator, stranger) = (certificate("spiffe://a/b"), certificate("spiffe://a/c"));
        let local = Caller::Local { uid: 0, pid: None };
        let places = Places::new(Access::new([ClientName::Uri("spiffe://a/b".to_owned())]));
        let held = [&stranger, &local, &operator].map(|caller| fill(&places, caller));
        assert_eq!(held.map(|some| some.len()), [STRANGERS, LOCAL, REMOTE]);
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let stranger = certificate("spiffe://a/c");
        let places = Places::new(Access::new([]));
        let mut held = fill(&places, &stranger);
        assert!(matches!(places.take(&stranger), Err(NoPlace::Stranger)));
        held.pop();
        assert!(places.take(&stranger).is_ok());
    }
}
