//! Fail points: where an agent built with the feature `failpoints` dies or holds still.
//!
//! A step is `<port>.<method>:<before|after>#<n>`, such as `ledger.save:after#2`: the second such
//! call of that agent. The first is meant where there is no number. An agent that was started with the
//! setting `FAILPOINT_TRACE` as `1` tells its [`steps`](crate::agent::Agent::steps).

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::{FileType, Mode, OFlags};

use crate::wait::eventually;

/// Longest way to a step, or from the line in the log to the opened FIFO.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The agent kills itself, as `kill -9` does.
    Kill,
    /// That operation waits until [`Agent::release`](crate::agent::Agent::release); others go on.
    Hold,
}

impl At {
    /// The value of `GHOST_FAILPOINT`.
    pub(crate) fn setting(self, step: &str) -> String {
        let what = match self {
            Self::Kill => "kill",
            Self::Hold => "hold",
        };
        let which = if step.contains('#') { "" } else { "#1" };
        format!("{step}{which}={what}")
    }
}

/// The FIFO of a home: its path, the file made.
pub(crate) fn fifo(home: &Path) -> anyhow::Result<PathBuf> {
    let path = home.join("failpoint.fifo");
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(path),
        Err(error) => Err(error).context(path.display().to_string()),
    }
}

/// Lets whoever reads the FIFO go on.
pub(crate) async fn release(home: &Path) -> anyhow::Result<()> {
    let path = fifo(home)?;
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits())?;
    eventually("the agent's opening of the FIFO", LIMIT, async || {
        // Without a reader this fails rather than waits.
        let opened = std::fs::OpenOptions::new().write(true).custom_flags(nonblocking).open(&path);
        Ok(opened.ok().map(drop))
    })
    .await
}
