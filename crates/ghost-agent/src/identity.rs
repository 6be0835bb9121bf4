//! Who the agent is to others: its certificate, key and authorities, as they are in the files now.
//!
//! Invariant: what is in force was whole, valid and this agent's when it was taken, and stays in force
//! until something is that too; a connection under way keeps what it was made with.
//!
//! ```text
//! awaited ──first fit files──▶ in force ──other fit files──▶ in force
//!                                 └──unfit files──▶ unchanged, with one warning
//! ```

#[cfg(test)]
pub(crate) mod issuing;
mod stamp;
#[cfg(test)]
mod tests;
mod watching;

use std::sync::{Arc, Mutex, PoisonError};

use ghost_core::ports::Clock;
use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::config::{ClientName, TlsFiles};
use crate::grpc::tls::{Material, TlsError};

/// Begins the URI of an agent, which its UUID completes (proto/control_plane.proto, "Names").
const AGENT_URI: &str = "spiffe://ghost/agent/";

/// What proves the agent, both ways, as read at one moment.
pub struct Credentials {
    /// For connections that others make to the agent.
    pub server: Arc<rustls::ServerConfig>,
    /// For connections that the agent makes.
    pub client: Arc<rustls::ClientConfig>,
    /// When the certificate began to be valid.
    pub not_before: Timestamp,
    /// The last second in which it is valid.
    pub not_after: Timestamp,
    /// The certificate's URI and DNS names (subjectAltName), DNS names in lower case.
    pub names: Vec<String>,
    material: Material,
}

impl std::fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("names", &self.names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    fn read(files: &TlsFiles, now: Timestamp) -> Result<Self, TlsError> {
        let material = Material::read(files)?;
        let leaf = material.leaf(files, now)?;
        let (server, client) = (material.server(files)?, material.client(files)?);
        let names = leaf.names.iter().map(ClientName::to_string).collect();
        let (not_before, not_after) = (leaf.not_before, leaf.not_after);
        Ok(Self { server, client, not_before, not_after, names, material })
    }

    /// Whether the certificate is that agent's, as the control plane issues them.
    #[must_use]
    pub fn are_of(&self, agent: Uuid) -> bool {
        self.names.contains(&format!("{AGENT_URI}{agent}"))
    }

    /// A name by which the agent is known as this very agent, and that `newer` lacks.
    fn lost_in(&self, newer: &Self) -> Option<&String> {
        let of_an_agent = |name: &&String| {
            name.strip_prefix(AGENT_URI).is_some_and(|id| Uuid::try_parse(id).is_ok())
        };
        self.names.iter().filter(of_an_agent).find(|name| !newer.names.contains(name))
    }
}

/// The files, and what of them is in force.
#[derive(Debug)]
pub struct Identity {
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    current: watch::Sender<Option<Arc<Credentials>>>,
    /// Held while the files are read, so that older contents never replace newer ones.
    reading: Mutex<()>,
}

impl Identity {
    /// Of files that must be there and fit.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(files: &TlsFiles, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let identity = Self::awaited(files, clock);
        identity.reload()?;
        Ok(identity)
    }

    /// Of files that are still to come: nothing is in force until they do.
    #[must_use]
    pub fn awaited(files: &TlsFiles, clock: Arc<dyn Clock>) -> Self {
        let current = watch::Sender::new(None);
        Self { files: files.clone(), clock, current, reading: Mutex::new(()) }
    }

    /// What is in force now, if anything ever was; it may have expired since it was taken.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.current.borrow().clone()
    }

    /// Tells of each change of what is in force.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Credentials>>> {
        self.current.subscribe()
    }

    /// Takes what is in the files, if it is another than what is in force; blocks on the disk. To be
    /// called after the files were replaced; [`Self::watch_files`] would notice later.
    ///
    /// # Errors
    /// Why it can't be used; what was in force stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = Credentials::read(&self.files, self.clock.now())?;
        if let Some(current) = self.current() {
            if current.material.is_same(&newer.material) {
                return Ok(());
            }
            if let Some(name) = current.lost_in(&newer) {
                let (path, name) = (self.files.cert.clone(), name.clone());
                return Err(TlsError::OtherAgent { path, name });
            }
            let names = newer.names.join(", ");
            tracing::info!(names, not_after = %newer.not_after, "new certificates are in force, for new connections");
        }
        self.current.send_replace(Some(Arc::new(newer)));
        Ok(())
    }
}
