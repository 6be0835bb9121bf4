//! The budgets, each beside its peer. Invariant: release binaries, freshly built, and a guest of now.

use crate::guest::{self, Guest};
use crate::run::{self, Stages};
use crate::test;

/// Builds everything, measures, prints the table and the path of the numbers. `args` are ghost-bench's.
pub(crate) fn bench(stages: &mut Stages, args: &[String]) -> anyhow::Result<()> {
    let target = run::target_dir()?;
    stages.run("release build", || {
        let build = run::cargo(["build", "--quiet", "--release"]);
        build
            .args(["--package", "ghost-agent", "--package", "agentctl"])
            .args(["--package", "ghost-api", "--package", "ghost-bench"])
            .wait()
    })?;
    let bench = test::Bench::prepare(stages, target.join("release"))?;
    let ghost_bench = run::command(target.join("release/ghost-bench"))
        .arg("--json")
        .arg(target.join("bench.json"))
        .args(args);
    let ghost_bench = if needs_debian(args) {
        let debian = stages.run("guest debian12", || guest::ensure(Guest::Debian12))?;
        ghost_bench.env("GHOST_E2E_DEBIAN12", debian)
    } else {
        ghost_bench
    };
    stages.run("measure", || bench.arm(ghost_bench).wait())
}

/// Whether the part about images is among what is measured: the first build of that guest takes minutes.
fn needs_debian(args: &[String]) -> bool {
    !args.iter().any(|arg| ["creates", "load", "plane"].iter().any(|other| arg.ends_with(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_boots_a_debian_waits_for_its_build() {
        let needs =
            |args: &[&str]| needs_debian(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert!(needs(&[]) && needs(&["--only", "images"]) && needs(&["--rounds", "5"]));
        assert!(!needs(&["--only", "load"]) && !needs(&["--only=creates"]));
        assert!(!needs(&["--only", "plane"]));
    }
}
