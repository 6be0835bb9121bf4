//! A service manager that listens on a socket of its own.

use std::path::Path;

use ghost_core::testing::FakeClock;
use tokio::net::UnixDatagram;
use tokio::sync::watch;

use super::*;
use crate::health::{Beginning, Check, State};

/// What it hears.
struct Ear {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Ear {
    fn listen() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { socket: UnixDatagram::bind(folder.path().join("notify")).unwrap(), folder }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("notify")
    }

    async fn hears(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// All that is there now.
    fn heard(&self) -> Vec<String> {
        let mut all = Vec::new();
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.try_recv(&mut bytes) {
            all.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        all
    }
}

fn health() -> Health {
    let (_, view) = Beginning::new(&FakeClock::default());
    let health = Health::clone(&view.borrow());
    let metrics = vec![("vms_running", 3.0)];
    Health { status: Status::Healthy, checks: Vec::new(), metrics, ..health }
}

fn broken(message: &str) -> Health {
    let since = health().since;
    let check = Check {
        name: "libvirt",
        status: State::Down,
        message: message.to_owned(),
        remedy: "start it".to_owned(),
        since,
        checked_at: since,
    };
    Health { status: Status::Unhealthy, checks: vec![check], ..health() }
}

#[tokio::test(start_paused = true)]
async fn ready_and_stopping_are_told() {
    let ear = Ear::listen();
    let manager = ServiceManager::at(ear.path(), None);
    manager.ready();
    assert_eq!(ear.hears().await, "READY=1");
    manager.stopping();
    assert_eq!(ear.hears().await, "STOPPING=1");
}

#[test]
fn nobody_who_listens_is_no_trouble() {
    ServiceManager::default().ready();
    ServiceManager::at(Path::new("/no/such/socket"), None).ready();
}

#[tokio::test(start_paused = true)]
async fn a_socket_without_a_path_is_told_too() {
    let name = format!("ghost-agent-test-{}", uuid::Uuid::new_v4());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let ear = std::os::unix::net::UnixDatagram::bind_addr(&address).unwrap();
    ServiceManager::at(format!("@{name}"), None).ready();
    let mut bytes = [0; 64];
    let length = ear.recv(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"READY=1");
}

#[tokio::test(start_paused = true)]
async fn each_change_of_the_health_is_told_once_in_one_line() {
    let ear = Ear::listen();
    let told = watch::Sender::new(Arc::new(health()));
    let following = ServiceManager::at(ear.path(), None).follow(told.subscribe());
    let steps = async {
        assert_eq!(ear.hears().await, "STATUS=healthy: 3 VMs run");
        told.send_replace(Arc::new(health()));
        told.send_replace(Arc::new(broken("it is\naway")));
        assert_eq!(ear.hears().await, "STATUS=unhealthy: libvirt: it is away");
        told.send_replace(Arc::new(broken(&"ä".repeat(1000))));
        assert!(ear.hears().await.len() <= "STATUS=".len() + LONGEST_STATUS);
        told.send_replace(Arc::new(Health { metrics: vec![("vms_running", 1.0)], ..health() }));
        assert_eq!(ear.hears().await, "STATUS=healthy: 1 VM runs");
    };
    tokio::select! { () = following => {}, () = steps => {} }
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_twice_a_period_until_a_task_is_stuck() {
    let ear = Ear::listen();
    let (clock, limit) = (Arc::new(FakeClock::default()), Duration::from_secs(30));
    let manager = ServiceManager::at(ear.path(), Some(limit));
    let (turns, stands) = (Pulse::default(), Pulse::default());
    let tasks = vec![("turns", turns.clone()), ("stands", stands.clone())];
    let feeding = manager.feed_watchdog(tasks, Arc::<FakeClock>::clone(&clock));
    let both = async {
        let turning = turns.clone().keep(Arc::<FakeClock>::clone(&clock));
        let standing = async {
            let lives = stands.clone().keep(Arc::<FakeClock>::clone(&clock));
            let _ = tokio::time::timeout(Duration::from_secs(100), lives).await;
            std::future::pending::<()>().await;
        };
        futures_util::future::join(turning, standing).await;
    };
    let steps = async {
        tokio::time::sleep(Duration::from_secs(91)).await;
        assert_eq!(ear.heard(), vec!["WATCHDOG=1"; 7], "at 0, 15 … 90 s");
        tokio::time::sleep(Duration::from_secs(40)).await;
        ear.heard();
        tokio::time::sleep(Duration::from_secs(600)).await;
        let last = ear.heard();
        assert!(last.is_empty(), "a task stands still: {last:?}");
    };
    tokio::select! { () = feeding => {}, _ = both => {}, () = steps => {} }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_frozen_for_a_while_is_fed_within_the_watchdogs_time() {
    let ear = Ear::listen();
    let (clock, limit) = (Arc::new(FakeClock::default()), Duration::from_secs(30));
    let (manager, pulse) = (ServiceManager::at(ear.path(), Some(limit)), Pulse::default());
    let feeding = manager.feed_watchdog(vec![("turns", pulse.clone())], clock);
    let steps = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(ear.heard(), ["WATCHDOG=1"]);
        // Frozen; then what feeds is polled before what it looks at.
        tokio::time::advance(Duration::from_secs(20)).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(ear.heard().is_empty());
        pulse.beat();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(ear.heard(), ["WATCHDOG=1"], "26 s after the first");
    };
    tokio::select! { () = feeding => {}, () = steps => {} }
}

#[tokio::test(start_paused = true)]
async fn without_a_watchdog_nothing_is_fed() {
    let ear = Ear::listen();
    let manager = ServiceManager::at(ear.path(), None);
    let feeding = manager.feed_watchdog(Vec::new(), Arc::new(FakeClock::default()));
    assert!(tokio::time::timeout(Duration::from_secs(600), feeding).await.is_err());
    assert_eq!(ear.heard(), Vec::<String>::new());
}
