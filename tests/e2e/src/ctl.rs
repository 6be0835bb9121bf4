//! `agentctl`, run as a user would.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::certs::{Certs, Identity};
use crate::nets::Place;
use crate::path_from;

/// Longest run; longer than the agent's own limits.
const LIMIT: Duration = Duration::from_secs(300);

/// How to reach an agent.
#[derive(Debug, Clone)]
pub struct Ctl {
    options: Vec<String>,
    /// What goes before the program.
    prefix: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

impl Ctl {
    /// Over mutual TLS, as the operator.
    ///
    /// # Errors
    /// If agentctl is not there.
    pub fn over_tls(address: SocketAddr, certs: &Certs) -> anyhow::Result<Self> {
        Self::over_tls_as(address, certs, &certs.operator())
    }

    /// Over mutual TLS, as somebody.
    ///
    /// # Errors
    /// If agentctl is not there.
    pub fn over_tls_as(address: SocketAddr, certs: &Certs, who: &Identity) -> anyhow::Result<Self> {
        path_from("GHOST_E2E_AGENTCTL")?;
        let text = |path: &Path| path.display().to_string();
        let options = vec![
            "--addr".to_owned(),
            address.to_string(),
            "--ca".to_owned(),
            text(&certs.ca()),
            "--cert".to_owned(),
            text(&who.cert),
            "--key".to_owned(),
            text(&who.key),
        ];
        Ok(Self { options, prefix: Vec::new(), variables: Vec::new() })
    }

    /// Over the unix socket.
    #[must_use]
    pub fn over_socket(socket: &Path) -> Self {
        let options = vec!["--socket".to_owned(), socket.display().to_string()];
        Self { options, prefix: Vec::new(), variables: Vec::new() }
    }

    /// Runs it somewhere else.
    #[must_use]
    pub fn at(mut self, place: &Place) -> Self {
        self.prefix = place.prefix();
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn with_variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Expects that name in the agent's certificate, whatever its address.
    #[must_use]
    pub fn expecting(mut self, name: &str) -> Self {
        self.options.extend(["--server-name".to_owned(), name.to_owned()]);
        self
    }

    /// Runs a command line to its end.
    ///
    /// # Errors
    /// If it can't be run or does not end.
    pub async fn run(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> anyhow::Result<Ended> {
        let program = path_from("GHOST_E2E_AGENTCTL")?;
        let mut command = match self.prefix.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())));
        command.args(&self.options).args(args).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, command.output())
            .await
            .context("agentctl does not end")??;
        Ok(Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command line that is to succeed, and reads its answer as JSON.
    ///
    /// # Errors
    /// With what it complained.
    pub async fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let ended = self.run(["-o", "json"].iter().chain(args)).await?;
        ensure!(
            ended.code == Some(0),
            "agentctl {args:?} ended with {:?}: {}",
            ended.code,
            ended.stderr
        );
        serde_json::from_str(&ended.stdout)
            .with_context(|| format!("agentctl {args:?}: {}", ended.stdout))
    }

    /// Creates the smallest VM of that name from template `mini`, and gives the answer.
    ///
    /// # Errors
    /// With what agentctl complained.
    pub async fn create(&self, name: &str) -> anyhow::Result<Value> {
        let args = [
            "vm",
            "create",
            name,
            "--vcpu",
            "1",
            "--ram",
            "1",
            "--disk",
            "10",
            "--template",
            "mini",
        ];
        self.json(&args).await
    }
}
