//! The rounds. Invariant: agent and floor take turns at going first, so that neither profits from what
//! the other warmed up; a round ends only when the host is as it was before.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ghost_e2e::agent::{Agent, Home};
use ghost_e2e::client;
use ghost_e2e::host::Snapshot;

use super::agents::{self, Agents};
use super::pattern::Pattern;
use super::twin::Twin;
use super::{bare, peer};
use crate::tap::Tap;
use crate::virsh::Virsh;

/// Rounds of the peer, spread over the others.
const PEER_ROUNDS: u32 = 5;

/// Longest wait for the end of an agent that was interrupted: it finishes what it was doing.
const SUCCESSOR_LIMIT: Duration = Duration::from_secs(180);
/// Between two attempts to start its successor.
const SUCCESSOR_EVERY: Duration = Duration::from_millis(500);

/// What the rounds gave. The n-th of `agent` and of `bare` are a pair.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// The agent's.
    pub(crate) agent: Vec<agents::Timing>,
    /// The floor's.
    pub(crate) bare: Vec<bare::Timing>,
    /// The peer's; empty if it is not installed.
    pub(crate) peer: Vec<peer::Timing>,
}

/// Everything that the rounds need.
#[derive(Debug)]
pub(crate) struct Rounds<'a> {
    agents: Agents<'a>,
    tap: &'a Tap,
    virsh: Virsh,
    pattern: Pattern,
    folder: PathBuf,
    before: Snapshot,
    under_way: Option<Twin>,
    peer_is_here: bool,
}

impl<'a> Rounds<'a> {
    /// Makes a first VM with the agent: it fills the image cache and is the pattern of all others.
    pub(crate) async fn prepare(
        home: &Home,
        agent: &'a Agent,
        tap: &'a Tap,
    ) -> anyhow::Result<Self> {
        let before = Snapshot::take(&home.path().join("state")).await?;
        let client = client::operator(agent.address()?, &home.certs).await?;
        let mut agents = Agents::new(agent, client);
        println!("create: a first VM, not timed, fills the image cache");
        let pattern = match agents.create("bench-first").await {
            Ok(vm) => Pattern::of(&vm, home.path()).await,
            Err(error) => Err(error),
        };
        agents.delete_all().await?;
        let peer_is_here = peer::is_here().await;
        if !peer_is_here {
            println!("create: no virt-install here, so no peer; ./dev bench installs it");
        }
        let (virsh, folder) = (Virsh::start().await?, home.path().to_owned());
        Ok(Self {
            agents,
            tap,
            virsh,
            pattern: pattern?,
            folder,
            before,
            under_way: None,
            peer_is_here,
        })
    }

    /// Runs them all.
    pub(crate) async fn run(&mut self, rounds: u32) -> anyhow::Result<Measured> {
        let mut measured = Measured::default();
        for round in 0..rounds {
            if round % 2 == 0 {
                measured.agent.push(self.agents_turn(round).await?);
                measured.bare.push(self.bare_turn(round).await?);
            } else {
                measured.bare.push(self.bare_turn(round).await?);
                measured.agent.push(self.agents_turn(round).await?);
            }
            if self.peer_is_here && is_for_the_peer(round, rounds) {
                measured.peer.push(self.peers_turn(round).await?);
            }
        }
        Ok(measured)
    }

    async fn agents_turn(&mut self, round: u32) -> anyhow::Result<agents::Timing> {
        let (id, timing) = self
            .agents
            .timed_create(&format!("bench-{round}"), self.tap)
            .await
            .context("the agent")?;
        println!(
            "create {round}: agent {:.3} s, started after {:.3} s",
            timing.total.as_secs_f64(),
            timing.started.as_secs_f64()
        );
        self.agents.delete(&id).await?;
        self.ensure_gone(&id).await?;
        Ok(timing)
    }

    async fn bare_turn(&mut self, round: u32) -> anyhow::Result<bare::Timing> {
        let twin = self.new_twin();
        let timing = bare::create(&mut self.virsh, &self.pattern, &twin)
            .await
            .context("bare libvirt calls")?;
        println!(
            "create {round}: bare libvirt calls {:.3} s, started after {:.3} s",
            timing.total.as_secs_f64(),
            timing.started.as_secs_f64()
        );
        self.remove_twin().await?;
        Ok(timing)
    }

    async fn peers_turn(&mut self, round: u32) -> anyhow::Result<peer::Timing> {
        let twin = self.new_twin();
        let timing =
            peer::create(&mut self.virsh, &self.pattern, &twin).await.context("virt-install")?;
        println!("create {round}: virt-install {:.3} s", timing.total.as_secs_f64());
        self.remove_twin().await?;
        Ok(timing)
    }

    fn new_twin(&mut self) -> Twin {
        let twin = Twin::new(&self.folder);
        self.under_way = Some(twin.clone());
        twin
    }

    async fn remove_twin(&mut self) -> anyhow::Result<()> {
        let Some(twin) = self.under_way.take() else { return Ok(()) };
        twin.remove().await;
        self.ensure_gone(&twin.id.to_string()).await
    }

    /// Others may use this host meanwhile: only what has the VM's id in its name is looked for.
    async fn ensure_gone(&self, id: &str) -> anyhow::Result<()> {
        let now = Snapshot::take(&self.folder.join("state")).await?;
        let left: Vec<_> =
            now.since(&self.before).into_iter().filter(|name| name.contains(id)).collect();
        ensure!(left.is_empty(), "left over: {left:?}");
        Ok(())
    }

    /// Removes what a round that failed or was interrupted left.
    pub(crate) async fn clean(&mut self, home: &Home) -> anyhow::Result<()> {
        let twin = self.remove_twin().await;
        if self.agents.delete_all().await.is_err() {
            // Ctrl-C reaches the agent too, and a VM that is still being made can't be deleted.
            let agent = successor(home).await.context("cannot remove what the bench made")?;
            let client = client::operator(agent.address()?, &home.certs).await?;
            Agents::new(&agent, client).delete_all().await?;
            agent.stop().await?;
        }
        twin
    }
}

/// The next agent of that home, once the former has ended.
async fn successor(home: &Home) -> anyhow::Result<Agent> {
    let deadline = Instant::now() + SUCCESSOR_LIMIT;
    loop {
        match home.start().await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(SUCCESSOR_EVERY).await,
            started => return started,
        }
    }
}

/// Spreads the peer's rounds evenly.
fn is_for_the_peer(round: u32, rounds: u32) -> bool {
    let upto = |round: u32| (round * PEER_ROUNDS.min(rounds)).div_ceil(rounds);
    upto(round + 1) > upto(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_gets_five_rounds_spread_over_all_of_them() {
        let of = |rounds| (0..rounds).filter(|r| is_for_the_peer(*r, rounds)).collect::<Vec<_>>();
        assert_eq!(of(20), [0, 4, 8, 12, 16]);
        assert_eq!(of(5), [0, 1, 2, 3, 4]);
        assert_eq!(of(7).len(), 5);
    }

    #[test]
    fn the_peer_gets_no_more_rounds_than_there_are() {
        assert!((0..3).all(|round| is_for_the_peer(round, 3)));
    }
}
