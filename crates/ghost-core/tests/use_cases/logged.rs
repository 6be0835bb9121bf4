//! What the log is told of a command: each step once, and errors whole.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use crate::hearing::Hearing;
use crate::rig::{Rig, by_name};
use ghost_core::application::StopMode;
use ghost_core::domain::AppError;
use ghost_core::testing::samples;
use tracing::field::{Field, Visit};

/// Keeps the steps that have ended, and the classes of errors that were handed over whole.
#[derive(Debug, Clone, Default)]
struct Heard {
    steps: Arc<Mutex<Vec<String>>>,
    codes: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    fn steps(&self) -> Vec<String> {
        std::mem::take(&mut *self.steps.lock().unwrap())
    }
}

impl Visit for Heard {
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "step" {
            self.steps.lock().unwrap().push(value.to_owned());
        }
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        assert_eq!(field.name(), "error");
        let code = value.downcast_ref::<AppError>().unwrap().code();
        self.codes.lock().unwrap().push(code.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn each_step_of_a_command_is_told_once() {
    let heard = Heard::default();
    let _log = tracing::subscriber::set_default(Hearing(heard.clone()));
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    let mut made = heard.steps();
    made.sort();
    assert_eq!(made, ["address", "admission", "define", "disk", "image", "lease", "seed", "start"]);
    let (web, origin) = (by_name("web"), samples::origin("r"));
    rig.stop.run(&web, StopMode::Force, &origin).await.unwrap();
    assert_eq!(heard.steps(), ["record", "power off", "record"]);
    rig.start.run(&web, &origin).await.unwrap();
    assert_eq!(heard.steps(), ["record", "start", "record", "lease"]);
    rig.delete.run(&web, &origin).await.unwrap();
    assert_eq!(
        heard.steps(),
        [
            "record",
            "remove domain",
            "remove seed",
            "remove disk",
            "release address",
            "remove record"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_hands_its_error_over_whole() {
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    let heard = Heard::default();
    let _log = tracing::subscriber::set_default(Hearing(heard.clone()));
    rig.world.faults.fail_always("save");
    rig.stop.run(&by_name("web"), StopMode::Force, &samples::origin("r")).await.unwrap_err();
    assert_eq!(heard.codes.lock().unwrap().len(), 1, "told by undo::give_up");
}
