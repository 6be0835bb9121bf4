//! The real program: its command line, its server, and its death.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use ghost_api::store::redb::RedbStore;
use ghost_api::store::{Agents as _, Journal as _};
use ghost_proto::controlplane::{EnrollResponse, RegisterRequest, ReportEventsRequest, VmEvent};
use rcgen::KeyPair;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use uuid::Uuid;

use crate::agent::{Issued, capacity, csr, enrolment, event};
use crate::api::{Client, Key, connect, tls};

fn ghost_api(dir: &Path, args: &[&str]) -> Output {
    ghost_api_in(dir, &[], args)
}

/// With these variables.
pub(crate) fn ghost_api_in(dir: &Path, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_ghost-api"));
    for name in ["GHOST_API_DIR", "GHOST_REQUEST_ID", "TRACEPARENT"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).arg("--dir").arg(dir).args(args);
    command.timeout(Duration::from_secs(60)).output().unwrap()
}

pub(crate) fn done(dir: &Path, args: &[&str]) -> String {
    let output = ghost_api(dir, args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn failed(dir: &Path, args: &[&str]) -> (i32, String) {
    let output = ghost_api(dir, args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// A running server; killed when dropped.
pub(crate) struct Served {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    http: SocketAddr,
}

impl Served {
    fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    pub(crate) fn start_with(dir: &Path, options: &[&str]) -> Self {
        // A write beyond a limit fails then, instead of ending the program.
        let mut child = Command::new("sh")
            .args([
                "-c",
                r#"trap "" XFSZ; exec "$0" "$@""#,
                env!("CARGO_BIN_EXE_ghost-api"),
                "--dir",
            ])
            .arg(dir)
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = find(&mut lines, |line| line["message"] == "listening");
        let [address, http] =
            ["address", "http"].map(|key| listening[key].as_str().unwrap().parse().unwrap());
        Self { child, lines, address, http }
    }

    /// The next line of its log that is that.
    pub(crate) fn line(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        find(&mut self.lines, is)
    }

    /// The first line of the answer to `/healthz`.
    fn health(&self) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        BufReader::new(stream).lines().next().unwrap().unwrap()
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As if the disk had room for files of that size only.
    fn limit_files(&self, bytes: Option<u64>) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let maximum = getrlimit(Resource::Fsize).maximum;
        let limit = Rlimit { current: bytes, maximum };
        prlimit(Some(pid), Resource::Fsize, limit).unwrap();
    }

    pub(crate) fn terminate(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

fn find(lines: &mut Lines<BufReader<ChildStdout>>, is: impl Fn(&Value) -> bool) -> Value {
    let found = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).find(is);
    found.unwrap()
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("api");
    (folder, dir)
}

async fn enrolled(dir: &Path, served: &Served, key: &str) -> (String, Client) {
    let (id, _, client) = issued(dir, served, key).await;
    (id, client)
}

pub(crate) async fn issued(dir: &Path, served: &Served, key: &str) -> (String, Issued, Client) {
    let (key, own) = (Key::parse(key.trim()), KeyPair::generate().unwrap());
    let id = Uuid::new_v4().to_string();
    let ca = CertificateDer::from_pem_file(dir.join("ca.crt")).unwrap();
    let mut stranger = connect(served.address, tls(&ca, None)).await.unwrap();
    let ask = enrolment(&key, &id, csr(&own, &id, |_| ()));
    let EnrollResponse { chain, ca: own_ca } = stranger.enroll(ask).await.unwrap().into_inner();
    let issued = Issued { key: own, chain, ca: own_ca };
    let client = connect(served.address, tls(&ca, Some(issued.identity()))).await.unwrap();
    (id, issued, client)
}

pub(crate) fn registration(instance: &str) -> RegisterRequest {
    RegisterRequest {
        instance: instance.to_owned(),
        name: "pc-1".to_owned(),
        capacity: Some(capacity(8.0)),
        ..RegisterRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_does_it_all_by_the_command_line() {
    let (_folder, dir) = folder();
    let made = done(&dir, &["init", "--name", "localhost", "--name", "127.0.0.1"]);
    assert!(made.contains("ghost-api serve"), "{made}");
    let (code, again) = failed(&dir, &["init", "--name", "localhost"]);
    assert_eq!(code, 5);
    assert!(again.contains("is there already"), "{again}");
    let served = Served::start(&dir);
    let key = done(&dir, &["token", "create", "--ttl", "30m"]);
    let (id, mut client) = enrolled(&dir, &served, &key).await;
    let mut hostile = registration(&Uuid::new_v4().to_string());
    hostile.templates = vec!["debian-12".to_owned()];
    client.register(hostile.clone()).await.unwrap();
    let hostile_event = VmEvent { vm_name: "\u{1b}[2Jweb".to_owned(), ..event(1) };
    let ask = ReportEventsRequest { instance: hostile.instance, events: vec![hostile_event] };
    client.report_events(ask).await.unwrap();

    let table = done(&dir, &["agents"]);
    assert!(table.contains("pc-1") && table.contains("online") && table.contains(&id), "{table}");
    let json: serde_json::Value =
        serde_json::from_str(&done(&dir, &["agents", "-o", "json"])).unwrap();
    assert_eq!((&json[0]["name"], &json[0]["id"]), (&"pc-1".into(), &id.as_str().into()));
    let events = done(&dir, &["events"]);
    assert!(events.contains("[2Jweb") && !events.contains('\u{1b}'), "{events:?}");
    let (code, text) =
        failed(&dir, &["vm", "create", "--any", "--name", "web", "--template", "debian-12"]);
    assert_eq!(code, 6);
    assert!(text.contains("pc-1 listens on its own host only"), "{text}");
    let (code, text) = failed(&dir, &["vm", "delete", "--agent", "nobody", "web", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &json["error"]["code"]), (3, &"NO_SUCH_AGENT".into()));
    done(&dir, &["agent", "revoke", "pc-1"]);
    let audit = done(&dir, &["audit"]);
    for what in ["token created", "agent enrolled", "agent registered", "agent revoked", "uid "] {
        assert!(audit.contains(what), "no {what} in {audit}");
    }
    let (code, text) = failed(&dir, &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 5);
    assert!(text.contains("another ghost-api has"), "{text}");
    assert!(served.terminate());
}

#[test]
fn without_a_server_or_an_authority_the_remedy_is_named() {
    let (_folder, dir) = folder();
    let (code, text) = failed(&dir, &["agents"]);
    assert_eq!(code, 7);
    assert!(text.contains("ghost-api serve --dir"), "{text}");
    let (code, text) = failed(&dir, &["serve"]);
    assert_eq!(code, 1);
    assert!(text.contains("ghost-api init"), "{text}");
    assert!(!dir.exists());
    done(&dir, &["init", "--name", "localhost"]);
    std::os::unix::net::UnixListener::bind(dir.join("admin.sock")).unwrap();
    let (code, text) = failed(&dir, &["token", "create"]);
    assert_eq!(code, 7);
    assert!(text.contains("nobody listens on") && text.contains("ghost-api serve"), "{text}");
}

#[test]
fn another_operator_gets_a_certificate_that_agentctl_can_use() {
    let (folder, dir) = folder();
    done(&dir, &["init", "--name", "localhost"]);
    let out = folder.path().join("anna");
    let args = ["operator", "--out", out.to_str().unwrap()];
    done(&dir, &args);
    for name in ["ca.crt", "operator.crt", "operator.key"] {
        assert!(out.join(name).exists(), "{name}");
    }
    assert_ne!(
        std::fs::read(out.join("operator.key")).unwrap(),
        std::fs::read(dir.join("operator.key")).unwrap()
    );
    assert_eq!(failed(&dir, &args).0, 5);
}

#[test]
fn what_makes_no_sense_is_usage() {
    let (_folder, dir) = folder();
    for args in [
        &["init"][..],
        &["init", "--name", "https://host"],
        &["token", "create", "--ttl", "soon"],
        &["vm", "create", "--name", "web", "--template", "t"],
        &["vm", "create", "--any", "--agent", "a", "--name", "web", "--template", "t"],
        &["serve", "--heartbeat-interval", "0"],
    ] {
        assert_eq!(failed(&dir, args).0, 2, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_acknowledged_is_there_after_a_kill_in_the_middle_of_writing() {
    let (_folder, dir) = folder();
    done(&dir, &["init", "--name", "localhost"]);
    let served = Served::start(&dir);
    let key = done(&dir, &["token", "create"]);
    let (id, mut client) = enrolled(&dir, &served, &key).await;
    let instance = Uuid::new_v4().to_string();
    client.register(registration(&instance)).await.unwrap();
    let (enough, reached) = tokio::sync::oneshot::channel();
    let tasks = tokio_util::task::TaskTracker::new();
    let reporting = tasks.spawn(async move {
        let (mut acknowledged, mut enough) = (0, Some(enough));
        loop {
            let ask = ReportEventsRequest {
                instance: instance.clone(),
                events: vec![event(acknowledged + 1)],
            };
            match client.report_events(ask).await {
                Ok(answer) => acknowledged = answer.into_inner().last_event,
                Err(_) => return acknowledged,
            }
            if acknowledged == 50 {
                enough.take().unwrap().send(()).unwrap();
            }
        }
    });
    reached.await.unwrap();
    served.kill();
    let acknowledged = reporting.await.unwrap();
    assert!(acknowledged >= 50);
    let store = RedbStore::open(&dir.join("store.redb")).unwrap();
    let (of, kept) = store.last_events().await.unwrap()[0];
    assert_eq!(of.to_string(), id);
    // One more may have been kept whose answer did not come through.
    assert!((acknowledged..=acknowledged + 1).contains(&kept), "{acknowledged} and {kept}");
    assert_eq!(store.broken_audit().await.unwrap(), None);
    assert_eq!(store.agents().await.unwrap().len(), 1);
    drop(store);
    let again = Served::start(&dir);
    assert!(done(&dir, &["agents"]).contains(&id));
    assert!(again.terminate());
}

#[test]
fn after_a_full_disk_everything_works_again_without_a_restart() {
    let (_folder, dir) = folder();
    done(&dir, &["init", "--name", "127.0.0.1"]);
    let served = Served::start(&dir);
    let create = ["token", "create", "--ttl", "1h"];
    done(&dir, &create);
    served.limit_files(Some(0));
    let (_, error) = failed(&dir, &create);
    assert!(error.contains("store failed"), "{error}");
    assert!(served.health().contains("503"));
    served.limit_files(getrlimit(Resource::Fsize).maximum);
    done(&dir, &create);
    assert!(served.health().contains("200"));
    let audit = done(&dir, &["-o", "json", "audit"]);
    assert_eq!(audit.matches("token created").count(), 2, "{audit}");
    assert!(served.terminate());
}
