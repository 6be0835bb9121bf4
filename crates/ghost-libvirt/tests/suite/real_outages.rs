//! libvirt away, gone, hung and back. The agent speaks to the real libvirtd through a relay that
//! the test cuts; libvirtd itself is not disturbed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ghost_core::domain::{AppError, ErrorKind};
use ghost_core::ports::HypervisorEvent::{Connected, Undefined};
use ghost_libvirt::{ConnectionState, Libvirt, LibvirtConfig};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::world::{self, Base, PATIENCE, Vm};

/// What the relay does with what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relaying {
    Passes,
    Holds,
}

/// A relay from a socket of its own to libvirtd's.
struct Relay {
    folder: tempfile::TempDir,
    mode: watch::Sender<Relaying>,
    task: JoinSet<()>,
}

impl Relay {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            mode: watch::channel(Relaying::Passes).0,
            task: JoinSet::new(),
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("libvirt-sock")
    }

    fn config(&self) -> LibvirtConfig {
        world::config(&format!("qemu+unix:///system?socket={}", self.socket().display()))
    }

    fn open(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let mode = self.mode.subscribe();
        self.task.spawn(async move {
            let mut pairs = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                pairs.spawn(relay(client, mode.clone()));
            }
        });
    }

    /// Cuts all connections and refuses new ones.
    async fn close(&mut self) {
        self.task.shutdown().await;
        std::fs::remove_file(self.socket()).unwrap();
    }
}

async fn relay(client: UnixStream, mode: watch::Receiver<Relaying>) {
    let server = UnixStream::connect(Path::new("/var/run/libvirt/libvirt-sock")).await.unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(pass(from_client, to_server, mode.clone()), pass(from_server, to_client, mode));
}

async fn pass(
    mut from: tokio::net::unix::OwnedReadHalf,
    mut to: tokio::net::unix::OwnedWriteHalf,
    mut mode: watch::Receiver<Relaying>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if mode.wait_for(|mode| *mode == Relaying::Passes).await.is_err()
            || to.write_all(&buffer[..n]).await.is_err()
        {
            return;
        }
    }
}

async fn works(libvirt: &Libvirt) -> bool {
    libvirt.hypervisor().observe().await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_qemu_a_cut_connection_is_told_and_comes_back_with_its_events() {
    let (mut relay, base, vm) = (Relay::new(), Base::new(), Vm::new());
    relay.open();
    let libvirt = world::connect(relay.config()).await;
    world::defined(&libvirt, &base, &vm).await;
    let mut events = libvirt.events().subscribe();
    relay.close().await;
    world::disconnected(&mut events).await;
    assert!(!libvirt.connected());
    let error = libvirt.hypervisor().observe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HypervisorUnavailable);
    relay.open();
    world::event(&mut events, &Connected).await;
    assert!(works(&libvirt).await);
    libvirt.hypervisor().ensure_undefined(vm.0).await.unwrap();
    world::event(&mut events, &Undefined(vm.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_qemu_a_libvirtd_that_does_not_answer_any_more_is_found_out_within_seconds() {
    let mut relay = Relay::new();
    relay.open();
    let libvirt = world::connect(relay.config()).await;
    let mut events = libvirt.events().subscribe();
    assert!(works(&libvirt).await);
    relay.mode.send_replace(Relaying::Holds);
    let begun = Instant::now();
    let error = libvirt.hypervisor().observe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HypervisorUnavailable);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(world::disconnected(&mut events).await, "libvirtd does not answer");
    relay.mode.send_replace(Relaying::Passes);
    world::event(&mut events, &Connected).await;
    assert!(works(&libvirt).await);
}

/// Asks for a change; gives the refusal, which has to come at once.
async fn refused_at_once(libvirt: &Libvirt, vm: &Vm) -> AppError {
    let begun = Instant::now();
    let error = libvirt.hypervisor().ask_to_power_off(vm.0).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}: {error}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::HypervisorUnavailable);
    assert!(error.context().iter().any(|(key, _)| *key == "retry_after_ms"), "{error:?}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn real_qemu_while_libvirt_is_known_to_be_away_changes_are_refused_at_once() {
    let (mut relay, vm) = (Relay::new(), Vm::new());
    relay.open();
    let libvirt = Arc::new(world::connect(relay.config()).await);
    let mut events = libvirt.events().subscribe();
    relay.mode.send_replace(Relaying::Holds);
    world::disconnected(&mut events).await;
    let error = refused_at_once(&libvirt, &vm).await;
    assert!(error.to_string().contains("libvirt is away: libvirtd does not answer"), "{error}");
    // One of these is a probe, which hangs until libvirt is back; no change ever is.
    let mut looks = JoinSet::new();
    let looking = Arc::clone(&libvirt);
    looks.spawn(async move {
        while !works(&looking).await {
            tokio::task::yield_now().await;
        }
    });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        refused_at_once(&libvirt, &vm).await;
        tokio::task::yield_now().await;
    }
    assert!(looks.try_join_next().is_none(), "a look got an answer");
    relay.mode.send_replace(Relaying::Passes);
    world::event(&mut events, &Connected).await;
    libvirt.hypervisor().ensure_off(vm.0).await.unwrap();
    looks.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_qemu_what_was_given_up_is_not_overtaken_and_may_be_repeated_when_it_has_ended() {
    let (mut relay, vm) = (Relay::new(), Vm::new());
    relay.open();
    let slow_call_timeout = Duration::from_millis(200);
    let libvirt = world::connect(LibvirtConfig { slow_call_timeout, ..relay.config() }).await;
    let mut events = libvirt.events().subscribe();
    assert!(works(&libvirt).await);
    relay.mode.send_replace(Relaying::Holds);
    let error = libvirt.hypervisor().ensure_undefined(vm.0).await.unwrap_err();
    assert!(error.to_string().contains("libvirt did not cut the domain's power"), "{error}");
    let error = refused_at_once(&libvirt, &vm).await;
    assert!(error.to_string().contains("an earlier call for this VM (cut the domain's power)"));
    // Keepalive ends the call.
    world::disconnected(&mut events).await;
    relay.mode.send_replace(Relaying::Passes);
    world::event(&mut events, &Connected).await;
    let cure = async { while libvirt.hypervisor().ensure_undefined(vm.0).await.is_err() {} };
    tokio::time::timeout(PATIENCE, cure).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn real_qemu_reconnecting_leaves_no_descriptors_behind() {
    let mut relay = Relay::new();
    relay.open();
    let libvirt = world::connect(relay.config()).await;
    let mut events = libvirt.events().subscribe();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut counts = Vec::new();
    for _ in 0..8 {
        assert!(works(&libvirt).await);
        relay.close().await;
        world::disconnected(&mut events).await;
        relay.open();
        world::event(&mut events, &Connected).await;
        assert!(works(&libvirt).await);
        counts.push(descriptors());
    }
    // One connection more may be idle from the second round on; each round's leak would add up to more.
    assert!(counts[7] <= counts[1] + 4, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_qemu_without_libvirt_calls_fail_at_once_with_a_remedy_until_it_comes() {
    let mut relay = Relay::new();
    let libvirt = Libvirt::connect(relay.config()).unwrap();
    let begun = Instant::now();
    for _ in 0..10 {
        let error = libvirt.hypervisor().observe().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HypervisorUnavailable);
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let findings = libvirt.check().await;
    assert_eq!(findings.len(), 1);
    relay.open();
    world::reach(&libvirt, &ConnectionState::Connected).await;
    assert!(works(&libvirt).await, "the breaker stayed open");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_qemu_a_missing_socket_names_the_service_to_start() {
    let libvirt = Libvirt::connect(Relay::new().config()).unwrap();
    let findings = libvirt.check().await;
    assert!(findings[0].to_string().contains("systemctl start libvirtd"), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_qemu_a_shutdown_ends_soon_and_refuses_what_comes_later() {
    let libvirt = world::real().await;
    tokio::time::timeout(PATIENCE, libvirt.shutdown()).await.unwrap();
    assert_eq!(*libvirt.state().borrow(), ConnectionState::Stopped);
    assert_eq!(libvirt.hypervisor().observe().await.unwrap_err().kind(), ErrorKind::ShuttingDown);
}
