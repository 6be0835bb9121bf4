//! Entities and values. Invariant: a value that exists is valid; nothing downstream looks again.

pub mod backlog;
pub mod control;
pub mod error;
pub mod guest_config;
pub mod identity;
pub mod image;
pub mod origin;
pub mod record;
pub mod resources;
pub mod sighting;
pub mod validation;
pub mod vm;
pub mod vpn;

pub use error::{AppError, ErrorCode, ErrorKind, FieldViolation, cause};
pub use guest_config::{Metadata, SshKey, UserData};
pub use identity::{MacAddr, RequestId, VmId, VmName, VmRef};
pub use image::{
    Arch, BaseImage, CachedImage, Catalog, Checksum, Condition, DigestList, FetchStage, Fetching,
    Firmware, HashAlgorithm, HeldImage, Hold, ImageUsers, ListFormat, Proof, PublishedDigest,
    Signature, Template, TemplateName, Update, Verified, shown_url,
};
pub use origin::{CallId, Origin, TraceParent};
pub use record::{BootMoment, Change, Desired, Step, VmRecord, VmStage};
pub use resources::{
    Allocation, Budget, Bytes, Capacity, Gib, NodeResources, Overcommit, Reservation,
    ReservationRule, Reserve, ResourceInfo, Taken,
};
pub use sighting::{
    Definition, Kept, Observed, OffCause, PowerState, Sighting, Traffic, VmStatus, VmView,
};
pub use validation::Invalid;
pub use vm::{VmRequest, VmShape, VmSpec};
pub use vpn::{ApiReach, VpnFinding, VpnState, VpnStatus, is_in_vpn};
