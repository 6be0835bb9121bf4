//! Which crate may know which. Invariant: every edge between crates of the workspace is in [`MAY_KNOW`], and
//! ghost-core knows nothing that does I/O. Source: the layout in docs/architecture.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::run;

/// Each crate of the workspace and the others it may name.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("ghost-core", &[]),
    ("ghost-proto", &[]),
    ("ghost-scrub", &[]),
    ("ghost-libvirt", &["ghost-core"]),
    ("ghost-host", &["ghost-core"]),
    ("ghost-door", &[]),
    (
        "ghost-agent",
        &["ghost-core", "ghost-proto", "ghost-libvirt", "ghost-host", "ghost-door", "ghost-scrub"],
    ),
    ("ghost-api", &["ghost-core", "ghost-proto", "ghost-door"]),
    ("agentctl", &["ghost-proto", "ghost-scrub"]),
    ("ghost-e2e", &["ghost-core", "ghost-proto"]),
    ("ghost-otlp", &[]),
    ("ghost-bench", &["ghost-core", "ghost-proto", "ghost-e2e", "ghost-otlp"]),
    ("xtask", &[]),
];

/// What any crate's tests may know, and nothing shipped.
const FOR_TESTS: &[&str] = &["ghost-otlp"];

/// What ghost-core may take from outside: data, ids, errors, and traits. No transport, no runtime, no libvirt.
const CORE_MAY_TAKE: &[&str] = &[
    "async-trait",
    // Only with the feature "testing".
    "fastrand",
    "futures-util",
    "jiff",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "tokio",
    "tracing",
    "url",
    "uuid",
];

/// The parts of tokio that need no runtime.
const CORE_MAY_TAKE_OF_TOKIO: &[&str] = &["sync"];

/// A crate of the workspace.
#[derive(Debug)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug)]
struct Dependency {
    name: String,
    kind: Kind,
    features: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Linked into what is shipped, or run to build it.
    Shipped,
    /// For tests, examples and benches only.
    Dev,
}

/// Reads the workspace as it is and fails with every edge that is not drawn.
pub(crate) fn check() -> anyhow::Result<()> {
    let found = violations(&packages(&run::metadata()?)?);
    if found.is_empty() {
        return Ok(());
    }
    bail!(
        "{} edge(s) that the design does not draw:\n  {}\nremedy: invert the dependency behind a port of ghost-core",
        found.len(),
        found.join("\n  ")
    )
}

fn violations(packages: &[Package]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    packages.iter().flat_map(|package| forbidden(package, &ours)).collect()
}

fn forbidden(package: &Package, ours: &BTreeSet<&str>) -> Vec<String> {
    let Some((name, allowed)) = MAY_KNOW.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!("{} is not in the table of layers", package.name)];
    };
    let edges = package
        .dependencies
        .iter()
        .filter(|to| ours.contains(to.name.as_str()) && !allowed.contains(&to.name.as_str()))
        // A crate's tests may name the crate itself, to switch on its feature "testing".
        .filter(|to| !(to.name == package.name && to.kind == Kind::Dev))
        .filter(|to| !(FOR_TESTS.contains(&to.name.as_str()) && to.kind == Kind::Dev))
        .map(|to| format!("{name} -> {}", to.name));
    let outside = package
        .dependencies
        .iter()
        .filter(|to| {
            *name == "ghost-core" && to.kind == Kind::Shipped && !ours.contains(to.name.as_str())
        })
        .filter_map(not_for_core);
    edges.chain(outside).collect()
}

/// Why ghost-core may not have this external dependency, if it may not.
fn not_for_core(to: &Dependency) -> Option<String> {
    if !CORE_MAY_TAKE.contains(&to.name.as_str()) {
        return Some(format!("ghost-core -> {} (external)", to.name));
    }
    let excess: Vec<_> = to
        .features
        .iter()
        .filter(|feature| to.name == "tokio" && !CORE_MAY_TAKE_OF_TOKIO.contains(&feature.as_str()))
        .map(String::as_str)
        .collect();
    (!excess.is_empty()).then(|| format!("ghost-core -> tokio with {}", excess.join(", ")))
}

fn packages(metadata: &Value) -> anyhow::Result<Vec<Package>> {
    list(metadata, "packages")?
        .iter()
        .map(|package| {
            Ok(Package {
                name: text(package, "name")?,
                dependencies: list(package, "dependencies")?
                    .iter()
                    .map(dependency)
                    .collect::<anyhow::Result<_>>()?,
            })
        })
        .collect()
}

fn dependency(value: &Value) -> anyhow::Result<Dependency> {
    let features = list(value, "features")?;
    Ok(Dependency {
        name: text(value, "name")?,
        kind: if value["kind"] == "dev" { Kind::Dev } else { Kind::Shipped },
        features: features.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

fn list<'a>(value: &'a Value, key: &str) -> anyhow::Result<&'a [Value]> {
    value[key]
        .as_array()
        .map(Vec::as_slice)
        .with_context(|| format!("cargo metadata has no list '{key}'"))
}

fn text(value: &Value, key: &str) -> anyhow::Result<String> {
    value[key]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("cargo metadata has no text '{key}'"))
}

#[cfg(test)]
mod tests;
