//! What the configuration points to, read before anything is started: `check-config` and the
//! daemon refuse the same things, with the same words and the same exit code.

use std::sync::Arc;

use ghost_core::domain::{Arch, Catalog};
use ghost_host::CatalogError;

use crate::config::{Config, TcpListener};
use crate::grpc::tls::{self, TlsError};

/// What was read.
#[derive(Clone)]
pub struct Prepared {
    /// The templates that run on this host.
    pub catalog: Arc<Catalog>,
    /// What is said on the TCP port, where it speaks TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("catalog", &self.catalog).finish_non_exhaustive()
    }
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
}

/// Reads the catalogue, the certificates and the key.
///
/// # Errors
/// The first that can't be used.
pub fn prepare(config: &Config) -> Result<Prepared, PrepareError> {
    let mut rows = match config.images.builtin_catalog {
        true => ghost_host::built_in_catalog()?,
        false => Vec::new(),
    };
    if let Some(path) = &config.images.catalog {
        rows.extend(ghost_host::read_catalog(path)?);
    }
    let tls = match &config.grpc.tcp {
        TcpListener::Tls { files, .. } => Some(tls::server_config(files)?),
        TcpListener::Plain { .. } | TcpListener::Off { .. } => None,
    };
    Ok(Prepared { catalog: Arc::new(Catalog::new(Arch::HOST, rows)), tls })
}
