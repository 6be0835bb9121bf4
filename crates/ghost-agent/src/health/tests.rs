//! The task: what it tells, when, and that it waits for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ghost_core::application::{Link, LinkState, Registry};
use ghost_core::domain::control::ControlError;
use ghost_core::domain::{AppError, Bytes, ErrorKind};
use ghost_core::testing::{MemoryQueue, World};
use ghost_libvirt::{Acceleration, ConnectionState};
use tokio_util::sync::CancellationToken;

use super::*;

/// How libvirt and the disk behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
    Well,
    Fails,
    Hangs,
}

/// A task, and what it looks at.
struct Stage {
    world: Arc<World>,
    view: HealthView,
    connection: watch::Sender<ConnectionState>,
    link: watch::Sender<LinkState>,
    libvirt: watch::Sender<Conduct>,
    disk: watch::Sender<Conduct>,
    lost: Arc<AtomicU64>,
    closing: CancellationToken,
}

const AWAY: LinkState = LinkState { link: Link::Away(None), last_heard: None };
const REGISTERED: LinkState =
    LinkState { link: Link::Registered { count: 1, kept: 0 }, last_heard: None };

fn no_network() -> AppError {
    let error = AppError::new(ErrorKind::NetworkUnavailable, "libvirt has no network 'default'");
    error.remedy("define it").with(ghost_libvirt::PART, "network")
}

impl Stage {
    fn set() -> (Self, HealthTask) {
        let (world, closing) = (World::new(), CancellationToken::new());
        let (beginning, view) = Beginning::new(&*world.clock);
        let stage = Self {
            view,
            connection: watch::Sender::new(ConnectionState::Connected),
            link: watch::Sender::new(REGISTERED),
            libvirt: watch::Sender::new(Conduct::Well),
            disk: watch::Sender::new(Conduct::Well),
            lost: Arc::default(),
            closing,
            world,
        };
        let task = HealthTask::new(stage.sources(), beginning);
        (stage, task)
    }

    fn sources(&self) -> Sources {
        let (libvirt, disk) = (self.libvirt.subscribe(), self.disk.subscribe());
        let lost = Arc::clone(&self.lost);
        let ports = self.world.ports();
        Sources {
            clock: ports.clock,
            registry: Arc::<Registry>::default(),
            connection: self.connection.subscribe(),
            libvirt: Arc::new(move || {
                let mut libvirt = libvirt.clone();
                Box::pin(async move {
                    let conduct =
                        libvirt.wait_for(|now| *now != Conduct::Hangs).await.map(|now| *now);
                    let fails = conduct.is_ok_and(|conduct| conduct == Conduct::Fails);
                    if fails { vec![no_network()] } else { Vec::new() }
                })
            }),
            images: ports.images,
            events: Arc::new(MemoryQueue::default()),
            link: Some(self.link.subscribe()),
            vpn: None,
            credentials: None,
            acceleration: Acceleration::Kvm,
            state_folder: Arc::new(move || {
                let mut disk = disk.clone();
                Box::pin(async move {
                    let conduct = disk.wait_for(|now| *now != Conduct::Hangs).await.map(|now| *now);
                    let fails = conduct.is_ok_and(|conduct| conduct == Conduct::Fails);
                    let refuses = fails.then(|| "No space left on device".to_owned());
                    StateFolder { free: Bytes(1 << 40), refuses }
                })
            }),
            lost_lines: Arc::new(move || lost.load(Ordering::Relaxed)),
            closing: self.closing.clone(),
        }
    }

    /// Waits for that status, and gives the snapshot.
    async fn until(&self, status: Status) -> Arc<Health> {
        let mut view = self.view.clone();
        Arc::clone(&*view.wait_for(|health| health.status == status).await.unwrap())
    }

    async fn pass(&self, seconds: u64) -> Arc<Health> {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Arc::clone(&self.view.borrow())
    }
}

fn check<'a>(health: &'a Health, name: &str) -> &'a Check {
    health.checks.iter().find(|check| check.name == name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn before_there_is_a_task_the_agent_is_starting() {
    let (_, view) = Beginning::new(&*World::new().clock);
    let health = view.borrow();
    assert_eq!((health.status, health.ready), (Status::Unhealthy, false));
    assert_eq!(health.not_ready_because, "the agent is starting");
}

#[tokio::test(start_paused = true)]
async fn the_task_tells_at_once_what_is_known() {
    let (stage, _task) = Stage::set();
    let health = stage.view.borrow();
    assert!(health.ready, "{health:?}");
    assert_eq!(health.status, Status::Healthy, "nothing is said before it was looked at");
    assert_eq!(health.metric("vms_total"), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_connection_is_told_at_once_and_since_when() {
    let (stage, task) = Stage::set();
    let steps = async {
        let well = stage.until(Status::Healthy).await;
        stage.pass(42).await;
        stage.connection.send_replace(ConnectionState::Disconnected("it died".to_owned()));
        let began = tokio::time::Instant::now();
        let out = stage.until(Status::Unhealthy).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(!out.ready && out.not_ready_because.contains("it died"), "{out:?}");
        assert_eq!(out.worst().map(|check| check.name), Some("libvirt"));
        assert_eq!(out.since, out.timestamp);
        assert!(out.since.duration_since(well.since).as_secs() >= 42);
        let later = stage.pass(60).await;
        assert_eq!(later.since, out.since);
        stage.connection.send_replace(ConnectionState::Connected);
        assert!(stage.until(Status::Healthy).await.ready);
    };
    tokio::select! { biased; () = task.run() => {}, () = steps => {} }
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_is_away_degrades_an_agent_that_stays_ready() {
    let (stage, task) = Stage::set();
    let steps = async {
        stage.until(Status::Healthy).await;
        let link = Link::Away(Some(ControlError::transient("nobody answers")));
        stage.link.send_replace(LinkState { link, ..AWAY });
        let health = stage.until(Status::Degraded).await;
        assert!(health.ready);
        assert_eq!(check(&health, "api").message, "nobody answers");
    };
    tokio::select! { biased; () = task.run() => {}, () = steps => {} }
}

#[tokio::test(start_paused = true)]
async fn a_libvirt_that_hangs_makes_its_own_check_old_and_no_other() {
    let (stage, task) = Stage::set();
    let steps = async {
        // The first looks are over.
        stage.pass(1).await;
        stage.until(Status::Healthy).await;
        stage.libvirt.send_replace(Conduct::Hangs);
        stage.disk.send_replace(Conduct::Fails);
        let health = stage.pass(60).await;
        let libvirt = check(&health, "libvirt");
        assert_eq!(libvirt.status, State::Degraded, "{libvirt:?}");
        assert!(libvirt.message.contains("libvirt has not answered for 5"), "{libvirt:?}");
        let network = check(&health, "network");
        assert!(health.timestamp.duration_since(network.checked_at).as_secs() > 50, "{network:?}");
        let ledger = check(&health, "ledger");
        assert_eq!(ledger.status, State::Down, "the disk is looked at all the same");
        assert!(health.timestamp.duration_since(ledger.checked_at).as_secs() <= 5, "{ledger:?}");
        stage.disk.send_replace(Conduct::Well);
        stage.libvirt.send_replace(Conduct::Fails);
        stage.pass(10).await;
        let health = stage.until(Status::Unhealthy).await;
        assert_eq!(check(&health, "network").remedy, "define it");
    };
    tokio::select! { biased; () = task.run() => {}, () = steps => {} }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_told_while_everything_else_goes_on() {
    let (stage, task) = Stage::set();
    let pulse = task.pulse();
    let steps = async {
        // The first looks are over.
        stage.pass(1).await;
        stage.until(Status::Healthy).await;
        stage.disk.send_replace(Conduct::Hangs);
        let before = pulse.count();
        let health = stage.pass(60).await;
        assert!(check(&health, "ledger").message.contains("not answered for 5"), "{health:?}");
        assert_eq!(health.status, Status::Unhealthy);
        assert!(pulse.count() >= before + 10);
        let network = check(&health, "network");
        assert!(health.timestamp.duration_since(network.checked_at).as_secs() <= 5);
    };
    tokio::select! { biased; () = task.run() => {}, () = steps => {} }
}

#[tokio::test(start_paused = true)]
async fn what_hangs_from_the_start_was_not_looked_at_since() {
    let (stage, task) = Stage::set();
    stage.disk.send_replace(Conduct::Hangs);
    stage.libvirt.send_replace(Conduct::Hangs);
    let steps = async {
        let health = stage.pass(60).await;
        for name in ["ledger", "network"] {
            let checked_at = check(&health, name).checked_at;
            assert_eq!(checked_at, health.started_at, "{name} at {}", health.timestamp);
        }
    };
    tokio::select! { biased; () = task.run() => {}, () = steps => {} }
}

#[tokio::test(start_paused = true)]
async fn whoever_closes_is_not_ready_at_once() {
    let (stage, task) = Stage::set();
    let steps = async {
        stage.until(Status::Healthy).await;
        stage.closing.cancel();
        let mut view = stage.view.clone();
        let began = tokio::time::Instant::now();
        let health = view.wait_for(|health| !health.ready).await.unwrap();
        assert_eq!(health.not_ready_because, "the agent is stopping");
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(health);
        let before = task_turns(&stage).await;
        assert!(before < 5, "it does not spin once it closes: {before}");
    };
    tokio::select! { biased; () = task.run() => {}, () = steps => {} }
}

/// How often the snapshot is made anew within ten seconds.
async fn task_turns(stage: &Stage) -> usize {
    let (mut view, mut turns) = (stage.view.clone(), 0);
    let counting = async {
        while view.changed().await.is_ok() {
            turns += 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), counting).await;
    turns
}

#[tokio::test(start_paused = true)]
async fn lost_lines_degrade_for_ten_minutes() {
    let (stage, task) = Stage::set();
    let steps = async {
        stage.until(Status::Healthy).await;
        stage.lost.store(7, Ordering::Relaxed);
        let health = stage.until(Status::Degraded).await;
        assert!(check(&health, "log").message.starts_with("7 lines"), "{health:?}");
        assert_eq!(stage.pass(500).await.status, Status::Degraded);
        assert_eq!(stage.pass(120).await.status, Status::Healthy);
    };
    tokio::select! { biased; () = task.run() => {}, () = steps => {} }
}
