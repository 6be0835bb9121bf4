//! The metrics of an agent in memory.

mod cost;
mod counting;
mod names;
mod promtool;
mod vms;

use std::sync::Arc;
use std::time::Duration;

use ghost_core::application::{Limits, Link, LinkState, Node, NodeQuery, Registry};
use ghost_core::domain::{
    Bytes, Desired, ErrorCode, FetchStage, Fetching, Observed, PowerState, ReservationRule,
    Reserve, Sighting, Traffic, VmId, VmRecord, VmStage,
};
use ghost_core::ports::{Clock as _, CreateStep, Measured, Meter as _};
use ghost_core::testing::{FakeClock, World, samples};
use ghost_libvirt::{
    BreakerState, CallObserver, CallOutcome, Enforcement, Policy, Vitals, Workers,
};
use jiff::Timestamp;
use tokio::sync::watch;
use tonic::Code;

use super::images::CacheSize;
use super::*;
use crate::config::LogLevel;
use crate::health::{Beginning, Check, Health, HealthView, State};

/// An agent of which everything is known.
pub(super) struct Rig {
    pub(super) metrics: Metrics,
    pub(super) registry: Arc<Registry>,
    /// Its own end of what is watched.
    pub(super) link: watch::Sender<LinkState>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let registry = Arc::<Registry>::default();
        let (link, sources) = sources(&registry);
        let metrics = Metrics::default();
        metrics.attach(sources);
        Self { metrics, registry, link }
    }

    /// The value of that series, as it is written in OpenMetrics.
    pub(super) fn value(&self, series: &str) -> Option<f64> {
        value(&self.metrics.render(Format::OpenMetrics), series)
    }

    /// A VM that was looked at while it ran.
    pub(super) fn runs(&self, name: &str) -> VmId {
        let id = self.is_known(name);
        self.registry.see(id, Sighting::Power(PowerState::Running));
        for second in [10, 15] {
            self.registry.sampled(Duration::from_secs(second), &[observed(id, second)]);
        }
        id
    }

    /// A VM that was made, and shall run.
    pub(super) fn is_known(&self, name: &str) -> VmId {
        let id = VmId::generate();
        let mut record = VmRecord::creating(id, &samples::spec(name), Timestamp::UNIX_EPOCH);
        record.stage = VmStage::settled(Desired::Running);
        self.registry.adopt(record);
        id
    }
}

/// Half of a CPU is used from the tenth second to the fifteenth.
fn observed(id: VmId, second: u64) -> Observed {
    let traffic = Traffic {
        net_rx: 100 * second,
        net_tx: 200 * second,
        disk_read: 300 * second,
        disk_written: 400 * second,
        disk_used: 1 << 30,
        host_ram: 300 << 20,
    };
    let (power, cpu_time) = (PowerState::Running, Duration::from_millis(500 * second));
    Observed { id, power, cpu_time, ram_used: Some(256 << 20), traffic }
}

fn sources(registry: &Arc<Registry>) -> (watch::Sender<LinkState>, Sources) {
    let world = World::new();
    let reserved = ReservationRule {
        cpus: Reserve::Exactly(4),
        ram: Reserve::Quarter,
        disk: Reserve::Exactly(50),
    };
    let node = Arc::<Node>::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(node.refresh(&world.ports())).unwrap();
    let node = NodeQuery::new(node, Arc::clone(registry), Limits { reserved, ..Limits::default() });
    let heard = Some(world.clock.now());
    let (tell_link, link) = watch::channel(LinkState {
        link: Link::Registered { count: 1, kept: 0 },
        last_heard: heard,
    });
    let expiry = world.clock.now();
    let sources = Sources {
        registry: Arc::clone(registry),
        node: Arc::new(node),
        clock: world.clock.clone(),
        acceleration: "kvm",
        libvirt: Arc::new(|| Some(vitals())),
        images: watch::channel(Some(CacheSize { images: 2, bytes: 3 << 30 })).1,
        cache_limit: Some(Bytes(20 << 30)),
        fetching: watch::channel(vec![fetching()]).1,
        downloads: Arc::default(),
        link: Some(link),
        waiting_events: Arc::new(|| 7),
        certificate_end: Arc::new(move || Some(expiry)),
        health: health(),
        logs: Arc::new(logs),
    };
    (tell_link, sources)
}

fn fetching() -> Fetching {
    Fetching {
        templates: Vec::new(),
        url: "https://mirror.example/a".to_owned(),
        stage: FetchStage::Downloading,
        done: Bytes(1),
        total: None,
    }
}

fn vitals() -> Vitals {
    let mut policies: Vec<_> =
        Policy::ALL.into_iter().map(|policy| (policy, Enforcement::Enforced)).collect();
    policies[3].1 = Enforcement::Refused;
    Vitals {
        connected: true,
        breaker: BreakerState::Probing,
        workers: Workers { idle: 2, busy: 1, hung: 1 },
        policies,
    }
}

fn health() -> HealthView {
    let (_, starting) = Beginning::new(&FakeClock::default());
    let mut health = Health::clone(&starting.borrow());
    let check = |name, status| Check { name, status, ..health.checks[0].clone() };
    health.checks =
        vec![check("libvirt", State::Up), check("a \"name\"\nghost_forged 1", State::Degraded)];
    health.ready = true;
    watch::channel(Arc::new(health)).1
}

fn logs() -> LogCounts {
    let lines = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
    LogCounts { lines: lines.map(|level| (level, 4)), dropped: 1 }
}

/// With every metric, and every label value that can be had cheaply.
pub(crate) fn everything() -> Metrics {
    let rig = Rig::new();
    for n in 0..20 {
        rig.runs(&format!("vm-{n:02}"));
    }
    let (metrics, took) = (rig.metrics, Duration::from_millis(12));
    for rpc in ["CreateVM", "GetVMStatus", "ListVMs"] {
        (0..17).for_each(|code| metrics.call_ended(rpc, Code::from(code), Some(took)));
    }
    [Limited::Read, Limited::Change].into_iter().for_each(|limit| metrics.rate_limited(limit));
    for outcome in [Ok(()), Err(ErrorCode::Hypervisor)] {
        metrics.note(Measured::Create { took, outcome });
        for step in CreateStep::ALL {
            metrics.note(Measured::Step { step, took, outcome });
        }
    }
    metrics.note(Measured::Deleted);
    metrics.note(Measured::Heartbeat { took, taken: true });
    metrics.note(Measured::Reported { events: 3 });
    for outcome in [CallOutcome::Done, CallOutcome::TimedOut] {
        CallObserver::call_ended(&metrics, "start_domain", outcome, took);
    }
    metrics
}

/// The value of that series.
pub(super) fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}
