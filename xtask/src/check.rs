//! What must hold before a test is worth running. Invariant: warnings are errors.

use crate::run::{self, Stages};
use crate::{layers, logging, reliability, rules};

const CARGO_DENY: &str = "0.20.2";

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Format, clippy, rustdoc, layers, errors in the log, rules.
    Usual,
    /// Also licences, banned crates and sources of all dependencies.
    Full,
}

/// All checks in order, the quick ones first.
pub(crate) fn check(stages: &mut Stages, depth: Depth) -> anyhow::Result<()> {
    stages.run("format", || run::cargo(["fmt", "--all", "--check"]).wait())?;
    stages.run("layers", layers::check)?;
    stages.run("errors in the log", logging::check)?;
    stages.run("table of faults", || reliability::reliability(reliability::Mode::Check))?;
    stages.run("rules and dashboard", rules::check)?;
    stages.run("clippy", || {
        run::cargo(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])
            .wait()
    })?;
    stages.run("clippy with fail points", || {
        let with = ["--package", "ghost-agent", "--features", "failpoints"];
        run::cargo(["clippy", "--quiet"]).args(with).args(["--", "-D", "warnings"]).wait()
    })?;
    stages.run("rustdoc", || {
        run::cargo(["doc", "--workspace", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings")
            .wait()
    })?;
    match depth {
        Depth::Usual => Ok(()),
        Depth::Full => stages.run("licences and sources", deny),
    }
}

/// Advisories are left out: their database needs a network that not every developer's machine has.
fn deny() -> anyhow::Result<()> {
    run::ensure_tool("deny", CARGO_DENY)?;
    run::cargo(["deny", "--workspace", "check", "licenses", "bans", "sources"]).wait()
}
