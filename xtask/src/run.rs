//! Child processes and the stages they form. Invariant: every child has a deadline, and each stage is timed
//! whether it succeeds or not.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// Longer than the full matrix of faults takes on two cores, so that only a hang ever meets it; within it each
/// test has its own.
const DEADLINE: Duration = Duration::from_secs(5 * 3600);

/// A child process under a deadline, started in the workspace's root.
#[derive(Debug)]
pub(crate) struct Child(Command);

/// A child that runs `program`.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Child {
    // coreutils' timeout, in the foreground so that Ctrl-C still reaches the child.
    let mut command = Command::new("timeout");
    command
        .args(["--foreground", "--kill-after=10", &DEADLINE.as_secs().to_string()])
        .arg(program)
        .current_dir(root());
    Child(command)
}

/// A child that runs cargo, the one that runs this.
pub(crate) fn cargo<const N: usize>(args: [&str; N]) -> Child {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(args)
}

impl Child {
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.0.env(key, value);
        self
    }

    /// Runs to the end; its output is the user's to see. Fails when it fails.
    pub(crate) fn wait(mut self) -> anyhow::Result<()> {
        let status = self.0.status().with_context(|| format!("cannot start {}", self.line()))?;
        match status.code() {
            Some(0) => Ok(()),
            Some(124 | 137) => bail!("{} did not end within {} s", self.line(), DEADLINE.as_secs()),
            Some(code) => bail!("{} failed with exit code {code}", self.line()),
            None => bail!("{} was killed", self.line()),
        }
    }

    /// Runs to the end; its output is the user's to see, and so is how it ended.
    pub(crate) fn exit_code(mut self) -> anyhow::Result<std::process::ExitCode> {
        let status = self.0.status().with_context(|| format!("cannot start {}", self.line()))?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(std::process::ExitCode::FAILURE, std::process::ExitCode::from))
    }

    /// Runs to the end and returns what it wrote to stdout, as UTF-8. Fails when it fails.
    pub(crate) fn stdout(mut self) -> anyhow::Result<String> {
        let Output { status, stdout, .. } = self
            .0
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start {}", self.line()))?;
        ensure!(status.success(), "{} failed: {status}", self.line());
        String::from_utf8(stdout).with_context(|| format!("{} did not write UTF-8", self.line()))
    }

    /// Runs to the end; whether it succeeded, and everything that it said.
    pub(crate) fn report(mut self) -> anyhow::Result<(bool, String)> {
        let Output { status, stdout, stderr } =
            self.0.output().with_context(|| format!("cannot start {}", self.line()))?;
        let said = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        Ok((status.success(), said.concat()))
    }

    /// Whether it succeeds; silent.
    pub(crate) fn succeeds(mut self) -> bool {
        self.0
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// The command as one would type it, without the timeout around it.
    fn line(&self) -> String {
        self.0.get_args().skip(3).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    // Set by `cargo run`; the path at compile time would outlive a move of the checkout.
    std::env::var_os("CARGO_MANIFEST_DIR")
        .and_then(|xtask| Path::new(&xtask).parent().map(Path::to_path_buf))
        .unwrap_or_else(|| PathBuf::from("."))
}

/// Where cargo puts what it builds, absolute.
pub(crate) fn target_dir() -> anyhow::Result<PathBuf> {
    let metadata = metadata()?;
    let dir = metadata["target_directory"]
        .as_str()
        .context("cargo metadata names no target_directory")?;
    Ok(dir.into())
}

/// `cargo metadata` of the workspace's own packages.
pub(crate) fn metadata() -> anyhow::Result<serde_json::Value> {
    let json = cargo(["metadata", "--no-deps", "--format-version", "1"]).stdout()?;
    serde_json::from_str(&json).context("cargo metadata did not write JSON")
}

/// Installs a cargo subcommand into the ordinary cargo home when it is missing.
pub(crate) fn ensure_tool(subcommand: &str, version: &str) -> anyhow::Result<()> {
    if cargo([subcommand, "--version"]).succeeds() {
        return Ok(());
    }
    println!("    cargo-{subcommand} {version} is missing: it compiles for some minutes, once");
    cargo(["install", "--locked", "--quiet", "--version", version, &format!("cargo-{subcommand}")])
        .wait()
}

/// What ran, and for how long.
#[derive(Debug, Default)]
pub(crate) struct Stages(Vec<(String, Duration, Ended)>);

#[derive(Debug)]
enum Ended {
    Well,
    Badly,
}

impl Stages {
    /// Runs one stage, says its name before and its time after.
    pub(crate) fn run<T>(
        &mut self,
        name: &str,
        stage: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        println!("==> {name}");
        let started = Instant::now();
        let outcome = stage();
        let took = started.elapsed();
        println!("    {name}: {:.1} s", took.as_secs_f64());
        self.0.push((
            name.to_owned(),
            took,
            if outcome.is_ok() { Ended::Well } else { Ended::Badly },
        ));
        outcome.with_context(|| format!("stage '{name}' failed"))
    }

    /// The table of the stages since the last one, and their times; nothing when no stage ran.
    pub(crate) fn print_table(&mut self) {
        let stages = std::mem::take(&mut self.0);
        let Some(width) = stages.iter().map(|(name, ..)| name.len()).max() else {
            return;
        };
        println!();
        for (name, took, ended) in &stages {
            let mark = match ended {
                Ended::Well => "ok",
                Ended::Badly => "FAILED",
            };
            println!("{name:width$}  {:>8.1} s  {mark}", took.as_secs_f64());
        }
        let total: Duration = stages.iter().map(|(_, took, _)| *took).sum();
        println!("{:width$}  {:>8.1} s", "total", total.as_secs_f64());
    }
}
