//! Generated code of Ghost's wire contracts, and nothing else.
//!
//! The sources are `proto/*.proto`; `tests/contract.rs` holds them against a checked-in copy.

/// `proto/agent.proto`: commands to an agent.
pub mod agentpb {
    #![allow(clippy::all, missing_docs, rust_2018_idioms, reason = "generated")]
    tonic::include_proto!("agentpb");
}

/// The encoded `FileDescriptorSet` of [`agentpb`], for server reflection and the contract test.
pub const AGENT_DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agentpb.bin"));
