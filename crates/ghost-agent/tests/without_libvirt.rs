//! The real daemon on a host without libvirt: what it tells monitoring and the service manager.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// A daemon, killed when dropped.
struct Daemon {
    child: Child,
    ear: UnixDatagram,
    folder: TempDir,
}

impl Daemon {
    fn start(http: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "agent: {{name: pc, state_dir: {}}}\n\
             libvirt: {{uri: \"qemu+unix:///system?socket=/no/such/socket\", image_cache: {}}}\n\
             hypervisor: {{acceleration: tcg}}\n\
             grpc: {{tls_enabled: false, listen_addr: \"127.0.0.1:0\", unix_socket: {}}}\n\
             metrics: {{listen_addr: \"{http}\"}}\n",
            path("state"),
            path("images"),
            path("agent.sock"),
        );
        std::fs::write(path("agent.yaml"), config).unwrap();
        let ear = UnixDatagram::bind(path("notify")).unwrap();
        ear.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ghost-agent"));
        command.env_clear().env("NOTIFY_SOCKET", path("notify")).env("WATCHDOG_USEC", "400000");
        command.args(["--config", &path("agent.yaml")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), ear, folder }
    }

    /// Where its log says that it answers over HTTP.
    fn http(&mut self) -> SocketAddr {
        let lines = BufReader::new(self.child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let (found, at) = std::sync::mpsc::channel();
        // Reads to the end, so that the daemon's output never fills up.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let fields: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(http) = fields["http"].as_str() {
                    let _ = found.send(http.parse().unwrap());
                }
            }
        });
        at.recv_timeout(LIMIT).unwrap_or_else(|_| {
            let _ = self.child.kill();
            self.child.stderr.take().unwrap().read_to_end(&mut said).unwrap();
            panic!("no http address: {}", String::from_utf8_lossy(&said))
        })
    }

    /// Waits until it has told each of these, in any order and with anything behind it.
    fn tells(&self, wanted: &[&str]) {
        let (mut wanted, deadline) = (wanted.to_vec(), Instant::now() + LIMIT);
        while !wanted.is_empty() {
            assert!(Instant::now() < deadline, "it did not tell {wanted:?}");
            let mut bytes = [0; 1024];
            let length = self.ear.recv(&mut bytes).unwrap();
            let told = String::from_utf8_lossy(&bytes[..length]).into_owned();
            wanted.retain(|words| !told.starts_with(words));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

#[test]
fn a_daemon_without_libvirt_is_alive_says_why_it_is_not_ready_and_feeds_its_watchdog() {
    let mut daemon = Daemon::start(([127, 0, 0, 1], 0).into());
    let http = daemon.http();
    // systemd waits for READY: an agent whose libvirt is away has to come up all the same.
    daemon.tells(&["READY=1", "STATUS=unhealthy: libvirt: ", "WATCHDOG=1"]);
    daemon.tells(&["WATCHDOG=1"]);

    assert_eq!(get(http, "/livez"), ("200".to_owned(), "OK\n".to_owned()));
    let (status, why) = get(http, "/readyz");
    assert_eq!(status, "503");
    assert!(why.starts_with("NOT READY: libvirt "), "{why}");
    let (status, body) = get(http, "/healthz");
    assert_eq!(status, "503", "{body}");
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(health["status"], "unhealthy");
    let libvirt = &health["checks"]["libvirt"];
    assert_eq!(libvirt["status"], "down", "{health}");
    assert!(libvirt["remedy"].as_str().unwrap().contains("systemctl start libvirtd"), "{health}");
    assert_eq!(health["checks"]["ledger"]["status"], "up", "{health}");
    assert!(health["metrics"]["threads"].as_u64().unwrap() > 1, "{health}");
    let left = std::fs::read_dir(daemon.folder.path().join("state")).unwrap().count();
    assert!(left > 0, "it has its state folder");

    let pid = Pid::from_child(&daemon.child);
    kill_process(pid, Signal::TERM).unwrap();
    daemon.tells(&["STOPPING=1"]);
    assert!(daemon.child.wait().unwrap().success());
}

#[test]
fn a_daemon_whose_http_port_is_taken_does_not_start_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut daemon = Daemon::start(address);
    assert_eq!(daemon.child.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    daemon.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    for words in [&address.to_string(), "metrics.listen_addr", "free port"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}
