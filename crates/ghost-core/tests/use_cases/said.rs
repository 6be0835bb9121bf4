//! What the log is told of things that are looked at again and again.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::hearing::Hearing;
use crate::rig::{Rig, by_name};
use ghost_core::application::Limits;
use ghost_core::testing::samples;
use tracing::field::{Field, Visit};

/// Keeps the messages of warnings and errors.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn of(&self, part: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|message| message.contains(part)).count()
    }
}

impl Visit for Heard {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_libvirt_fails_the_log_says_so_once_and_once_that_it_is_over() {
    let heard = Heard::default();
    let _log = tracing::subscriber::set_default(Hearing(heard.clone()));
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    let spare = rig.vm("spare").await.unwrap().id;
    rig.world.faults.fail_always("kept");
    let _watch = rig.watch();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((heard.of("cannot compare"), heard.of("libvirt is back")), (1, 0));
    rig.world.faults.heal();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((heard.of("cannot compare"), heard.of("libvirt is back")), (1, 1));
    rig.world.faults.fail_always("kept");
    rig.world.undefine(spare);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((heard.of("cannot compare"), heard.of("libvirt is back")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_domain_in_no_record_is_told_once() {
    let first = Rig::new();
    let lost = first.vm("web").await.unwrap().id;
    let heard = Heard::default();
    let _log = tracing::subscriber::set_default(Hearing(heard.clone()));
    first.world.lose_record(lost);
    let next = Rig::on(first.world.clone(), Limits::default());
    next.create.run(samples::spec("web"), &samples::origin("r")).await.unwrap();
    for _ in 0..3 {
        next.reconcile.run().await.unwrap();
        assert_eq!(heard.of("is in no record, and its name"), 1);
    }
    next.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    next.reconcile.run().await.unwrap();
    assert_eq!(heard.of("was made anew"), 1);
}
