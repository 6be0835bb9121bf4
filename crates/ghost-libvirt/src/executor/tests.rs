mod changes;
mod observed;

use std::sync::mpsc;

use super::*;
use crate::observer::Unobserved;

const LIMITS: Limits = Limits { quick: Duration::from_millis(50), slow: Duration::from_secs(20) };

fn executor(uri: &str) -> Executor {
    Executor::start(Arc::new(Connections::new(uri)), LIMITS, Arc::new(Unobserved)).unwrap()
}

async fn works(executor: &Executor) -> bool {
    executor.call("ask", Effort::Slow, |conn| Ok(conn.is_alive())).await.unwrap()
}

/// Fault: calls of libvirt hang. Promise: 7. Result: each fails at its deadline, and starves nobody.
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

/// Fault: five outages of libvirt in a row. Promise: 7. Result: calls fail at once until it is back.
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

/// Fault: libvirtd hangs when a call needs a new connection, which no keepalive watches yet. Promise: 7. Result: the
/// call fails when the loss is noticed, not at its deadline, and is not begun afterwards.
#[tokio::test]
async fn a_call_that_waits_for_its_connection_fails_when_libvirt_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("frozen");
    let frozen = tokio::net::UnixListener::bind(&socket).unwrap();
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let executor = executor(&uri);
    let id = VmId::generate();
    let (begun, was_begun) = mpsc::channel::<()>();
    let call = executor.call_for(id, "start", Effort::Slow, move |_| Ok(begun.send(()).is_ok()));
    let lose = async {
        let (connection, _) = frozen.accept().await.unwrap();
        executor.libvirt_is_lost("it does not answer");
        connection
    };
    let (refused, connection) = tokio::join!(call, lose);
    assert!(matches!(refused, Err(Failure::Resting(_))), "{refused:?}");
    assert_eq!(executor.queue.unfinished(id), None);
    let workers = executor.workers();
    assert_eq!((workers.hung, workers.idle + workers.busy), (1, WORKERS), "{workers:?}");
    // It is lost still: that nobody was asked is no proof that it is back.
    let refused = executor.call_for(id, "start", Effort::Slow, |_| Ok(())).await;
    assert!(matches!(refused, Err(Failure::Resting(_))), "{refused:?}");
    drop((connection, frozen));
    assert!(was_begun.recv().is_err(), "the refused call was made nevertheless");
}

/// A call that was begun may have its answer on the way.
#[tokio::test]
async fn a_call_that_was_begun_is_not_refused_when_libvirt_is_lost() {
    let executor = executor("test:///default");
    let (begun, was_begun) = oneshot::channel();
    let (release, hang) = mpsc::channel::<()>();
    let call = executor.call("ask", Effort::Slow, move |_| {
        begun.send(()).unwrap();
        Ok(hang.recv().is_ok())
    });
    let lose = async {
        was_begun.await.unwrap();
        executor.libvirt_is_lost("it does not answer");
        release.send(()).unwrap();
    };
    let (answer, ()) = tokio::join!(call, lose);
    assert!(matches!(answer, Ok(true)), "{answer:?}");
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

/// Begins a call that hangs until `release` is dropped, and leaves it.
async fn begin_and_leave(executor: &Executor, hang: &Arc<Mutex<mpsc::Receiver<()>>>) {
    let (begun, was_begun) = oneshot::channel();
    let hang = Arc::clone(hang);
    let hung = executor.call("hang", Effort::Slow, move |_| {
        begun.send(()).unwrap();
        Ok(hang.lock().is_ok_and(|hang| hang.recv().is_ok()))
    });
    tokio::select! {
        biased;
        answer = hung => panic!("it was to hang: {answer:?}"),
        begun = was_begun => begun.unwrap(),
    }
}

#[tokio::test]
async fn calls_that_hang_and_are_left_by_their_callers_starve_nobody() {
    let executor = executor("test:///default");
    let (release, hang) = mpsc::channel::<()>();
    let hang = Arc::new(Mutex::new(hang));
    for _ in 0..WORKERS {
        begin_and_leave(&executor, &hang).await;
    }
    assert!(works(&executor).await);
    drop(release);
}

#[tokio::test]
async fn a_call_that_was_left_before_a_worker_was_free_is_not_begun() {
    let executor = executor("test:///default");
    let (release, hang) = mpsc::channel::<()>();
    let hang = Arc::new(Mutex::new(hang));
    let busy = (0..WORKERS).map(|_| {
        let hang = Arc::clone(&hang);
        executor.call("hang", Effort::Slow, move |_| Ok(hang.lock().unwrap().recv().is_ok()))
    });
    let mut busy: Vec<_> = busy.map(Box::pin).collect();
    let mut none_done = |cx: &mut std::task::Context<'_>| {
        use std::future::Future;
        std::task::Poll::Ready(busy.iter_mut().all(|call| call.as_mut().poll(cx).is_pending()))
    };
    assert!(std::future::poll_fn(&mut none_done).await);
    let (begun, was_begun) = mpsc::channel::<()>();
    let late = executor.call("come late", Effort::Slow, move |_| Ok(begun.send(()).is_ok()));
    assert!(tokio::time::timeout(Duration::ZERO, late).await.is_err());
    drop(release);
    assert!(works(&executor).await);
    assert!(was_begun.recv().is_err(), "the call was made nevertheless");
}

#[test]
fn a_worker_that_hung_keeps_its_place_if_no_thread_was_to_be_had_for_it() {
    let (queue, connections) = (Arc::new(Queue::default()), Connections::new("test:///default"));
    queue.replace_with(|_| false);
    (0..WORKERS).for_each(|_| queue.enter());
    let job = || Job::new(None, |_| Box::new(|| ()));
    for _ in 0..WORKERS {
        let (hung, ticket) = (Arc::clone(&queue), Arc::new(Mutex::new(None::<Ticket>)));
        let own = Arc::clone(&ticket);
        let gives_up = Job::new(None, move |_| {
            hung.give_up(own.lock().unwrap().as_ref().unwrap());
            Box::new(|| ())
        });
        *ticket.lock().unwrap() = queue.push(gives_up);
        queue.next().unwrap().run(&connections, &queue);
        queue.push(job()).unwrap();
        assert!(queue.next().is_some(), "the worker has to end");
    }
}

#[test]
fn a_worker_that_hung_ends_if_another_took_its_place() {
    let (queue, connections) = (Arc::new(Queue::default()), Connections::new("test:///default"));
    queue.replace_with(|queue| {
        queue.enter();
        true
    });
    (0..WORKERS).for_each(|_| queue.enter());
    let (hung, ticket) = (Arc::clone(&queue), Arc::new(Mutex::new(None::<Ticket>)));
    let own = Arc::clone(&ticket);
    let gives_up = Job::new(None, move |_| {
        hung.give_up(own.lock().unwrap().as_ref().unwrap());
        Box::new(|| ())
    });
    *ticket.lock().unwrap() = queue.push(gives_up);
    queue.next().unwrap().run(&connections, &queue);
    queue.push(Job::new(None, |_| Box::new(|| ()))).unwrap();
    assert!(queue.next().is_none(), "there is one worker too many");
    assert!(queue.next().is_some(), "and now there is one too few");
}

#[tokio::test]
async fn a_probe_that_is_left_by_its_caller_is_soon_followed_by_another() {
    let mut executor = executor("test:///default");
    let (release, hang) = mpsc::channel::<()>();
    for _ in 0..5 {
        executor.breaker().failed(Duration::ZERO, 1.0);
    }
    // The pause is over, and after the probe once more; the probe's deadline is not.
    executor.epoch -= Duration::from_secs(1);
    begin_and_leave(&executor, &Arc::new(Mutex::new(hang))).await;
    executor.epoch -= Duration::from_secs(1);
    assert!(works(&executor).await);
    drop(release);
}

#[tokio::test]
async fn calls_that_panic_are_their_callers_failures_and_cost_no_worker() {
    let executor = executor("test:///default");
    for _ in 0..2 * WORKERS {
        let failed = executor
            .call("count", Effort::Slow, |_| -> Result<(), _> { panic!("the {}th sheep", 7) })
            .await;
        let error = ghost_core::domain::AppError::from(failed.unwrap_err());
        assert_eq!(error.kind(), ghost_core::domain::ErrorKind::Internal);
        assert!(error.to_string().contains("attempt to count: the 7th sheep"), "{error}");
    }
    assert!(works(&executor).await);
}

#[tokio::test]
async fn after_the_drop_no_worker_is_left_and_no_connection() {
    let connections = Arc::new(Connections::new("test:///default"));
    let executor = Executor::start(Arc::clone(&connections), LIMITS, Arc::new(Unobserved)).unwrap();
    assert!(works(&executor).await);
    let conn = Arc::downgrade(&connections.take().unwrap());
    drop(executor);
    assert_eq!(Arc::strong_count(&connections), 1);
    assert!(conn.upgrade().is_none());
}
