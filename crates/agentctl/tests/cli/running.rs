//! A command that runs while a test talks to its agent.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::fake_agent::FakeAgent;
use crate::run::{BINARY, VARIABLES};

/// Long after anything that is expected.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command; killed when dropped.
pub(crate) struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    /// Starts `agentctl --socket SOCKET VERB MORE`, without a terminal.
    pub(crate) fn start(agent: &FakeAgent, verb: &[&str], more: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        for variable in VARIABLES {
            command.env_remove(variable);
        }
        command.arg("--socket").arg(agent.socket()).args(verb).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// The next line of standard output.
    pub(crate) fn line(&self) -> String {
        self.out.recv_timeout(PATIENCE).unwrap()
    }

    /// The next line of standard error.
    pub(crate) fn remark(&self) -> String {
        self.err.recv_timeout(PATIENCE).unwrap()
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    }

    /// What it printed until its end, and its exit code.
    pub(crate) fn end(mut self) -> (Vec<String>, Vec<String>, Option<i32>) {
        let rest = |lines: &Receiver<String>| {
            std::iter::from_fn(|| lines.recv_timeout(PATIENCE).ok()).collect()
        };
        let (out, err) = (rest(&self.out), rest(&self.err));
        (out, err, self.child.wait().unwrap().code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (told, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if told.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    lines
}
