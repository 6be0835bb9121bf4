use std::sync::mpsc;

use super::*;

const LIMITS: Limits = Limits { quick: Duration::from_millis(50), slow: Duration::from_secs(20) };

fn executor(uri: &str) -> Executor {
    Executor::start(Arc::new(Connections::new(uri)), LIMITS).unwrap()
}

async fn works(executor: &Executor) -> bool {
    executor.call("ask", Effort::Slow, |conn| Ok(conn.is_alive())).await.unwrap()
}

#[tokio::test]
async fn calls_that_hang_fail_at_their_deadline_and_starve_nobody() {
    let executor = executor("test:///default");
    let (release, hang) = mpsc::channel::<()>();
    let hang = Arc::new(Mutex::new(hang));
    for _ in 0..WORKERS {
        let hang = Arc::clone(&hang);
        let hung = executor
            .call("hang", Effort::Quick, move |_| Ok(hang.lock().unwrap().recv().is_ok()))
            .await;
        assert!(matches!(hung, Err(Failure::TimedOut { what: "hang", .. })), "{hung:?}");
    }
    assert!(works(&executor).await);
    drop(release);
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_not_begun() {
    let executor = executor("test:///default");
    let (release, hang) = mpsc::channel::<()>();
    let hang = Arc::new(Mutex::new(hang));
    let busy: Vec<_> = (0..WORKERS)
        .map(|_| {
            let hang = Arc::clone(&hang);
            executor.call("hang", Effort::Slow, move |_| Ok(hang.lock().unwrap().recv().is_ok()))
        })
        .map(Box::pin)
        .collect();
    let (begun, was_begun) = mpsc::channel::<()>();
    let late = async {
        let late =
            executor.call("come late", Effort::Quick, move |_| Ok(begun.send(()).is_ok())).await;
        drop(release);
        late
    };
    let mut busy = busy.into_iter();
    let (a, b, c, d) =
        (busy.next().unwrap(), busy.next().unwrap(), busy.next().unwrap(), busy.next().unwrap());
    let (a, b, c, d, late) = tokio::join!(a, b, c, d, late);
    assert!([a, b, c, d].into_iter().all(|r| matches!(r, Ok(false))));
    assert!(matches!(late, Err(Failure::TimedOut { .. })));
    assert!(works(&executor).await);
    assert!(was_begun.recv().is_err(), "the late call was made nevertheless");
}

#[tokio::test]
async fn after_five_outages_calls_fail_at_once_until_libvirt_is_back() {
    let executor = executor("test:///no/such/file.xml");
    // libvirt refuses the file: for us, a connection that can't be had.
    for _ in 0..5 {
        let outage = executor.call("ask", Effort::Slow, |_| Ok(())).await;
        assert!(matches!(outage, Err(Failure::Unavailable { .. })), "{outage:?}");
    }
    assert!(matches!(
        executor.call("ask", Effort::Slow, |_| Ok(())).await,
        Err(Failure::Resting { .. })
    ));
    executor.libvirt_is_back();
    assert!(matches!(
        executor.call("ask", Effort::Slow, |_| Ok(())).await,
        Err(Failure::Unavailable { .. })
    ));
}

#[tokio::test]
async fn a_refusal_is_no_outage() {
    let executor = executor("test:///default");
    for _ in 0..10 {
        let refused = executor
            .call("look up", Effort::Slow, |conn| Ok(conn.network("no-such")?.is_active()?))
            .await;
        assert!(matches!(refused, Err(Failure::Failed { what: "look up", .. })), "{refused:?}");
    }
    assert!(works(&executor).await);
}

#[tokio::test]
async fn after_the_stop_calls_are_refused() {
    let executor = executor("test:///default");
    executor.stop();
    assert!(matches!(executor.call("ask", Effort::Slow, |_| Ok(())).await, Err(Failure::Stopped)));
}
