//! The use cases, one per file. Each takes the VM's lock, writes the ledger, then acts.

pub mod backoff;
pub mod control_plane;
pub mod create_vm;
pub mod delete_vm;
pub mod heartbeat;
pub mod images;
pub mod limits;
pub mod list_vms;
pub mod node;
pub mod reconcile;
pub mod registry;
pub mod report;
mod said;
pub mod start_vm;
mod steps;
pub mod stop_vm;
pub mod undo;
pub mod vm_status;
pub mod wait;
pub mod watch;
pub mod watch_vms;

pub use control_plane::{Control, Hurry, Link, LinkState};
pub use create_vm::{CreateVm, CreatedVm};
pub use delete_vm::DeleteVm;
pub use heartbeat::{Facts, Who};
pub use images::{ImageEntry, ImageLibrary, ImageRef, ImageStatus, Retention, Upkeep, UpkeepPlan};
pub use limits::{Limits, OnAddressTimeout};
pub use list_vms::{ListVms, Page, PageRequest};
pub use node::{Node, NodeInfo, NodeQuery};
pub use reconcile::Reconcile;
pub use registry::Registry;
pub use start_vm::{StartVm, Started};
pub use stop_vm::{StopMode, StopVm, Stopped};
pub use vm_status::VmStatusQuery;
pub use watch::Watcher;
pub use watch_vms::{WatchEvent, WatchVms, Watching};
