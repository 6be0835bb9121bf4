//! The budgets, each beside its peer. Invariant: release binaries, freshly built, and a guest of now.

use crate::run::{self, Stages};
use crate::test;

/// Builds everything, measures, prints the table and the path of the numbers. `args` are ghost-bench's.
pub(crate) fn bench(stages: &mut Stages, args: &[String]) -> anyhow::Result<()> {
    let target = run::target_dir()?;
    stages.run("release build", || {
        let build = run::cargo(["build", "--quiet", "--release"]);
        build
            .args(["--package", "ghost-agent", "--package", "agentctl", "--package", "ghost-bench"])
            .wait()
    })?;
    let bench = test::Bench::prepare(stages, target.join("release"))?;
    let ghost_bench = run::command(target.join("release/ghost-bench"))
        .arg("--json")
        .arg(target.join("bench.json"))
        .args(args);
    stages.run("measure", || bench.arm(ghost_bench).wait())
}
