//! The calls that there are. Invariant: what a caller makes up is one of these names or [`UNKNOWN`], so that nobody makes series.

/// The label of every call that there is not.
pub(super) const UNKNOWN: &str = "unknown";

/// Services and their calls.
const SERVICES: [(&str, &[&str]); 4] = [
    (
        "agentpb.AgentService",
        &[
            "CreateVM",
            "DeleteVM",
            "StartVM",
            "StopVM",
            "GetVMStatus",
            "ListVMs",
            "GetNodeInfo",
            "WatchVMs",
            "ListImages",
            "PullImage",
            "UpdateImages",
            "RemoveImage",
            "VerifyImage",
        ],
    ),
    ("agentpb.OperationsService", &["GetHealth", "GetLogLevel", "SetLogLevel", "CollectDebug"]),
    ("grpc.health.v1.Health", &["Check", "List", "Watch"]),
    ("grpc.reflection.v1.ServerReflection", &["ServerReflectionInfo"]),
];

/// The name of the call at that path, `/service/call`.
pub(super) fn named(path: &str) -> &'static str {
    let known =
        path.strip_prefix('/').and_then(|path| path.split_once('/')).and_then(|(service, call)| {
            let (_, calls) = SERVICES.iter().find(|(name, _)| *name == service)?;
            calls.iter().find(|name| **name == call)
        });
    known.copied().unwrap_or(UNKNOWN)
}

/// Whether the requests of that path's service are answered by our own handlers.
pub(super) fn is_ours(path: &str) -> bool {
    path.starts_with("/agentpb.")
}

#[cfg(test)]
mod tests {
    use ghost_proto::{AGENT_DESCRIPTOR, OPERATIONS_DESCRIPTOR};
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_call_of_the_contract_has_its_name_and_all_others_have_one() {
        for descriptor in [AGENT_DESCRIPTOR, OPERATIONS_DESCRIPTOR] {
            let set = FileDescriptorSet::decode(descriptor).unwrap();
            for service in set.file.iter().flat_map(|file| &file.service) {
                for method in &service.method {
                    let path = format!("/agentpb.{}/{}", service.name(), method.name());
                    assert_eq!(named(&path), method.name(), "{path}");
                }
            }
        }
        for path in ["/agentpb.AgentService/Nothing", "/no.Such/CreateVM", "/", "", "CreateVM"] {
            assert_eq!(named(path), UNKNOWN, "{path}");
        }
    }
}
