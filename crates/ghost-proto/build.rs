//! Compiles `proto/*.proto` with protox, so that nobody needs protoc.

use std::path::{Path, PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let all =
        ["agent.proto", "operations.proto", "control_plane.proto", "control_plane_admin.proto"];
    tonic_prost_build::configure().compile_fds(protox::compile(all, [&root])?)?;
    write(&root, "agent.proto", &out.join("agentpb.bin"))?;
    write(&root, "operations.proto", &out.join("operations.bin"))?;
    write(&root, "control_plane.proto", &out.join("control_plane.bin"))
}

/// The descriptor of one published contract alone.
fn write(root: &Path, contract: &str, to: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let descriptor = protox::compile([contract], [root])?;
    Ok(std::fs::write(to, descriptor.encode_to_vec())?)
}
