//! Entities and values. Invariant: a value that exists is valid; nothing downstream looks again.

pub mod error;
pub mod guest_config;
pub mod identity;
pub mod image;
pub mod resources;
pub mod validation;
pub mod vm;

pub use error::{AppError, ErrorCode, ErrorKind, FieldViolation};
pub use guest_config::{Metadata, SshKey, UserData};
pub use identity::{MacAddr, RequestId, VmId, VmName, VmRef};
pub use image::{Arch, BaseImage, Catalog, Checksum, Template, TemplateName};
pub use resources::{
    Allocation, Budget, Bytes, Capacity, Gib, Overcommit, Reservation, ReservationRule, Reserve,
};
pub use validation::Invalid;
pub use vm::{
    Desired, Observed, PowerState, Sighting, Step, VmRecord, VmRequest, VmShape, VmSpec, VmStage,
    VmStatus, VmView,
};
