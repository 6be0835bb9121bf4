//! Lines covered over crates/. Invariant: the agent that the end-to-end suite starts is instrumented too, so
//! that what only a real guest reaches is counted.

use std::path::Path;

use anyhow::Context;

use crate::run::{self, Stages};
use crate::test::{self, Bench};

const CARGO_LLVM_COV: &str = "0.9.1";

/// The requirement's figure, percent of lines.
const FLOOR: &str = "80";

/// Runs every suite instrumented and fails below [`FLOOR`].
pub(crate) fn coverage(stages: &mut Stages) -> anyhow::Result<()> {
    stages.run("cargo-llvm-cov", ensure_tools)?;
    // A folder of its own: instrumented objects would push the ordinary ones out.
    let target = run::target_dir()?.join("coverage");
    let bench = Bench::prepare(stages, target.join("debug"))?;
    let variables = instrumentation(&target)?;
    let instrumented = |child: run::Child| {
        variables.iter().fold(child, |child, (key, value)| child.env(key, value))
    };
    stages
        .run("clean", || instrumented(run::cargo(["llvm-cov", "clean", "--workspace"])).wait())?;
    // Of both, so that the one build does not replace what the other made.
    let fail_points = ["--features", "ghost-agent/failpoints"];
    stages.run("agent and agentctl", || instrumented(test::binaries()).args(fail_points).wait())?;
    stages.run("tests", || {
        let suites = run::cargo(["nextest", "run", "--workspace"]).args(fail_points);
        instrumented(bench.arm(suites)).wait()
    })?;
    stages.run("report", || {
        instrumented(run::cargo([
            "llvm-cov",
            "report",
            "--ignore-filename-regex",
            "(xtask|tests/e2e|tests/otlp|bench|target)/",
        ]))
        .args(["--fail-under-lines", FLOOR])
        .wait()
    })
}

fn ensure_tools() -> anyhow::Result<()> {
    run::ensure_tool("llvm-cov", CARGO_LLVM_COV)?;
    // Else cargo-llvm-cov stops and asks; a toolchain without rustup brings its own.
    if run::command("rustup").arg("--version").succeeds() {
        run::command("rustup").args(["component", "add", "llvm-tools"]).wait()?;
    }
    Ok(())
}

/// What `cargo llvm-cov show-env` sets for objects below `target`, as pairs.
fn instrumentation(target: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let shown = run::cargo(["llvm-cov", "show-env"]).env("CARGO_TARGET_DIR", target).stdout()?;
    let own = [("CARGO_TARGET_DIR".to_owned(), target.display().to_string())];
    own.into_iter().map(Ok).chain(shown.lines().map(pair)).collect()
}

fn pair(line: &str) -> anyhow::Result<(String, String)> {
    let (key, value) =
        line.split_once('=').with_context(|| format!("cargo llvm-cov show-env wrote '{line}'"))?;
    Ok((key.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_around_a_value_are_not_part_of_it() {
        let (key, value) = pair("RUSTFLAGS='-C instrument-coverage --cfg=coverage'").unwrap();
        assert_eq!(
            (key.as_str(), value.as_str()),
            ("RUSTFLAGS", "-C instrument-coverage --cfg=coverage")
        );
    }

    #[test]
    fn a_line_that_is_no_pair_is_refused() {
        assert!(pair("nonsense").is_err());
    }
}
