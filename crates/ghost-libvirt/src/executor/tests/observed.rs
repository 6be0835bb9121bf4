//! What is told of calls, and what calls tell.

use tracing::Instrument as _;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<(&'static str, CallOutcome, Duration)>>);

impl CallObserver for Told {
    fn call_ended(&self, call: &'static str, outcome: CallOutcome, took: Duration) {
        self.0.lock().unwrap().push((call, outcome, took));
    }
}

impl Told {
    fn take(&self) -> Vec<(&'static str, CallOutcome)> {
        let told = std::mem::take(&mut *self.0.lock().unwrap());
        told.into_iter().map(|(call, outcome, _)| (call, outcome)).collect()
    }
}

fn observed(uri: &str) -> (Executor, Arc<Told>) {
    let told = Arc::<Told>::default();
    let observer = Arc::clone(&told) as Arc<dyn CallObserver>;
    (Executor::start(Arc::new(Connections::new(uri)), LIMITS, observer).unwrap(), told)
}

const LOOK: &str = "observe the domains";
const CHANGE: &str = "start the domain";

#[tokio::test]
async fn each_call_is_told_once_by_its_name_and_with_its_end() {
    let (executor, told) = observed("test:///default");
    executor.call(LOOK, Effort::Slow, |_| Ok(())).await.unwrap();
    assert_eq!(told.take(), [("observe_domains", CallOutcome::Done)]);
    let failed = executor.call(LOOK, Effort::Slow, |conn| Ok(conn.network("no-such").map(drop)?));
    failed.await.unwrap_err();
    assert_eq!(told.take(), [("observe_domains", CallOutcome::Failed)]);
    executor.call("count", Effort::Slow, |_| Ok(())).await.unwrap();
    assert_eq!(told.take(), [("other", CallOutcome::Done)]);
    let panics = executor.call(LOOK, Effort::Slow, |_| -> Result<(), _> { panic!("as wanted") });
    panics.await.unwrap_err();
    assert_eq!(told.take(), [("observe_domains", CallOutcome::Other)]);
}

#[tokio::test]
async fn a_call_that_hangs_is_told_at_its_deadline_and_keeps_a_worker() {
    let (executor, told) = observed("test:///default");
    let (id, (release, hangs)) = (VmId::generate(), mpsc::channel::<()>());
    let hang = move |_: &Conn| {
        assert!(hangs.recv().is_err());
        Ok(())
    };
    executor.call_for(id, CHANGE, Effort::Quick, hang).await.unwrap_err();
    let (call, outcome, took) = told.0.lock().unwrap().pop().unwrap();
    assert_eq!((call, outcome), ("start_domain", CallOutcome::TimedOut));
    assert!(took >= LIMITS.quick, "{took:?}");
    assert_eq!(executor.workers().hung, 1);
    executor.call_for(id, CHANGE, Effort::Slow, |_| Ok(())).await.unwrap_err();
    assert_eq!(told.take(), [("start_domain", CallOutcome::Refused)]);
    drop(release);
    let end = executor.queue.until_finished(id);
    tokio::time::timeout(LIMITS.slow, end).await.expect("the call does not end");
    assert_eq!(executor.workers().hung, 0);
}

#[tokio::test]
async fn outages_are_told_and_then_refusals_while_the_breaker_is_open() {
    let (executor, told) = observed("test:///no/such/file.xml");
    assert_eq!(executor.breaker_state(), BreakerState::Closed);
    for _ in 0..5 {
        executor.call(LOOK, Effort::Slow, |_| Ok(())).await.unwrap_err();
    }
    assert_eq!(told.take(), [("observe_domains", CallOutcome::Unavailable); 5]);
    assert_eq!(executor.breaker_state(), BreakerState::Open);
    executor.call_for(VmId::generate(), CHANGE, Effort::Slow, |_| Ok(())).await.unwrap_err();
    assert_eq!(told.take(), [("start_domain", CallOutcome::Refused)]);
}

#[tokio::test]
async fn a_worker_is_busy_for_as_long_as_its_call_and_idle_otherwise() {
    let (executor, _) = observed("test:///default");
    let queue = Arc::clone(&executor.queue);
    let within = executor.call(LOOK, Effort::Slow, move |_| Ok(queue.workers()));
    let within = within.await.unwrap();
    assert_eq!((within.busy + within.idle, within.hung), (WORKERS, 0));
    assert!(within.busy >= 1, "{within:?}");
    let idle = async {
        while executor.workers().idle != WORKERS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMITS.slow, idle).await.expect("a worker stays busy");
}

/// What is logged, as text.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn what_is_logged_on_a_workers_thread_says_for_whom() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    // The workers' threads have no other than the process's.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let (executor, _) = observed("test:///default");
    let says = |_: &Conn| {
        tracing::info!("on the worker's thread");
        Ok(())
    };
    let caller = tracing::info_span!("call", request_id = "abc-1");
    executor.call(CHANGE, Effort::Slow, says).instrument(caller).await.unwrap();
    executor.call(CHANGE, Effort::Slow, says).await.unwrap();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("on the worker's")).collect();
    assert!(lines[0].contains("request_id=\"abc-1\""), "{log}");
    assert!(lines[0].contains("call=\"start_domain\""), "{log}");
    assert!(lines.len() == 2 && !lines[1].contains("request_id"), "{log}");
}
