//! The ways to look at the daemon: [`logging`], [`metrics`], [`tracing`].

pub mod logging;
pub mod metrics;
pub mod tracing;

use crate::config::Config;
use logging::{LogError, LogHandle};

/// The log, and what traces wait for.
#[derive(Debug)]
pub struct Observability {
    /// The log that runs.
    pub log: LogHandle,
    /// What exports traces, once it is started; `None` if the configuration names no collector.
    pub exporting: Option<tracing::Exporting>,
}

impl Observability {
    /// Begins to log, and to keep spans for their collector. Called once, before anything else is started.
    ///
    /// # Errors
    /// If the log file can't be opened, with the remedy.
    pub fn begin(config: &Config) -> Result<Self, LogError> {
        let (layer, exporting) = tracing::layer(&config.tracing).unzip();
        let layer = layer.map(|layer| Box::new(layer) as logging::MoreLayers);
        let log = logging::init(&config.logging, layer)?;
        Ok(Self { log, exporting })
    }
}
