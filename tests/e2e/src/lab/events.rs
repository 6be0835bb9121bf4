//! What libvirt itself says of a lab's domains, as it happens: the measure of how soon an agent hears it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::Lab;
use crate::agent::follow;

/// The lifecycle events of all domains, from some moment on. Dropping it ends them.
#[derive(Debug)]
pub struct Events {
    seen: watch::Receiver<Vec<String>>,
    _virsh: Child,
}

impl Lab {
    /// Listens, from about now on: what comes at once may be missed.
    ///
    /// # Errors
    /// If virsh can't be run.
    pub fn events(&self) -> anyhow::Result<Events> {
        // virsh would keep its lines to itself until there are many.
        let mut virsh = Command::new("stdbuf");
        virsh.args(["-oL", "virsh", "-q", "-c", self.uri()]);
        virsh.args(["event", "--event", "lifecycle", "--loop"]);
        virsh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut virsh = virsh.spawn()?;
        let seen = follow([virsh.stdout.take().context("no output")?]);
        Ok(Events { seen, _virsh: virsh })
    }
}

impl Events {
    /// Waits for an event that has that word, such as `Stopped`.
    ///
    /// # Errors
    /// With all that came, if it did not come in time.
    pub async fn until(&self, word: &str, limit: Duration) -> anyhow::Result<()> {
        let mut seen = self.seen.clone();
        let waiting = seen.wait_for(|lines| lines.iter().any(|line| line.contains(word)));
        let came = tokio::time::timeout(limit, waiting).await;
        let came = came.is_ok_and(|came| came.is_ok());
        anyhow::ensure!(came, "no event '{word}' within {limit:?}: {:?}", self.seen.borrow());
        Ok(())
    }
}
