//! The budgets, each beside its peer. Invariant: release binaries, freshly built, and a guest of now.

use crate::run::{self, Stages};
use crate::test;

/// Builds everything, measures, prints the table and the path of the numbers.
pub(crate) fn bench(stages: &mut Stages, rounds: u32, verdict: OnOver) -> anyhow::Result<()> {
    let target = run::target_dir()?;
    stages.run("release build", || {
        let build = run::cargo(["build", "--quiet", "--release"]);
        build
            .args(["--package", "ghost-agent", "--package", "agentctl", "--package", "ghost-bench"])
            .wait()
    })?;
    let bench = test::Bench::prepare(stages, target.join("release"))?;
    let ghost_bench = run::command(target.join("release/ghost-bench"))
        .args(["--rounds", &rounds.to_string(), "--json"])
        .arg(target.join("bench.json"));
    let ghost_bench = match verdict {
        OnOver::Tell => ghost_bench,
        OnOver::Fail => ghost_bench.arg("--enforce"),
    };
    stages.run("measure", || bench.arm(ghost_bench).wait())
}

/// What a budget that is not kept means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnOver {
    /// The table says so.
    Tell,
    /// The bench fails too.
    Fail,
}
