//! Compiles `proto/*.proto` with protox, so that nobody needs protoc.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptor = protox::compile([root.join("agent.proto")], [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("agentpb.bin");
    std::fs::write(out, descriptor.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptor)?;
    Ok(())
}
