//! One file per noun.

pub(crate) mod certs;
pub(crate) mod completions;
pub(crate) mod debug;
pub(crate) mod doctor;
pub(crate) mod image;
pub(crate) mod log_level;
pub(crate) mod man;
pub(crate) mod node;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod version;
pub(crate) mod vm;
