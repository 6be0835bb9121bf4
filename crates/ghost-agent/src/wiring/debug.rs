//! What a debug bundle is collected from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::FutureExt as _;
use url::Url;

use super::Parts;
use crate::config::Config;
use crate::debug::{
    Collector, Part, Secrets, Sheet, certificates, disks, host, process, state_folder, vms,
};
use crate::health::HealthView;
use crate::http;
use crate::observability::metrics::Format;

/// The last lines of the log, at most as many as are asked for.
pub type Lines = Arc<dyn Fn(usize) -> Vec<String> + Send + Sync>;

impl Parts {
    /// What collects debug bundles; `shown` is the configuration as `check-config --show` prints it.
    #[must_use]
    pub fn debug(
        &self,
        config: &Config,
        shown: String,
        health: HealthView,
        log: Lines,
    ) -> Collector {
        let mut parts = self.own_parts(config, shown);
        parts.extend(self.observed(health, log));
        Collector::new(parts, self.secrets(config), self.api.closing.clone())
    }

    fn own_parts(&self, config: &Config, shown: String) -> Vec<Part> {
        let began = Instant::now();
        let state_dir = config.agent.state_dir.clone();
        let ledger = state_dir.join("vms");
        let (files, folders) = (config.grpc.files.clone(), folders(config));
        let registry = Arc::clone(&self.registry);
        let (images, libvirt) = (Arc::clone(&self.api.images), Arc::clone(&self.libvirt));
        vec![
            Part::reading("the agent's process", move || process::facts(began)),
            Part::reading("the configuration", move || {
                Ok(vec![Sheet::new("agent/config.txt", shown.clone())])
            }),
            Part::reading("the VMs", move || vms::views(&registry.views())),
            Part::reading("the ledger", move || vms::ledger(&ledger)),
            Part::reading("the state folder", move || state_folder(&state_dir)),
            Part::reading("the certificates", move || certificates::facts(&files)),
            Part::reading("the host", host::facts),
            Part::reading("the disks", move || disks(&folders)),
            Part::asking("the images", move || {
                let images = Arc::clone(&images);
                async move {
                    images.list().await.map(|all| vms::images(&all)).map_err(|e| e.to_string())
                }
                .boxed()
            }),
            Part::asking("libvirt", move || {
                let libvirt = Arc::clone(&libvirt);
                async move {
                    let facts = libvirt.facts().await;
                    let domains = facts.domains.into_iter();
                    let domains = domains
                        .map(|of| Sheet::new(format!("libvirt/domains/{}.xml", of.id), of.xml));
                    let facts = Sheet::new("libvirt/facts.txt", facts.text);
                    Ok(std::iter::once(facts).chain(domains).collect())
                }
                .boxed()
            }),
        ]
    }

    /// What whoever looks at the agent sees.
    fn observed(&self, health: HealthView, log: Lines) -> [Part; 3] {
        let metrics = Arc::clone(&self.api.metrics);
        [
            Part::reading("the health", move || {
                Ok(vec![Sheet::new("agent/health.json", http::health_document(&health.borrow()))])
            }),
            Part::reading("the metrics", move || {
                Ok(vec![Sheet::new("agent/metrics.txt", metrics.render(Format::OpenMetrics))])
            }),
            Part::log(move |lines| {
                let mut text = log(lines).join("\n");
                text.push('\n');
                Ok(vec![Sheet::log("agent/log.jsonl", text)])
            }),
        ]
    }

    /// The enrolment secret, what the configured URLs hold, and labels that are long enough to be recognized.
    fn secrets(&self, config: &Config) -> Secrets {
        let mut known: Vec<String> = Vec::new();
        known.extend(config.api_key.as_ref().map(|key| key.expose().to_owned()));
        let mirrors = config.images.mirrors.iter().flat_map(|(from, to)| [from, to]);
        known.extend(config.agent.api_url.iter().chain(mirrors).flat_map(of_url));
        let registry = Arc::clone(&self.registry);
        Arc::new(move || {
            let mut secrets = known.clone();
            secrets.extend(vms::labels(&registry.views()));
            secrets
        })
    }
}

fn of_url(url: &Url) -> Vec<String> {
    let parts = [url.password(), url.query(), url.fragment()];
    parts.into_iter().flatten().map(str::to_owned).collect()
}

fn folders(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let log = config.logging.file.parent().unwrap_or(&config.logging.file);
    vec![
        ("agent.state_dir", config.agent.state_dir.clone()),
        ("libvirt.image_cache", config.libvirt.image_cache.clone()),
        ("logging.file", log.to_owned()),
    ]
}
