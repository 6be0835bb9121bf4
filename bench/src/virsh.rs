//! Bare libvirt calls: one long-lived `virsh` that is told commands through its stdin, so that each
//! costs the call and no start of a process. Invariant: a command is over when both markers behind it
//! came back, one on each stream; whatever stderr held before its marker is the command's failure.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// Longest single command; starting a domain takes libvirt most, about 0.5 s.
const LIMIT: Duration = Duration::from_secs(60);

/// A `virsh` on the system's libvirtd.
#[derive(Debug)]
pub(crate) struct Virsh {
    _process: Child,
    commands: ChildStdin,
    stdout: Stream<ChildStdout>,
    stderr: Stream<ChildStderr>,
    told: u64,
}

/// What was read behind the last marker.
#[derive(Debug)]
struct Stream<R> {
    from: R,
    read: Vec<u8>,
}

impl Virsh {
    /// Starts it; it is connected when this returns.
    ///
    /// # Errors
    /// If it can't be started or reaches no libvirtd.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let mut process = Command::new("virsh")
            .args(["-q", "-c", "qemu:///system"])
            // Otherwise readline writes a history, and wraps what it echoes.
            .envs([("VIRSH_HISTSIZE", "0"), ("TERM", "dumb"), ("INPUTRC", "/dev/null")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C is ours to act on.
            .process_group(0)
            .spawn()
            .context("cannot start virsh; ./dev setup installs it")?;
        let mut virsh = Self {
            commands: process.stdin.take().context("virsh has no stdin")?,
            stdout: Stream::of(process.stdout.take().context("virsh has no stdout")?),
            stderr: Stream::of(process.stderr.take().context("virsh has no stderr")?),
            _process: process,
            told: 0,
        };
        virsh.run("connect qemu:///system").await?;
        Ok(virsh)
    }

    /// Runs one command and returns what it printed, with virsh's echo of the command around it.
    ///
    /// # Errors
    /// With what it complained.
    pub(crate) async fn run(&mut self, command: &str) -> anyhow::Result<String> {
        ensure!(!command.contains('\n'), "two commands in one: {command}");
        let ended = tokio::time::timeout(LIMIT, self.tell(command)).await;
        let (printed, complained) = ended
            .with_context(|| format!("virsh {command}: no end after {} s", LIMIT.as_secs()))?
            .with_context(|| format!("virsh {command}"))?;
        ensure!(complained.trim().is_empty(), "virsh {command}: {}", complained.trim());
        Ok(printed)
    }

    async fn tell(&mut self, command: &str) -> anyhow::Result<(String, String)> {
        self.told += 1;
        // virsh echoes its input with the quotes, so only what `echo` prints is the marker.
        let (asked, marker) =
            (format!("\"END\" \"{}.\"", self.told), format!("END {}.", self.told));
        let lines = format!("{command}\necho {asked}\necho --err {asked}\n");
        self.commands.write_all(lines.as_bytes()).await?;
        let printed = self.stdout.until(&marker).await?;
        let complained = self.stderr.until(&format!("error: {marker}\n")).await?;
        Ok((printed, complained))
    }
}

impl<R: AsyncRead + Unpin> Stream<R> {
    fn of(from: R) -> Self {
        Self { from, read: Vec::new() }
    }

    async fn until(&mut self, marker: &str) -> anyhow::Result<String> {
        loop {
            if let Some(text) = take_until(&mut self.read, marker.as_bytes()) {
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            let read = self.from.read_buf(&mut self.read).await?;
            ensure!(read > 0, "it ended: {}", String::from_utf8_lossy(&self.read).trim());
        }
    }
}

/// Removes everything to the marker's end, and returns what was before the marker.
fn take_until(read: &mut Vec<u8>, marker: &[u8]) -> Option<Vec<u8>> {
    let at = read.windows(marker.len()).position(|window| window == marker)?;
    let mut taken: Vec<u8> = read.drain(..at + marker.len()).collect();
    taken.truncate(at);
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_that_is_not_there_takes_nothing() {
        let mut read = b"echo \"END\" \"1.\" END 1".to_vec();
        assert_eq!(take_until(&mut read, b"END 1."), None);
        assert_eq!(read, b"echo \"END\" \"1.\" END 1");
    }

    #[test]
    fn what_follows_a_marker_is_left_for_the_next_command() {
        let mut read = b"one END 1.two END 2.three".to_vec();
        assert_eq!(take_until(&mut read, b"END 1.").as_deref(), Some(b"one ".as_slice()));
        assert_eq!(take_until(&mut read, b"END 2.").as_deref(), Some(b"two ".as_slice()));
        assert_eq!(read, b"three");
    }
}
