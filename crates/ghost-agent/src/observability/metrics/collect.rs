//! Reads the [`Sources`]. Invariant: what is gone there is gone here: a deleted VM leaves no series.

mod vms;

use std::fmt;

use ghost_core::application::Link;
use ghost_core::domain::resources::ResourceInfo;
use ghost_libvirt::{BreakerState, Enforcement};
use jiff::Timestamp;

use super::catalog as m;
use super::catalog::Metric;
use super::page::{Page, flag, number};
use super::sources::{LogCounts, Sources};
use crate::config::LogLevel;
use crate::health::{Check, Health, State};

pub(super) fn encode(sources: &Sources, page: &mut Page<'_>) -> fmt::Result {
    let build = [crate::VERSION, std::env::consts::ARCH, sources.acceleration];
    page.each(&m::BUILD_INFO, [(build, 1.0)])?;
    let health = sources.health.borrow().clone();
    encode_health(&health, page)?;
    vms::encode(&sources.registry.views(), page)?;
    let age = sources.registry.age(sources.clock.monotonic()).unwrap_or_default();
    page.one(&m::CACHE_AGE, age.as_secs_f64())?;
    encode_resources(sources, page)?;
    encode_libvirt(sources, page)?;
    encode_images(sources, page)?;
    encode_control_plane(sources, page)?;
    encode_logs(&(sources.logs)(), page)
}

fn encode_health(health: &Health, page: &mut Page<'_>) -> fmt::Result {
    page.one(&m::READY, flag(health.ready))?;
    let states = |check: &Check| {
        let (name, now) = (check.name, check.status);
        State::ALL.map(|state| ([name, state.as_str()], flag(state == now)))
    };
    page.each(&m::CHECK_STATE, health.checks.iter().flat_map(states))
}

/// Nothing if libvirt, and with it the pool, was away since the start.
fn encode_resources(sources: &Sources, page: &mut Page<'_>) -> fmt::Result {
    let Ok(node) = sources.node.run() else { return Ok(()) };
    let mut resource = |metric: &Metric, of: ResourceInfo| {
        let ResourceInfo { total, reserved, allocated, used, available, .. } = of;
        let kinds = [
            ("total", total),
            ("reserved", reserved),
            ("allocated", allocated),
            ("used", used),
            ("available", available),
        ];
        page.each(metric, kinds.map(|(kind, amount)| ([kind], amount)))
    };
    resource(&m::CPUS, node.resources.cpu)?;
    resource(&m::MEMORY, node.resources.ram)?;
    resource(&m::DISK, node.resources.disk)
}

fn encode_libvirt(sources: &Sources, page: &mut Page<'_>) -> fmt::Result {
    let Some(vitals) = (sources.libvirt)() else { return Ok(()) };
    page.one(&m::LIBVIRT_CONNECTED, flag(vitals.connected))?;
    let states = BreakerState::ALL.map(BreakerState::as_str);
    page.one_hot(&m::BREAKER_STATE, states, vitals.breaker.as_str())?;
    let workers = vitals.workers;
    let workers = [("idle", workers.idle), ("busy", workers.busy), ("hung", workers.hung)];
    page.each(&m::LIBVIRT_WORKERS, workers.map(|(state, count)| ([state], number(count))))?;
    let enforced = vitals.policies.iter().map(|(policy, now)| {
        let now = match now {
            Enforcement::Enforced => 1.0,
            Enforcement::Refused => 0.0,
        };
        ([policy.as_str()], now)
    });
    page.each(&m::POLICY_ENFORCED, enforced)
}

fn encode_images(sources: &Sources, page: &mut Page<'_>) -> fmt::Result {
    let downloads = &sources.downloads;
    let ended = [("ok", downloads.succeeded()), ("failed", downloads.failed())];
    page.each(&m::DOWNLOADS, ended.map(|(outcome, count)| ([outcome], number(count))))?;
    page.one(&m::DOWNLOAD_BYTES, number(downloads.received().0))?;
    page.one(&m::IMAGE_FETCHES, number(sources.fetching.borrow().len()))?;
    let cached = *sources.images.borrow();
    page.maybe(&m::IMAGE_CACHE, cached.map(|cached| number(cached.bytes)))?;
    page.maybe(&m::IMAGE_CACHE_IMAGES, cached.map(|cached| number(cached.images)))?;
    page.maybe(&m::IMAGE_CACHE_LIMIT, sources.cache_limit.map(|limit| number(limit.0)))
}

fn encode_control_plane(sources: &Sources, page: &mut Page<'_>) -> fmt::Result {
    page.one(&m::EVENT_QUEUE, number((sources.waiting_events)()))?;
    page.maybe(&m::CERTIFICATE_EXPIRY, (sources.certificate_end)().map(seconds))?;
    let Some(link) = &sources.link else { return Ok(()) };
    let link = link.borrow().clone();
    let registered = match link.link {
        Link::Registered { .. } => true,
        Link::Away(_) | Link::Refused(_) => false,
    };
    page.one(&m::REGISTERED, flag(registered))?;
    page.maybe(&m::HEARTBEAT_LAST, link.last_heard.map(seconds))
}

fn encode_logs(logs: &LogCounts, page: &mut Page<'_>) -> fmt::Result {
    let name = |level| match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    let lines = logs.lines.map(|(level, count)| ([name(level)], number(count)));
    page.each(&m::LOG_LINES, lines)?;
    page.one(&m::LOG_LINES_DROPPED, number(logs.dropped))
}

/// Since 1970.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}
