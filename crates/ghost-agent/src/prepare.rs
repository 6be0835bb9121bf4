//! What the configuration points to, read before anything is started: `check-config` and the
//! daemon refuse the same things, with the same words and the same exit code.

use std::sync::Arc;

use ghost_core::domain::{Arch, Catalog};
use ghost_host::{CatalogError, SystemClock};

use crate::config::{Config, TcpListener};
use crate::grpc::tls::TlsError;
use crate::identity::Identity;
use crate::observability::logging::{self, LogError};

/// What was read.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The templates that run on this host.
    pub catalog: Arc<Catalog>,
    /// What proves the agent over TLS, unless it speaks none; with nothing in force yet if certificates
    /// are awaited.
    pub identity: Option<Arc<Identity>>,
}

/// Why what the configuration points to can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The catalogue.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Certificates and keys.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The log file.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Reads the catalogue, the certificates and the key. Certificates that are over, or not valid yet, are awaited
/// where there is a control plane.
///
/// # Errors
/// The first that can't be used.
pub fn prepare(config: &Config) -> Result<Prepared, PrepareError> {
    logging::look(&config.logging)?;
    let mut rows = match config.images.builtin_catalog {
        true => ghost_host::built_in_catalog()?,
        false => Vec::new(),
    };
    if let Some(path) = &config.images.catalog {
        rows.extend(ghost_host::read_catalog(path)?);
    }
    let catalog = Arc::new(Catalog::new(Arch::HOST, rows));
    Ok(Prepared { catalog, identity: identity(config)?.map(Arc::new) })
}

fn identity(config: &Config) -> Result<Option<Identity>, TlsError> {
    let clock = Arc::new(SystemClock::new());
    match &config.grpc.tcp {
        TcpListener::Tls { files, .. } => match Identity::load(files, clock.clone()) {
            // The host was off for long, or its clock is not set yet: its VMs need the agent all the same,
            // and the control plane, or the clock, can mend it.
            Err(TlsError::Time { .. }) if config.agent.api_url.is_some() => {
                Ok(Some(Identity::awaited(files, clock)))
            }
            loaded => loaded.map(Some),
        },
        TcpListener::Awaited { files, .. } => Ok(Some(Identity::awaited(files, clock))),
        // To the control plane the agent proves itself all the same.
        TcpListener::Plain { .. } | TcpListener::Off { .. } if config.agent.api_url.is_some() => {
            Ok(Some(Identity::awaited(&config.grpc.files, clock)))
        }
        TcpListener::Plain { .. } | TcpListener::Off { .. } => Ok(None),
    }
}
