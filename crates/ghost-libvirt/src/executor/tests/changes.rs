//! Calls that change a VM: none runs ahead of an earlier one that was given up.

use super::*;

/// A call that hangs until its sender is dropped.
fn hang(release: mpsc::Receiver<()>) -> impl FnOnce(&Conn) -> Result<(), Failure> + Send {
    move |_| {
        assert!(release.recv().is_err());
        Ok(())
    }
}

async fn change(executor: &Executor, id: VmId) -> Result<(), Failure> {
    executor.call_for(id, "change it", Effort::Slow, |_| Ok(())).await
}

/// Whether the change is refused because of the call that hangs.
async fn waits_for_the_hung_one(executor: &Executor, id: VmId) -> bool {
    matches!(change(executor, id).await, Err(Failure::Unfinished { earlier: "hang" }))
}

/// Waits until the VM's call that was given up has ended.
async fn ended(executor: &Executor, id: VmId) {
    let end = async {
        while executor.queue.unfinished(id).is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMITS.slow, end).await.expect("the call does not end");
}

#[tokio::test]
async fn while_a_change_that_was_given_up_goes_on_no_other_of_its_vm_is_begun() {
    let executor = executor("test:///default");
    let (id, other) = (VmId::generate(), VmId::generate());
    let (release, hangs) = mpsc::channel::<()>();
    let hung = executor.call_for(id, "hang", Effort::Quick, hang(hangs)).await;
    assert!(matches!(hung, Err(Failure::TimedOut { what: "hang", .. })), "{hung:?}");
    for _ in 0..10 {
        assert!(waits_for_the_hung_one(&executor, id).await);
    }
    change(&executor, other).await.unwrap();
    assert!(works(&executor).await, "the refusals opened the breaker");
    drop(release);
    ended(&executor, id).await;
    change(&executor, id).await.unwrap();
}

#[tokio::test]
async fn a_change_that_was_left_by_its_caller_keeps_others_of_its_vm_away_too() {
    let executor = executor("test:///default");
    let id = VmId::generate();
    let (release, hangs) = mpsc::channel::<()>();
    let (begun, was_begun) = oneshot::channel();
    let hangs = hang(hangs);
    let left = executor.call_for(id, "hang", Effort::Slow, move |conn| {
        begun.send(()).unwrap();
        hangs(conn)
    });
    tokio::select! {
        biased;
        answer = left => panic!("it was to hang: {answer:?}"),
        begun = was_begun => begun.unwrap(),
    }
    assert!(waits_for_the_hung_one(&executor, id).await);
    drop(release);
    ended(&executor, id).await;
    change(&executor, id).await.unwrap();
}

#[tokio::test]
async fn a_change_that_was_given_up_before_it_was_begun_keeps_nobody_away() {
    let executor = executor("test:///default");
    let id = VmId::generate();
    let (release, hangs) = mpsc::channel::<()>();
    let hangs = Arc::new(Mutex::new(hangs));
    for _ in 0..MOST_WORKERS {
        begin_and_leave(&executor, &hangs).await;
    }
    let late = executor.call_for(id, "come late", Effort::Quick, |_| Ok(())).await;
    assert!(matches!(late, Err(Failure::TimedOut { what: "come late", .. })), "{late:?}");
    assert_eq!(executor.queue.unfinished(id), None);
    drop(release);
    change(&executor, id).await.unwrap();
}

#[tokio::test]
async fn a_change_that_fails_in_time_keeps_nobody_away() {
    let executor = executor("test:///default");
    let id = VmId::generate();
    let failed = executor
        .call_for(id, "fail", Effort::Slow, |conn| Ok(conn.network("no-such").map(drop)?));
    assert!(matches!(failed.await, Err(Failure::Failed { what: "fail", .. })));
    change(&executor, id).await.unwrap();
}

#[tokio::test]
async fn while_libvirt_is_known_to_be_away_nothing_is_changed_and_when_it_is_back_it_is() {
    let mut executor = executor("test:///default");
    let id = VmId::generate();
    executor.libvirt_is_lost("it went");
    assert!(matches!(change(&executor, id).await, Err(Failure::Resting(_))));
    // The pause is over: a look is a probe, a change is not.
    executor.epoch -= Duration::from_secs(1);
    assert!(matches!(change(&executor, id).await, Err(Failure::Resting(_))));
    executor.libvirt_is_back();
    change(&executor, id).await.unwrap();
    executor.libvirt_is_lost("it went again");
    executor.epoch -= Duration::from_secs(1);
    assert!(works(&executor).await);
    change(&executor, id).await.unwrap();
}

/// Fault: a call on a domain hangs, and its VM is to be cut off or deleted. Promise: 7. Result: it is cut all the same;
/// that is believed only once the call that hung has ended.
#[tokio::test]
async fn what_hangs_does_not_keep_the_cut_away_that_ends_it() {
    let executor = executor("test:///default");
    let id = VmId::generate();
    let (release, hangs) = mpsc::channel::<()>();
    let hung = executor.call_for(id, "hang", Effort::Quick, hang(hangs)).await;
    assert!(matches!(hung, Err(Failure::TimedOut { .. })), "{hung:?}");
    let in_vain = executor.cut_for(id, "cut", Effort::Slow, |_| Ok(())).await;
    assert!(matches!(in_vain, Err(Failure::Unfinished { earlier: "hang" })), "{in_vain:?}");
    let cut = move |_: &Conn| {
        drop(release);
        Ok(())
    };
    executor.cut_for(id, "cut", Effort::Slow, cut).await.unwrap();
    change(&executor, id).await.unwrap();
}
