//! What shows how the daemon is: HTTP, health, the service manager. Begun before anything that may take long, ended after
//! everything that may fail.

use std::sync::Arc;

use ghost_host::SystemClock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;
use crate::health::{Beginning, HealthTask, HealthView, Pulse, Sources};
use crate::http::{self, MetricsPage, MetricsRoute, Pages};
use crate::observability::metrics::Metrics;
use crate::service_manager::ServiceManager;

/// Begun, and not yet about anything.
pub(super) struct Shown {
    beginning: Beginning,
    /// How the agent is.
    pub(super) view: HealthView,
    /// To be joined with the watch of libvirt.
    pub(super) watch: Pulse,
    background: TaskTracker,
    until: CancellationToken,
}

impl Shown {
    /// Listens on HTTP, and says there that the agent is starting. All of it ends with `until`.
    ///
    /// # Errors
    /// If it can't listen.
    pub(super) async fn begin(
        config: &config::Metrics,
        metrics: &Arc<Metrics>,
        background: TaskTracker,
        until: CancellationToken,
    ) -> anyhow::Result<Self> {
        let listener = http::bind(config.listen_addr).await?;
        let (beginning, view) = Beginning::new(&SystemClock::new());
        let (path, metrics) = (config.path.clone(), Arc::clone(metrics));
        let page: MetricsPage = Arc::new(move |accept| metrics.answer(accept));
        let route = config.enabled.then_some(MetricsRoute { path, page });
        let pages = Pages { health: view.clone(), metrics: route };
        background.spawn(http::serve(pages, listener, background.clone(), until.clone()));
        Ok(Self { beginning, view, watch: Pulse::default(), background, until })
    }

    /// From now on there is something to be looked at.
    pub(super) fn look_at(self, sources: Sources) {
        let (clock, view) = (Arc::clone(&sources.clock), self.view);
        let task = HealthTask::new(sources, self.beginning);
        let pulses = vec![("health", task.pulse()), ("watch of libvirt", self.watch)];
        let manager = ServiceManager::of_process();
        let until = || self.until.clone();
        self.background.spawn(until().run_until_cancelled_owned(task.run()));
        self.background.spawn(until().run_until_cancelled_owned(manager.clone().follow(view)));
        let feeding = manager.feed_watchdog(pulses, clock);
        self.background.spawn(until().run_until_cancelled_owned(feeding));
    }
}
