//! A real server on loopback, and clients that behave in every way.

use std::sync::atomic::{AtomicBool, Ordering};

use ghost_core::testing::FakeClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;
use crate::health::{Beginning, Health, State, Status};

/// A server that ends with the value.
struct Server {
    address: SocketAddr,
    health: watch::Sender<Arc<Health>>,
    closing: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

async fn start() -> Server {
    let page = |accept: Option<&str>| (format!("for {accept:?}\n"), "application/openmetrics-text");
    start_with(Arc::new(page)).await
}

async fn start_with(page: MetricsPage) -> Server {
    let (_, view) = Beginning::new(&FakeClock::default());
    let starting = view.borrow().clone();
    let health = watch::Sender::new(starting);
    let route = MetricsRoute { path: "/metrics".to_owned(), page };
    let pages = Pages { health: health.subscribe(), metrics: Some(route) };
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let (address, tasks) = (listener.local_addr().unwrap(), TaskTracker::new());
    let closing = CancellationToken::new();
    tasks.spawn(serve(pages, listener, tasks.clone(), closing.clone()));
    Server { address, health, closing }
}

impl Server {
    fn is(&self, change: impl FnOnce(&mut Health)) {
        self.health.send_modify(|health| change(Arc::make_mut(health)));
    }

    /// Sends that, and gives all that comes until the connection is closed.
    async fn says_to(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        self.says_to(&head).await
    }
}

/// Until the end.
async fn read(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut all).await;
    String::from_utf8(all).unwrap()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn an_agent_that_starts_is_alive_and_not_ready() {
    let server = start().await;
    let alive = server.get("/livez").await;
    assert!(alive.starts_with("HTTP/1.1 200") && alive.ends_with("\r\n\r\nOK\n"), "{alive}");
    assert!(alive.contains("cache-control: no-store"), "{alive}");
    let ready = server.get("/readyz").await;
    assert_eq!(status(&ready), "503");
    assert!(ready.ends_with("NOT READY: the agent is starting\n"), "{ready}");
    assert_eq!(status(&server.get("/healthz").await), "503");
    assert_eq!(status(&server.get("/metrics").await), "200");
}

#[tokio::test]
async fn what_libvirt_takes_away_from_ready_and_healthy_it_leaves_to_alive() {
    let server = start().await;
    for (state, ready, healthz, readyz) in [
        (Status::Healthy, true, "200", "200"),
        (Status::Degraded, true, "200", "200"),
        (Status::Unhealthy, false, "503", "503"),
    ] {
        server.is(|health| (health.status, health.ready) = (state, ready));
        assert_eq!(status(&server.get("/healthz").await), healthz, "{state:?}");
        assert_eq!(status(&server.get("/readyz").await), readyz, "{state:?}");
        assert_eq!(status(&server.get("/livez").await), "200", "{state:?}");
    }
}

#[tokio::test]
async fn the_document_has_the_requirements_fields() {
    let server = start().await;
    server.is(|health| {
        health.status = Status::Degraded;
        health.checks[0].name = "api";
        health.checks[0].status = State::Degraded;
        health.metrics = vec![("vms_running", 3.0), ("cpu_percent", 0.123_456)];
    });
    let answer = server.get("/healthz").await;
    assert!(answer.contains("content-type: application/json"), "{answer}");
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(document["status"], "degraded");
    assert_eq!(document["version"], crate::VERSION);
    assert_eq!(document["timestamp"], "2026-01-01T00:00:00.000Z");
    assert_eq!(document["checks"]["api"]["status"], "degraded");
    assert_eq!(document["checks"]["api"]["message"], "the agent is starting");
    assert_eq!(document["checks"]["api"]["since"], "2026-01-01T00:00:00.000Z");
    assert!(document["checks"]["api"]["remedy"].is_string(), "{document}");
    let metrics = serde_json::json!({"vms_running": 3, "cpu_percent": 0.123});
    assert_eq!(document["metrics"], metrics);
}

#[tokio::test]
async fn other_methods_and_paths_are_refused_and_head_has_no_body() {
    let server = start().await;
    let ask = async |method: &str, path: &str| {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        server.says_to(&head).await
    };
    for path in ["/healthz", "/livez", "/readyz", "/metrics"] {
        let refused = ask("POST", path).await;
        assert_eq!(status(&refused), "405", "{path}");
        assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
    }
    let unknown = ask("GET", "/etc/passwd").await;
    assert_eq!(status(&unknown), "404");
    assert!(unknown.ends_with("there is: /healthz, /livez, /readyz, /metrics\n"), "{unknown}");
    assert_eq!(status(&ask("DELETE", "/").await), "404");
    let head = ask("HEAD", "/livez").await;
    assert!(head.contains("content-length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(status(&ask("GET", "/healthz?verbose=1").await), "503", "a query changes nothing");
}

#[tokio::test]
async fn metrics_are_given_as_they_are_accepted() {
    let server = start().await;
    let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain\r\nConnection: close\r\n\r\n";
    let answer = server.says_to(head).await;
    assert_eq!(status(&answer), "200");
    assert!(answer.contains("content-type: application/openmetrics-text\r\n"), "{answer}");
    assert!(answer.ends_with("for Some(\"text/plain\")\n"), "{answer}");
}

#[tokio::test]
async fn a_name_that_is_not_this_hosts_is_not_answered() {
    let server = start().await;
    let ask = async |line: &str, host: &str| {
        let head = format!("{line}\r\n{host}Connection: close\r\n\r\n");
        let answer = server.says_to(&head).await;
        status(&answer).to_owned()
    };
    assert_eq!(ask("GET /livez HTTP/1.1", "Host: 127.0.0.1:9091\r\n").await, "200");
    assert_eq!(ask("GET /livez HTTP/1.1", "Host: evil.example\r\n").await, "421");
    assert_eq!(
        ask("GET /livez HTTP/1.1", "Host: localhost\r\nHost: evil.example\r\n").await,
        "421"
    );
    assert_eq!(ask("GET http://evil.example/livez HTTP/1.1", "Host: localhost\r\n").await, "421");
    assert_eq!(ask("GET /livez HTTP/1.1", "").await, "400");
    assert_eq!(ask("GET /livez HTTP/1.0", "").await, "200", "HTTP/1.0 names no host");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = start().await;
    let request = format!(
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(LIMITS.head_bytes)
    );
    let answer = server.says_to(&request).await;
    assert!(["431", ""].contains(&status(&answer)), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_slow_with_the_head_or_idle_is_cut_off() {
    let server = start().await;
    for beginning in ["", "GET /livez HTTP/1.1\r\n"] {
        let began = tokio::time::Instant::now();
        let answer = server.says_to(beginning).await;
        assert_eq!(answer, "");
        assert!(began.elapsed() <= LIMITS.head * 2, "{beginning}: {:?}", began.elapsed());
    }
    let began = tokio::time::Instant::now();
    let head = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(server.says_to(head).await.ends_with("OK\n"), "and closed by the server");
    assert!(began.elapsed() <= LIMITS.age, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_probe_is_answered_however_many_idle_connections_there_are() {
    let server = start().await;
    let mut idle = Vec::new();
    for _ in 0..LIMITS.places {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        idle.push(stream);
    }
    assert_eq!(status(&server.get("/livez").await), "200");
    let longest = tokio::time::timeout(LIMITS.head / 2, read(&mut idle[0])).await;
    assert!(longest.unwrap().ends_with("OK\n"), "closed in place of the probe");
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_holds_up_nobody_and_is_cut_off() {
    let asked = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&asked);
    let page: MetricsPage = Arc::new(move |_| {
        told.store(true, Ordering::Relaxed);
        ("x".repeat(64 << 20), "text/plain")
    });
    let server = start_with(page).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(status(&server.get("/livez").await), "200");
    let began = tokio::time::Instant::now();
    tokio::time::sleep(LIMITS.age + LIMITS.answer + LIMITS.head).await;
    assert!(asked.load(Ordering::Relaxed));
    let all = read(&mut stream).await;
    assert!(all.len() < 64 << 20, "cut off: {} after {:?}", all.len(), began.elapsed());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_a_remedy() {
    let server = start().await;
    let refused = format!("{:#}", bind(server.address).await.unwrap_err());
    for words in [server.address.to_string().as_str(), "metrics.listen_addr", "ss -ltnp"] {
        assert!(refused.contains(words), "{refused}");
    }
}
