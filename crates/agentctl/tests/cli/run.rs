//! Runs the binary with a clean environment.

use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;

/// What a run left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Standard error as JSON.
    pub(crate) fn error_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// The path of the binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_agentctl");
/// Variables that would change what the binary does.
pub(crate) const VARIABLES: [&str; 13] = [
    "AGENTCTL_ADDR",
    "AGENTCTL_CERTS",
    "AGENTCTL_CA",
    "AGENTCTL_CERT",
    "AGENTCTL_KEY",
    "AGENTCTL_SERVER_NAME",
    "AGENTCTL_TIMEOUT",
    "AGENTCTL_OUTPUT",
    "GHOST_AGENT_SOCKET",
    "GHOST_API_KEY",
    "GHOST_REQUEST_ID",
    "TRACEPARENT",
    "NO_COLOR",
];

/// `agentctl` with a minute to live.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command.args(args).timeout(Duration::from_secs(60));
    command
}

/// Runs `agentctl ARGS` without a terminal.
pub(crate) fn agentctl(args: &[&str]) -> Outcome {
    finish(command(args))
}

/// Runs `agentctl --socket SOCKET ARGS`.
pub(crate) fn on_socket(socket: &Path, args: &[&str]) -> Outcome {
    let mut all = vec!["--socket", socket.to_str().unwrap()];
    all.extend(args);
    agentctl(&all)
}

/// Runs `command` to its end.
pub(crate) fn finish(mut command: Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or_else(|| panic!("killed: {output:?}")),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
