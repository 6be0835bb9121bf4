//! Generated code of Ghost's wire contracts, and nothing else.
//!
//! The sources are `proto/*.proto`; `tests/contract.rs` holds them against a checked-in copy.

/// `proto/agent.proto` and `proto/operations.proto`: commands to an agent, and what it says of itself.
pub mod agentpb {
    #![allow(clippy::all, missing_docs, rust_2018_idioms, reason = "generated")]
    tonic::include_proto!("agentpb");
}

/// `proto/control_plane*.proto`: what agents tell their control plane, and operators the reference.
pub mod ghost {
    /// The control plane.
    pub mod controlplane {
        /// What agents tell it.
        pub mod v1 {
            #![allow(clippy::all, missing_docs, rust_2018_idioms, reason = "generated")]
            tonic::include_proto!("ghost.controlplane.v1");
        }

        /// Its own command line's.
        pub mod admin {
            /// The first version.
            pub mod v1 {
                #![allow(clippy::all, missing_docs, rust_2018_idioms, reason = "generated")]
                tonic::include_proto!("ghost.controlplane.admin.v1");
            }
        }
    }
}

pub use ghost::controlplane::admin::v1 as admin;
pub use ghost::controlplane::v1 as controlplane;

/// The encoded `FileDescriptorSet` of the service `agentpb.AgentService`, for server reflection and the contract test.
pub const AGENT_DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agentpb.bin"));

/// That of the service `agentpb.OperationsService`.
pub const OPERATIONS_DESCRIPTOR: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/operations.bin"));

/// That of [`controlplane`].
pub const CONTROL_PLANE_DESCRIPTOR: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/control_plane.bin"));
