//! Every test. Invariant: the suites get a freshly built agent, agentctl and guest, never what lay around.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::check::{self, Depth};
use crate::guest::{self, Guest};
use crate::run::{self, Stages};

/// How often each death of the agent is staged in full; once otherwise.
const FULL_ROUNDS: &str = "20";

/// What the end-to-end suite is told by its environment.
#[derive(Debug)]
pub(crate) struct Bench {
    guest: PathBuf,
    binaries: PathBuf,
}

/// The checks, then all suites: unit, property, contract (fake, libvirt's test driver, real
/// QEMU), end to end; in full also with a real distribution as the guest.
pub(crate) fn test(stages: &mut Stages, depth: Depth) -> anyhow::Result<()> {
    check::check(stages, depth)?;
    let tested = run::target_dir()?.join("tested");
    let bench = Bench::prepare(stages, tested.clone())?;
    stages.run("programs", || with_fail_points(&tested))?;
    let suites = bench.arm(run::cargo(["nextest", "run", "--workspace"]));
    match depth {
        Depth::Usual => stages.run("tests", || suites.wait())?,
        Depth::Full => {
            let debian = stages.run("guest debian12", || guest::ensure(Guest::Debian12))?;
            let suites = suites.args(["--profile", "full"]).env("GHOST_E2E_DEBIAN12", debian);
            let suites = suites.env("GHOST_E2E_ROUNDS", FULL_ROUNDS);
            stages.run("tests, all of them", || suites.wait())?;
        }
    }
    stages.run("documentation tests", || {
        run::cargo(["test", "--doc", "--workspace", "--quiet"]).wait()
    })
}

/// Builds the binaries, the agent so that the fault tests can let it die at each of its steps, and keeps
/// them apart: the suites' own build replaces them by ones without fail points.
fn with_fail_points(folder: &Path) -> anyhow::Result<()> {
    binaries().args(["--features", "ghost-agent/failpoints"]).wait()?;
    fs::create_dir_all(folder)?;
    for program in ["ghost-agent", "agentctl", "ghost-api"] {
        fs::copy(run::target_dir()?.join("debug").join(program), folder.join(program))
            .with_context(|| format!("cannot keep {program} in {}", folder.display()))?;
    }
    Ok(())
}

/// Builds the binaries that the end-to-end suite starts.
pub(crate) fn binaries() -> run::Child {
    let packages = ["ghost-agent", "agentctl", "ghost-api"].map(|name| ["--package", name]);
    run::cargo(["build", "--quiet"]).args(packages.concat())
}

impl Bench {
    /// Builds the guest; the programs will be in the folder `binaries`.
    pub(crate) fn prepare(stages: &mut Stages, binaries: PathBuf) -> anyhow::Result<Self> {
        let guest = stages.run("guest", || guest::ensure(Guest::Mini))?;
        Ok(Self { guest, binaries })
    }

    /// Tells a child where the guest and the binaries are.
    pub(crate) fn arm(&self, child: run::Child) -> run::Child {
        child
            .env("GHOST_E2E_GUEST", &self.guest)
            .env("GHOST_E2E_AGENT", self.binaries.join("ghost-agent"))
            .env("GHOST_E2E_AGENTCTL", self.binaries.join("agentctl"))
            .env("GHOST_E2E_API", self.binaries.join("ghost-api"))
    }
}
