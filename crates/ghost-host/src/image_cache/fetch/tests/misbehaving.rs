//! Servers that fail, lie or dawdle.

use super::pace::{Meter, Speed};
use super::*;

#[tokio::test]
async fn a_body_that_always_ends_early_is_given_up_after_all_tries_and_kept() {
    let server = Server::start(|_, _| Reply::file(&content()).cut(HALF));
    let rig = Rig::new(limits());
    let error = rig.failure_from(&server.url).await;
    assert!(
        matches!(error, ImageError::BrokeOff { received, .. } if received == HALF as u64),
        "{error}"
    );
    assert_eq!((server.asked().len(), rig.waits()), (6, 5));
    assert_eq!(fs::metadata(rig.part()).unwrap().len(), HALF as u64);
}

#[tokio::test]
async fn a_server_that_brings_the_file_on_in_every_try_is_stayed_with() {
    let server = Server::start(|_, asked| Reply::ranged(asked, &content(), "\"1\"").cut(1 << 20));
    let rig = Rig::new(Limits { attempts: 2, ..limits() });
    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(1 << 20), Some(2 << 20)]);
}

#[tokio::test]
async fn a_server_that_brings_too_little_in_every_try_is_left() {
    let server = Server::start(|_, asked| Reply::ranged(asked, &content(), "\"1\"").cut(1000));
    let rig = Rig::new(Limits { attempts: 4, ..limits() });
    rig.failure_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(1000), Some(2000), Some(3000)]);
}

#[tokio::test]
async fn a_body_longer_than_announced_is_cut_there_and_its_digest_refuses_it() {
    let server = Server::start(|_, _| Reply::file(&content()).announced(HALF));
    let rig = Rig::new(limits());
    let error = rig.failure_from(&server.url).await;
    assert!(matches!(error, ImageError::WrongChecksum { .. }), "{error}");
    assert!(rig.files().is_empty());
}

#[tokio::test]
async fn an_empty_body_is_called_so() {
    let server = Server::start(|_, _| Reply::file(b""));
    let rig = Rig::new(limits());
    let error = rig.failure_from(&server.url).await.to_string();
    assert_eq!(error, format!("{} is empty", server.url));
    assert!(rig.files().is_empty());
}

#[tokio::test]
async fn another_content_is_refused_with_both_digests_and_not_asked_for_again() {
    let server = Server::start(|_, _| Reply::file(b"something else").with("ETag: \"1\""));
    let rig = Rig::new(limits());
    let error = rig.failure_from(&server.url).await.to_string();
    let (got, expected) = (sha256(b"something else"), sha256(&content()));
    assert!(error.contains(&format!("has the digest {got}, ")), "{error}");
    assert!(error.ends_with(&format!("says {expected}")), "{error}");
    assert_eq!((server.asked().len(), rig.waits()), (1, 0));
    assert!(rig.files().is_empty());
}

#[tokio::test]
async fn a_missing_file_is_not_asked_for_again() {
    for status in ["404 Not Found", "403 Forbidden", "410 Gone", "204 No Content"] {
        let server = Server::start(move |_, _| Reply::status(status));
        let rig = Rig::new(limits());
        let error = rig.failure_from(&server.url).await.to_string();
        assert_eq!(error, format!("{} answers {status}", server.url));
        assert_eq!((server.asked().len(), rig.waits()), (1, 0));
    }
}

#[tokio::test]
async fn a_server_that_recovers_is_waited_for() {
    let server = Server::start(|n, _| match n {
        0 => Reply::status("500 Internal Server Error"),
        1 => Reply::status("429 Too Many Requests"),
        2 => Reply::status("408 Request Timeout"),
        _ => Reply::file(&content()),
    });
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!((server.asked().len(), rig.waits()), (4, 3));
    let told = rig.told.lock().unwrap();
    let failed = format!("{} answers 500 Internal Server Error", server.url);
    assert_eq!(told[0], Told::Waiting { failed });
}

#[tokio::test]
async fn the_pause_that_a_server_asks_for_is_kept_whatever_the_hosts_clock_says() {
    let server = Server::start(|n, _| match n {
        0 => Reply::status("503 Service Unavailable").with("Retry-After: 45"),
        1 => Reply::status("503 Service Unavailable")
            .with("Date: Wed, 21 Oct 2026 12:00:00 GMT")
            .with("Retry-After: Wed, 21 Oct 2026 12:00:40 GMT"),
        2 => Reply::status("503 Service Unavailable").with("Retry-After: 86400"),
        _ => Reply::file(&content()).with("Last-Modified: Wed, 21 Oct 2099 12:00:00 GMT"),
    });
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!(rig.clock.sleeps(), [45, 40, 60].map(Duration::from_secs));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_and_tried_again() {
    let server = Server::start(|n, asked| match n {
        0 => Reply::ranged(asked, &content(), "\"1\"").cut(HALF).then_silent(),
        _ => Reply::ranged(asked, &content(), "\"1\""),
    });
    let rig = Rig::new(Limits { stall: Duration::from_secs(2), ..limits() });
    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(HALF)]);
    let told = rig.told.lock().unwrap();
    let stalled = format!("{} sent nothing for 2 s, after {HALF} bytes", server.url);
    assert!(told.contains(&Told::Waiting { failed: stalled }), "{told:?}");
}

#[tokio::test]
async fn a_few_bytes_a_minute_are_not_a_download() {
    let rig = Rig::new(Limits { attempts: 2, ..limits() });
    rig.clock.tick(Duration::from_secs(60));
    let server = Server::start(|_, _| Reply::file(&content()).cut(60).then_silent());
    let error = rig.failure_from(&server.url).await;
    assert!(matches!(error, ImageError::Crawls { received: 60, .. }), "{error}");
    assert!(error.to_string().contains("sends less than 65536 bytes in 60 s"), "{error}");
    assert_eq!(rig.waits(), 1);
}

#[test]
fn the_pace_is_measured_in_every_stretch_anew() {
    let clock = Arc::<TestClock>::default();
    let mut meter = Meter::start(Pace::default(), &(Arc::clone(&clock) as Arc<dyn Clock>));
    let mut after = |seconds, bytes| {
        clock.advance(Duration::from_secs(seconds));
        meter.count(bytes)
    };
    assert_eq!(after(59, 1), Speed::Enough);
    assert_eq!(after(1, (64 << 10) - 1), Speed::Enough);
    assert_eq!(after(30, 1 << 30), Speed::Enough);
    assert_eq!(after(30, 0), Speed::Enough);
    assert_eq!(after(60, (64 << 10) - 1), Speed::TooSlow);
}

#[tokio::test]
async fn a_download_that_takes_too_long_in_all_is_given_up_and_kept() {
    let server = Server::start(|_, _| Reply::file(&content()).cut(HALF).then_silent());
    let rig = Rig::new(Limits { whole: Duration::from_millis(300), ..limits() });
    let error = rig.failure_from(&server.url).await;
    assert!(matches!(error, ImageError::TooSlow { .. }), "{error}");
    assert!(rig.part().exists());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_cause() {
    let address = {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        port.local_addr().unwrap()
    };
    let rig = Rig::new(Limits { attempts: 3, ..limits() });
    let error = rig.failure_from(&format!("http://{address}/a.qcow2")).await.to_string();
    assert!(error.contains("Connection refused"), "{error}");
    assert_eq!(rig.waits(), 2);
}

#[tokio::test]
async fn a_file_beyond_the_limit_is_refused_announced_or_not_and_leaves_nothing() {
    let announced = Server::start(|_, _| Reply::file(&content()));
    let unannounced = Server::start(|_, _| Reply::file(&content()).unannounced());
    for server in [announced, unannounced] {
        let rig = Rig::new(Limits { size: Bytes(LENGTH as u64 - 1), ..limits() });
        let error = rig.failure_from(&server.url).await;
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
        assert_eq!((rig.files(), server.asked().len()), (Vec::new(), 1));
    }
}

#[tokio::test]
async fn a_body_packed_for_transport_is_refused() {
    let server = Server::start(|_, _| Reply::file(&content()).with("Content-Encoding: gzip"));
    let rig = Rig::new(limits());
    let error = rig.failure_from(&server.url).await.to_string();
    assert!(error.ends_with("answers with the content encoding gzip"), "{error}");
    let document = rig.fetcher.document(&server.at("/list")).await.unwrap_err();
    assert!(matches!(document, ImageError::Encoded { .. }), "{document}");
    assert_eq!(server.asked().len(), 2);
}
