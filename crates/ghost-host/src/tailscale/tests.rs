//! Against a server that speaks the LocalAPI, or something else, on a unix socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use super::*;

/// A server for a number of connections, and what it was asked.
struct Server {
    folder: tempfile::TempDir,
    asked: JoinHandle<Vec<String>>,
}

/// Answers each connection by one of those functions.
fn server<const N: usize>(answers: [fn(&mut UnixStream); N]) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("s")).unwrap();
    let asked = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head = lines.by_ref().map(Result::unwrap).take_while(|line| !line.is_empty());
            asked.push(head.collect::<Vec<_>>().join("\n"));
            answer(&mut stream);
        }
        asked
    });
    Server { folder, asked }
}

impl Server {
    fn client(&self) -> Tailscale {
        Tailscale::new(&self.folder.path().join("s"))
    }
}

/// What a client that has what it wants no longer reads is nobody's mistake.
fn say(stream: &mut UnixStream, bytes: &[u8]) {
    let _hung_up = stream.write_all(bytes);
}

fn json(stream: &mut UnixStream, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    say(stream, format!("{head}{body}").as_bytes());
}

async fn answered(answer: fn(&mut UnixStream)) -> Result<VpnStatus, TailscaleError> {
    server([answer]).client().ask().await
}

#[tokio::test]
async fn a_network_that_is_up_is_told_with_all_that_is_of_use() {
    let server = server([|stream| {
        json(
            stream,
            r#"{"Version":"1.80.2","TUN":true,"BackendState":"Running","HaveNodeKey":true,"AuthURL":"",
            "TailscaleIPs":["100.64.0.7","fd7a:115c:a1e0::7"],
            "Self":{"ID":"7","HostName":"My PC","DNSName":"my-pc.ghost.internal.","OS":"linux",
                "TailscaleIPs":["100.64.0.7","fd7a:115c:a1e0::7"],"KeyExpiry":"2026-12-01T08:00:00Z"},
            "Peer":{"nodekey:a":{"HostName":"api"},"nodekey:b":{"HostName":"pc-2"}},
            "Health":[],"User":null}"#,
        );
    }]);
    let status = server.client().ask().await.unwrap();
    assert_eq!(status.state, VpnState::Running);
    assert_eq!(status.address().map(|a| a.to_string()).as_deref(), Some("100.64.0.7"));
    assert_eq!(status.addresses.len(), 2);
    assert_eq!(status.host_name.as_deref(), Some("My PC"));
    assert_eq!(status.dns_name.as_deref(), Some("my-pc.ghost.internal"));
    assert_eq!(status.key_expiry, Some("2026-12-01T08:00:00Z".parse().unwrap()));
    assert_eq!(status.peers, Some(2));
    let asked = server.asked.join().unwrap();
    assert!(asked[0].starts_with("GET /localapi/v0/status HTTP/1.1\n"), "{asked:?}");
    assert!(asked[0].to_lowercase().contains("\nhost: local-tailscaled.sock"), "{asked:?}");
}

#[tokio::test]
async fn what_go_writes_for_nothing_is_nothing() {
    let status = answered(|stream| {
        json(
            stream,
            r#"{"BackendState":"NeedsLogin","TailscaleIPs":null,"Self":{"HostName":"","DNSName":"",
            "TailscaleIPs":null,"KeyExpiry":"0001-01-01T00:00:00Z"},"Peer":null}"#,
        );
    });
    let nothing = VpnStatus::without_network(VpnState::NeedsLogin);
    assert_eq!(status.await.unwrap(), nothing);
}

#[tokio::test]
async fn each_state_has_its_word() {
    let of = |answer| async move { answered(answer).await.map(|status| status.state) };
    let state = of(|s| json(s, r#"{"BackendState":"Stopped"}"#)).await.unwrap();
    assert_eq!(state, VpnState::Stopped);
    let state = of(|s| json(s, r#"{"BackendState":"NoState","Self":null}"#)).await.unwrap();
    assert_eq!(state, VpnState::Starting);
    let state = of(|s| json(s, r#"{"BackendState":"NeedsMachineAuth"}"#)).await.unwrap();
    assert_eq!(state, VpnState::NeedsApproval);
    let error = of(|s| json(s, r#"{"BackendState":"\u001b[31mNew"}"#)).await.unwrap_err();
    assert!(error.to_string().contains(r"\u{1b}[31mNew"), "{error}");
}

#[tokio::test]
async fn an_answer_in_chunks_is_put_together() {
    let status = answered(|stream| {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        say(stream, head);
        say(stream, b"10\r\n{\"BackendState\":\r\n");
        say(stream, b"a\r\n\"Running\"}\r\n0\r\n\r\n");
    });
    assert_eq!(status.await.unwrap().state, VpnState::Running);
}

#[tokio::test]
async fn in_a_network_of_thousands_the_peers_are_not_asked_for() {
    let server = server([
        |stream| json(stream, &format!(r#"{{"BackendState":"{}"}}"#, "a".repeat(2 << 20))),
        |stream| json(stream, r#"{"BackendState":"Running","TailscaleIPs":["100.64.0.7"]}"#),
    ]);
    let status = server.client().ask().await.unwrap();
    assert_eq!((status.peers, status.address().is_some()), (None, true));
    let asked = server.asked.join().unwrap();
    assert!(asked[1].starts_with("GET /localapi/v0/status?peers=false "), "{asked:?}");
}

#[tokio::test]
async fn more_than_a_mebibyte_is_not_taken_in() {
    let flood: fn(&mut UnixStream) = |stream| {
        say(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..160 {
            say(stream, b"10000\r\n");
            say(stream, &[b' '; 0x10000]);
            say(stream, b"\r\n");
        }
    };
    let error = server([flood, flood]).client().ask().await.unwrap_err();
    assert!(matches!(error, TailscaleError::TooLarge), "{error}");
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let error = answered(|stream| say(stream, b"SSH-2.0-OpenSSH_9.2\r\n")).await.unwrap_err();
    assert!(matches!(error, TailscaleError::Broken(_)), "{error}");
    let error = answered(|_| {}).await.unwrap_err();
    assert!(matches!(error, TailscaleError::Broken(_)), "{error}");
    let error = answered(|stream| json(stream, "[]")).await.unwrap_err();
    assert!(matches!(error, TailscaleError::Garbage(_)), "{error}");
    let error =
        answered(|stream| json(stream, r#"{"BackendState":"Running","TailscaleIPs":["x"]}"#));
    assert!(matches!(error.await.unwrap_err(), TailscaleError::Garbage(_)));
    let error =
        answered(|stream| say(stream, b"HTTP/1.1 403 Forbidden\r\n\r\n")).await.unwrap_err();
    assert!(matches!(error, TailscaleError::Refused(StatusCode::FORBIDDEN)), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    for cut in [
        |stream: &mut UnixStream| {
            say(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\n{\"BackendState\":\"Run");
        },
        |stream: &mut UnixStream| {
            say(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1a\r\n{\"Back");
        },
    ] {
        let error = answered(cut).await.unwrap_err();
        assert!(matches!(error, TailscaleError::Broken(_)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_is_waited_for_no_longer_than_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    // The kernel accepts; nobody answers.
    let _listener = UnixListener::bind(&path).unwrap();
    let began = tokio::time::Instant::now();
    let error = Tailscale::new(&path).ask().await.unwrap_err();
    assert!(matches!(error, TailscaleError::Silent), "{error}");
    assert!(began.elapsed() <= LIMIT + Duration::from_millis(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_a_socket_it_is_not_installed_and_a_dead_one_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let tailscale = Tailscale::new(&path);
    assert_eq!(tailscale.ask().await.unwrap().state, VpnState::NotInstalled);
    drop(UnixListener::bind(&path).unwrap());
    let error = AppError::from(tailscale.ask().await.unwrap_err()).to_string();
    assert!(error.contains("cannot reach tailscaled at"), "{error}");
    assert!(error.contains("systemctl start tailscaled"), "{error}");
}

#[test]
fn a_socket_that_may_not_be_opened_says_so() {
    let source = io::ErrorKind::PermissionDenied.into();
    let error = TailscaleError::Unreachable { path: "/s".into(), source };
    let error = AppError::from(error).to_string();
    assert!(error.contains("let the agent's user open the socket"), "{error}");
}

#[tokio::test]
async fn a_closed_socket_is_a_failure_and_not_an_absence() {
    if rustix::process::geteuid().is_root() {
        // Root may open everything; the words are tested above.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o0)).unwrap();
    let error = Tailscale::new(&path).ask().await.unwrap_err();
    assert!(matches!(error, TailscaleError::Unreachable { .. }), "{error}");
}
