//! Tests that need a process of their own: for its environment, to be killed, for a mount.

use std::process::{Command, Output};

/// Tells a test that it is in its own process.
const ALONE: &str = "GHOST_TEST_ALONE";

/// In a process of its own, the value that it was given.
pub(super) fn given() -> Option<String> {
    std::env::var(ALONE).ok()
}

/// The command that runs the test `name` of `module` again, and only that, with `value` given.
pub(super) fn command(module: &str, name: &str, value: &str) -> Command {
    let (_crate, module) = module.split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("{module}::{name}"), "--exact", "--nocapture", "--test-threads=1"]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command.env(ALONE, value);
    command
}

/// The process has run one test, and it passed.
#[track_caller]
pub(super) fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
}
