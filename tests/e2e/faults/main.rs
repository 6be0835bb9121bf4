//! The fault matrix: each test stages one fault, in a lab of its own.
//!
//! Invariant: each test of a fault bears one paragraph of documentation of the form
//! `Fault: … Promise: … Result: …`, from which `docs/reliability.md` is made; and what the fault
//! left behind fails it, without a word in the test (`ghost_e2e::leaks`).
//!
//! A fault in ten lines:
//! ```text
//! /// Fault: QEMU is killed under a VM. Promise: 8. Result: status `error`, with the reason.
//! #[tokio::test]
//! async fn qemu_killed_under_a_vm() {
//!     let stage = Stage::with_guests().await;               // a lab, an agent, its API
//!     let vm = stage.create("faulty").await.unwrap();
//!     stage.lab.kill_qemu(&vm.id).await.unwrap();           // the fault
//!     let status = stage.becomes(&vm, "error", EVENT).await;
//!     assert!(!status.reason.is_empty());
//!     stage.delete(&vm).await.unwrap();
//!     stage.stop().await;
//! }
//! ```
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crashes;
mod crowd;
mod deaths;
mod harness;
mod health;
mod host;
mod hung;
mod libvirtd;
mod stage;
mod verbs;
mod vpn;
