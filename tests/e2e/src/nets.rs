//! A host between two networks: the VPN (100.64.0.0/10, interface `vpn0`, the host is 100.64.0.7, a
//! neighbour 100.64.0.1) and its owner's LAN (192.0.2.0/24, `lan0`, 192.0.2.7 and 192.0.2.1).
//!
//! Invariant: all of it is in network namespaces of its own, which end when the value is dropped or the
//! test's process dies (`nets/nets.sh`). Whoever is not root makes them in a user namespace.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::NamedTempFile;

use crate::root::succeeded;
use crate::wait::blocking_end;

/// Longest end.
const LIMIT: Duration = Duration::from_secs(10);

const SCRIPT: &str = include_str!("nets/nets.sh");

/// The two networks.
#[derive(Debug)]
pub struct Nets {
    outer: Option<Child>,
    host: Place,
    vpn: Place,
    lan: Place,
    _script: NamedTempFile,
}

/// Where a program can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A process that is there.
    process: u32,
}

impl Nets {
    /// Makes them.
    ///
    /// # Errors
    /// If the host does not let us, with what was said.
    pub fn make() -> anyhow::Result<Self> {
        let mut script = NamedTempFile::new()?;
        script.write_all(SCRIPT.as_bytes())?;
        let mut outer = Command::new("bash");
        outer.arg(script.path()).arg("outer").stdin(Stdio::piped()).stdout(Stdio::piped());
        let path = std::env::var("PATH").unwrap_or_default();
        outer.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        // It is to end by its standard input alone, not with a test that is killed as a group.
        let mut outer = outer.process_group(0).spawn()?;
        let mut said = String::new();
        BufReader::new(outer.stdout.take().context("no output")?).read_line(&mut said)?;
        let ids: Vec<u32> = said.split_whitespace().filter_map(|id| id.parse().ok()).collect();
        let [host, vpn, lan] = ids[..] else {
            anyhow::bail!(
                "no networks: they need unshare, nsenter (util-linux) and ip (iproute2), and as another user than root the right to user namespaces"
            )
        };
        let [host, vpn, lan] = [host, vpn, lan].map(|process| Place { process });
        Ok(Self { outer: Some(outer), host, vpn, lan, _script: script })
    }

    /// The host itself.
    #[must_use]
    pub fn host(&self) -> &Place {
        &self.host
    }

    /// Its neighbour in the VPN.
    #[must_use]
    pub fn in_vpn(&self) -> &Place {
        &self.vpn
    }

    /// Its neighbour in the owner's LAN.
    #[must_use]
    pub fn in_lan(&self) -> &Place {
        &self.lan
    }
}

impl Place {
    /// The words before a command line that is to be run here.
    #[must_use]
    pub fn prefix(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), "-t".to_owned(), self.process.to_string()];
        if !rustix::process::geteuid().is_root() {
            words.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        words.extend(["--net", "--"].map(str::to_owned));
        words
    }

    /// Runs iproute2's `ip` here.
    ///
    /// # Errors
    /// With what it complained.
    pub fn ip(&self, args: &[&str]) -> anyhow::Result<()> {
        let prefix = self.prefix();
        let (program, rest) = prefix.split_first().context("no prefix")?;
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command.args(rest).arg("ip").args(args).env("PATH", format!("{path}:/usr/sbin:/sbin"));
        succeeded(&format!("{command:?}"), &command.output()?).map(drop)
    }
}

impl Drop for Nets {
    fn drop(&mut self) {
        let Some(mut outer) = self.outer.take() else { return };
        drop(outer.stdin.take());
        let ended = blocking_end(outer, LIMIT).and_then(|status| {
            ensure!(status.success(), "{status}");
            Ok(())
        });
        if !std::thread::panicking() {
            assert!(ended.is_ok(), "the networks did not end well: {ended:?}");
        }
    }
}
