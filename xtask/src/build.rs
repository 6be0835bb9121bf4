//! Release binaries in build/. Invariant: build/ only ever holds whole binaries, named by their target.

use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::run::{self, Stages};

const CARGO_ZIGBUILD: &str = "0.24.1";
const BINARIES: [&str; 2] = ["ghost-agent", "agentctl"];
const PACKAGES: [&str; 4] = ["--package", "ghost-agent", "--package", "agentctl"];

/// glibc 2.34: Ubuntu 22.04, Debian 12 and everything newer.
const ARM64: &str = "aarch64-unknown-linux-gnu";
const ARM64_GLIBC: &str = "aarch64-unknown-linux-gnu.2.34";

/// Binaries for this host, as `build/<name>`.
pub(crate) fn host(stages: &mut Stages) -> anyhow::Result<()> {
    stages.run("release build", || {
        run::cargo(["build", "--release", "--package", "ghost-agent", "--package", "agentctl"])
            .wait()?;
        collect(&run::target_dir()?.join("release"), "")
    })
}

/// Also those for arm64, as `build/<name>-aarch64`, with zig as the linker.
pub(crate) fn all(stages: &mut Stages) -> anyhow::Result<()> {
    host(stages)?;
    stages.run("arm64 tools", || {
        run::command("rustup").args(["target", "add", ARM64]).wait()?;
        run::ensure_tool("zigbuild", CARGO_ZIGBUILD)
    })?;
    stages.run("arm64 build", || {
        let aside = run::command(run::root().join("xtask/arm64-libs")).stdout()?;
        let build = run::cargo(["zigbuild", "--release", "--target", ARM64_GLIBC]).args(PACKAGES);
        aside
            .lines()
            .filter_map(|line| line.split_once('='))
            .fold(build, |build, (key, value)| build.env(key, value))
            .wait()?;
        collect(&run::target_dir()?.join(ARM64).join("release"), "-aarch64")
    })
}

fn collect(from: &Path, suffix: &str) -> anyhow::Result<()> {
    let to = run::root().join("build");
    fs::create_dir_all(&to).context("cannot make build/")?;
    for name in BINARIES {
        let (source, target) = (from.join(name), to.join(format!("{name}{suffix}")));
        fs::copy(&source, &target)
            .with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))?;
        println!("{}", target.display());
    }
    Ok(())
}
