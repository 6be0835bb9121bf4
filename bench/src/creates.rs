//! Create → address: the agent, the floor and the peer, in turns. Invariant: all three get the same
//! disk, seed and kind of domain, and what one round made is gone before the next begins.

mod agents;
mod bare;
mod pattern;
mod peer;
mod rounds;
mod twin;

use std::time::Duration;

use ghost_core::application::Limits;
use ghost_e2e::agent::{Agent, Home};
use tokio::signal::unix::{SignalKind, signal};

use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;
use crate::tap::Tap;
pub(crate) use agents::Agents;
use rounds::{Measured, Rounds};

/// Rounds, and the rows that follow from them.
///
/// # Errors
/// If a VM can't be made or is not gone afterwards.
pub(crate) async fn measure(
    home: &Home,
    agent: &Agent,
    tap: &Tap,
    rounds: u32,
) -> anyhow::Result<Vec<Row>> {
    let mut all = Rounds::prepare(home, agent, tap).await?;
    let measured = tokio::select! {
        measured = all.run(rounds) => measured,
        by = interrupted() => Err(by.map_or_else(Into::into, |by| anyhow::anyhow!("stopped by {by}"))),
    };
    let cleaned = all.clean(home).await;
    let measured = measured?;
    cleaned?;
    rows(&measured)
}

/// Waits until somebody wants the bench to end; says by which signal.
pub(crate) async fn interrupted() -> std::io::Result<&'static str> {
    let (mut terminate, mut hang_up) =
        (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.map(|()| "Ctrl-C"),
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = hang_up.recv() => Ok("SIGHUP"),
    }
}

fn rows(measured: &Measured) -> anyhow::Result<Vec<Row>> {
    let Measured { agent, bare, peer } = measured;
    let total = seconds(agent, |a| a.total)?;
    let row =
        || Row::new("create → address, cached image", Unit::Seconds, total.clone()).required(40.0);
    let floor = seconds(bare, |b| b.total)?;
    let mut rows =
        vec![row().budget(Budget::RatioAtMost(1.05)).beside("bare libvirt calls", floor)];
    if !peer.is_empty() {
        let peer = seconds(peer, |p| p.total)?;
        rows.push(row().budget(Budget::RatioBelow(1.0)).beside("virt-install --import", peer));
    }
    rows.extend(added(agent, bare)?);
    Ok(rows)
}

/// The agent-added part and what it consists of. The domain's start varies by more than the agent takes,
/// so the floor's rounds are not subtracted: the agent's own calls are that the floor makes too.
fn added(agent: &[agents::Timing], bare: &[bare::Timing]) -> anyhow::Result<Vec<Row>> {
    let poll = Limits::default().lease_poll / 2;
    let before: Vec<Duration> =
        agent.iter().map(agents::Timing::outside_floor_calls).collect::<anyhow::Result<_>>()?;
    let all: Vec<Duration> =
        before.iter().zip(agent).map(|(before, a)| *before + poll + a.finish).collect();
    let millis = |what, samples| Row::new(what, Unit::Millis, samples);
    let bare_started = thousandths(bare, |b| b.started)?;
    Ok(vec![
        millis("agent-added part of create", thousandths(&all, |a| *a)?)
            .budget(Budget::MedianAtMost(50.0)),
        millis("  outside the floor's calls", thousandths(&before, |b| *b)?),
        millis("  half of the lease's poll interval", thousandths(&[poll], |poll| *poll)?),
        millis("  lease seen → answer", thousandths(agent, |a| a.finish)?),
        millis("request → domain started", thousandths(agent, |a| a.started)?)
            .beside("bare libvirt calls", bare_started.clone()),
        millis("  while in the floor's calls", thousandths(agent, |a| a.in_floor_calls)?)
            .beside("bare libvirt calls", bare_started),
    ])
}

fn seconds<T>(all: &[T], of: impl Fn(&T) -> Duration) -> anyhow::Result<Samples> {
    Samples::new(all.iter().map(|one| of(one).as_secs_f64()))
}

fn thousandths<T>(all: &[T], of: impl Fn(&T) -> Duration) -> anyhow::Result<Samples> {
    Samples::new(all.iter().map(|one| of(one).as_secs_f64() * 1e3))
}
