//! The owner's resources under random interleavings of creates, deletes and stops, with calls that fail,
//! agents that die, and a reservation that each next agent finds raised or lowered.
//!
//! The auditor adds up what the host has, each time that something is written to the ledger; it never asks
//! the registry, whose sums are what is being tested. Each round follows from its seed, which a failure names;
//! `GHOST_SEED` runs that one alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Either, join_all, select};
use ghost_core::application::{Limits, StopMode};
use ghost_core::domain::{
    Allocation, AppError, Bytes, ErrorKind, Gib, Overcommit, ReservationRule, Reserve, VmId,
    VmRecord, VmRef, VmRequest, VmSpec,
};
use ghost_core::ports::{Clock as _, PortResult, Ports, VmLedger};
use ghost_core::testing::{FaultMoment, World, samples};

use crate::rig::Rig;

const ROUNDS: u64 = 150;
/// Agents that follow one another on the host of a round, each with another reservation.
const AGENTS: usize = 3;
/// Operations that each of them is asked for, at once.
const OPERATIONS: usize = 32;
/// The host: its RAM and pool are [`World`]'s.
const CPUS: u32 = 12;
const RAM_GIB: u32 = 256;
const DISK_GIB: u32 = 10_240;
/// What was in doubt is settled, and what failed done again.
const SETTLED: Duration = Duration::from_secs(130);

/// What an agent may give to VMs, and the configuration that says so.
#[derive(Debug, Clone, Copy)]
struct Lent {
    room: Allocation,
    limits: Limits,
}

impl Lent {
    fn at_random(random: &mut fastrand::Rng) -> Self {
        let (cpus, twice) = (random.u32(0..=CPUS), random.bool());
        let (ram, disk) = (random.u32(2..24), random.u32(20..200));
        let reserved = ReservationRule {
            cpus: Reserve::Exactly(CPUS - cpus),
            ram: Reserve::Exactly(RAM_GIB - ram),
            disk: Reserve::Exactly(DISK_GIB - disk),
        };
        let overcommit = Overcommit { cpu: if twice { 2.0 } else { 1.0 }, disk: 1.0 };
        let vcpus = if twice { 2 * cpus } else { cpus };
        let room = Allocation { vcpus, ram: gib(ram), disk: gib(disk) };
        Self { room, limits: Limits { reserved, overcommit, ..Limits::default() } }
    }

    /// How many of the smallest VMs have room beside what is held.
    fn smallest_beside(&self, held: Allocation) -> u64 {
        let left = |room: Bytes, held: Bytes, each: u32| {
            room.0.saturating_sub(held.0) / (u64::from(each) * Gib::BYTES)
        };
        let vcpus = u64::from(self.room.vcpus.saturating_sub(held.vcpus));
        vcpus.min(left(self.room.ram, held.ram, 1)).min(left(self.room.disk, held.disk, 10))
    }
}

fn gib(n: u32) -> Bytes {
    Bytes(u64::from(n) * Gib::BYTES)
}

fn exceeds(held: Allocation, room: Allocation) -> bool {
    held.vcpus > room.vcpus || held.ram > room.ram || held.disk > room.disk
}

/// The ledger of the host, watched by somebody who adds up what is there.
#[derive(Debug)]
struct Auditor {
    world: Arc<World>,
    lent: Lent,
    /// VMs that were there before this agent: they may be more than it may admit.
    before: BTreeSet<String>,
    /// Of every VM that was ever recorded.
    shapes: Arc<Mutex<BTreeMap<String, Allocation>>>,
    broken: Mutex<Vec<String>>,
}

impl Auditor {
    /// All ids that something on the host bears.
    fn ids(world: &World) -> BTreeSet<String> {
        world.left().iter().map(|left| left.rsplit(' ').next().unwrap().to_owned()).collect()
    }

    fn held(&self) -> Allocation {
        let shapes = self.shapes.lock().unwrap();
        Self::ids(&self.world).iter().fold(Allocation::default(), |sum, id| sum + shapes[id])
    }

    /// If this agent admitted any of what is there, then all of it must have room.
    fn look(&self) {
        let held = self.held();
        let admitted = Self::ids(&self.world).difference(&self.before).count();
        if admitted > 0 && exceeds(held, self.lent.room) {
            let room = self.lent.room;
            self.broken.lock().unwrap().push(format!("{held:?} are held, of {room:?}"));
        }
    }
}

#[async_trait]
impl VmLedger for Auditor {
    async fn load(&self) -> PortResult<Vec<VmRecord>> {
        self.world.load().await
    }

    async fn save(&self, record: &VmRecord) -> PortResult<()> {
        self.shapes.lock().unwrap().insert(record.id.to_string(), record.shape.allocation());
        let saved = self.world.save(record).await;
        self.look();
        saved
    }

    async fn ensure_removed(&self, id: VmId) -> PortResult<()> {
        let removed = self.world.ensure_removed(id).await;
        self.look();
        removed
    }
}

fn spec(name: &str, vcpu: i32, ram_gb: i32, disk_gb: i32) -> VmSpec {
    let request = VmRequest { vcpu, ram_gb, disk_gb, ..samples::request(name) };
    VmSpec::parse(request, &samples::catalog()).unwrap()
}

/// What became of all the creates.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    made: usize,
    refused: usize,
    failed: usize,
    deaths: usize,
}

impl Tally {
    fn note<T>(&mut self, created: &Result<T, AppError>) {
        match created {
            Ok(_) => self.made += 1,
            Err(error) if error.kind() == ErrorKind::ResourceLimit => self.refused += 1,
            Err(_) => self.failed += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.made += other.made;
        self.refused += other.refused;
        self.failed += other.failed;
        self.deaths += other.deaths;
    }
}

/// One operation at a random moment: a new VM, or the end or a stop of one that is there.
async fn operate(rig: &Rig, agent: usize, mut random: fastrand::Rng) -> Tally {
    let mut tally = Tally::default();
    rig.world.clock.sleep(Duration::from_millis(random.u64(0..1000))).await;
    let kind = random.u8(0..8);
    if kind < 5 {
        let name = format!("vm-{agent}-{}", random.u32(0..40));
        let (vcpu, ram, disk) = (random.i32(1..4), random.i32(1..6), random.i32(10..40));
        tally.note(&rig.create.run(spec(&name, vcpu, ram, disk), &samples::origin("r")).await);
    } else if let Some(vm) = random.choice(&rig.registry.views()) {
        let vm = VmRef::Id(vm.record.id);
        if kind < 7 {
            drop(rig.delete.run(&vm, &samples::origin("r")).await);
        } else {
            drop(rig.stop.run(&vm, StopMode::Force, &samples::origin("r")).await);
        }
    }
    tally
}

/// Lets one call after the other fail, for ever.
async fn stumble(world: &World, mut random: fastrand::Rng) {
    loop {
        world.clock.sleep(Duration::from_millis(random.u64(20..300))).await;
        let moment = if random.bool() { FaultMoment::Before } else { FaultMoment::After };
        world.faults.fail_at(random.usize(0..6), moment);
    }
}

/// Nothing of what failed or was deleted is still counted: so many VMs as have room can be made, and not one more.
async fn assert_all_was_given_back(rig: &Rig, auditor: &Auditor, seed: u64) {
    rig.world.clock.sleep(SETTLED).await;
    let room = auditor.lent.smallest_beside(auditor.held());
    let names: Vec<String> = (0..room + 3).map(|n| format!("fill-{n}")).collect();
    let origin = samples::origin("r");
    let made =
        join_all(names.iter().map(|name| rig.create.run(spec(name, 1, 1, 10), &origin))).await;
    let mut tally = Tally::default();
    made.iter().for_each(|made| tally.note(made));
    assert_eq!(
        (tally.made as u64, tally.refused),
        (room, 3),
        "VMs made and refused; seed {seed}: of {:?}",
        auditor.lent.room
    );
    for vm in made.into_iter().flatten() {
        rig.delete.run(&VmRef::Id(vm.id), &samples::origin("r")).await.unwrap();
    }
}

/// One agent's life on the host.
async fn live(auditor: Arc<Auditor>, agent: usize, seed: u64, random: &mut fastrand::Rng) -> Tally {
    let world = Arc::clone(&auditor.world);
    let ports = Ports { ledger: auditor.clone(), ..world.ports() };
    let rig = Rig::over(Arc::clone(&world), ports, auditor.lent.limits);
    rig.reconcile.adopt().await.unwrap();
    let watch = rig.watch();
    let dies = random.u8(0..3) == 0;
    if dies {
        world.faults.dead_from(random.usize(20..250));
    }
    let all: Vec<_> = (0..OPERATIONS).map(|_| random.fork()).collect();
    let stumbling = Box::pin(stumble(&world, random.fork()));
    let operations = join_all(all.into_iter().map(|random| operate(&rig, agent, random)));
    let Either::Left((done, _)) = select(Box::pin(operations), stumbling).await else {
        unreachable!("who stumbles does so for ever")
    };
    let mut tally = Tally { deaths: usize::from(dies), ..Tally::default() };
    done.into_iter().for_each(|one| tally.add(one));
    if dies {
        watch.abort();
    }
    world.faults.heal();
    if !dies {
        assert_all_was_given_back(&rig, &auditor, seed).await;
        watch.abort();
    }
    assert_eq!(auditor.broken.lock().unwrap().first(), None, "seed {seed}");
    tally
}

async fn round(seed: u64) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let world = World::new();
    world.has_cpus(CPUS);
    world.faults.interleave(seed);
    let (shapes, mut tally) = (Arc::default(), Tally::default());
    for agent in 0..AGENTS {
        let auditor = Auditor {
            lent: Lent::at_random(&mut random),
            before: Auditor::ids(&world),
            shapes: Arc::clone(&shapes),
            broken: Mutex::default(),
            world: Arc::clone(&world),
        };
        tally.add(live(Arc::new(auditor), agent, seed, &mut random).await);
    }
    tally
}

/// Fault: creates, deletes and stops at once, calls that fail, agents that die, and a reservation that is raised or lowered
/// for the next one; 150 rounds. Promise: 1, 4. Result: what VMs hold never exceeds what the owner lends, and all of what
/// failed or was deleted can be lent again.
#[tokio::test(start_paused = true)]
async fn whatever_happens_at_once_no_more_is_lent_than_the_owner_lends() {
    let mut all = Tally::default();
    match std::env::var("GHOST_SEED").map(|seed| seed.parse()) {
        Ok(seed) => all.add(round(seed.unwrap()).await),
        Err(_) => {
            for seed in 0..ROUNDS {
                all.add(round(seed).await);
            }
            let Tally { made, refused, failed, deaths } = all;
            assert!(made > 800 && refused > 3000 && failed > 1500 && deaths > 80, "{all:?}");
        }
    }
    println!("{all:?}");
}
