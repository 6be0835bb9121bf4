//! Tells the program which commit and target it was built from.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../../.git/HEAD");
    println!("cargo::rerun-if-changed=../../.git/refs/heads");
    let git = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = git.ok().filter(|o| o.status.success()).map(|o| o.stdout);
    let commit = commit.and_then(|out| String::from_utf8(out).ok()).unwrap_or_default();
    let commit = if commit.trim().is_empty() { "unknown" } else { commit.trim() };
    let target = std::env::var("TARGET").unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    println!("cargo::rustc-env=GHOST_VERSION={version} (commit {commit}, {target})");
}
