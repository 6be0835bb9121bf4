//! The seed: what a guest's cloud-init reads at its first boot (data source "NoCloud").
//!
//! Invariant: every text in the seed is written by a serializer or is the caller's own, unaltered;
//! no name, key, label or user data can change the meaning of what stands beside it. The same
//! [`SeedSpec`] always gives the same bytes.
//!
//! Three files in an ISO 9660 image labelled `cidata`:
//!
//! * `meta-data`: `instance-id`, `local-hostname`, and the labels under `ghost.labels` (in the guest:
//!   `cloud-init query ds.meta_data.ghost.labels`).
//! * `user-data`: see [`user_data`].
//! * `network-config`: version 2, DHCP on the card with the VM's Ethernet address.

mod documents;
mod iso;
#[cfg(test)]
mod tests;
pub mod user_data;
mod yaml_json;

use ghost_core::domain::{AppError, ErrorKind};
use ghost_core::ports::{PortResult, SeedSpec, Seeds};

/// Builds NoCloud seeds.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCloudSeed;

/// The seed could not be written; only a fault in the agent can cause it.
#[derive(Debug, thiserror::Error)]
enum SeedError {
    #[error("cannot encode the seed's documents")]
    Encode(#[from] serde_json::Error),
    #[error("cannot write the seed's ISO 9660 image")]
    Iso(#[from] iso::IsoError),
}

impl From<SeedError> for AppError {
    fn from(error: SeedError) -> Self {
        Self::new(ErrorKind::Internal, error.to_string())
            .remedy("report it with the request's user data and metadata")
            .because(error)
    }
}

impl Seeds for NoCloudSeed {
    fn build(&self, spec: &SeedSpec) -> PortResult<Vec<u8>> {
        Ok(build(spec)?)
    }
}

fn build(spec: &SeedSpec) -> Result<Vec<u8>, SeedError> {
    let files = [
        ("meta-data", documents::meta_data(spec)?),
        ("network-config", documents::network_config(spec)?),
        ("user-data", user_data::compose(spec)?),
    ];
    Ok(iso::image(files)?)
}
