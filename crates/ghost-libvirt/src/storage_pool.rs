//! Disks and seeds, as volumes of one of libvirt's storage pools.
//!
//! Invariant: a volume's name follows from the VM's id alone; no other volume is touched, and
//! the base image is only ever referred to.

pub(crate) mod volumes;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use ghost_core::domain::{AppError, BaseImage, Bytes, Gib, VmId};
use ghost_core::ports::{FoundVolumes, PoolSpace, PortResult, Storage};

use crate::executor::{Effort, Executor};
use crate::failure::Failure;
use crate::sys::Conn;
use crate::xml::Element;

/// The storage port.
#[derive(Debug)]
pub(crate) struct StoragePool {
    pub(crate) calls: Arc<Executor>,
    pub(crate) pool: Arc<str>,
}

fn overlay_name(id: VmId) -> String {
    format!("ghost-{id}.qcow2")
}

fn seed_name(id: VmId) -> String {
    format!("ghost-{id}-seed.iso")
}

/// A sparse qcow2 of today's version over `base`; libvirt would take version 0.10 otherwise.
fn overlay_xml(id: VmId, base: &str, size: Gib) -> Element {
    let target = volumes::target("qcow2").child(Element::new("compat").text("1.1"));
    let backing = Element::new("backingStore")
        .child(Element::new("path").text(base))
        .child(Element::new("format").attr("type", "qcow2"));
    volumes::volume(&overlay_name(id), size.bytes()).child(target).child(backing)
}

impl StoragePool {
    async fn remove(&self, id: VmId, what: &'static str, name: String) -> PortResult<()> {
        let pool = Arc::clone(&self.pool);
        self.calls
            .call_for(id, what, Effort::Slow, move |conn| {
                volumes::ensure_removed(&volumes::active_pool(conn, &pool)?, &name)
            })
            .await
            .map_err(|e| about(e, id))
    }
}

fn store_seed(conn: &Conn, pool: &str, id: VmId, seed: &[u8]) -> Result<PathBuf, Failure> {
    let pool = volumes::active_pool(conn, pool)?;
    let size = Bytes(u64::try_from(seed.len()).unwrap_or(u64::MAX));
    let name = seed_name(id);
    let volume =
        volumes::create(&pool, &name, &volumes::volume(&name, size).child(volumes::target("raw")))?;
    if let Err(error) = volume.upload(conn, seed) {
        // Half a seed helps nobody; the caller's undo removes it if this can't.
        let _ = volume.delete();
        return Err(error.into());
    }
    Ok(volume.path()?)
}

#[async_trait]
impl Storage for StoragePool {
    async fn create_overlay(&self, id: VmId, base: &BaseImage, size: Gib) -> PortResult<PathBuf> {
        let xml = overlay_xml(id, &base.path.to_string_lossy(), size);
        let pool = Arc::clone(&self.pool);
        let create = move |conn: &Conn| {
            let pool = volumes::active_pool(conn, &pool)?;
            Ok(volumes::create(&pool, &overlay_name(id), &xml)?.path()?)
        };
        self.calls
            .call_for(id, "make the VM's disk", Effort::Slow, create)
            .await
            .map_err(|e| about(e, id))
    }

    async fn ensure_no_overlay(&self, id: VmId) -> PortResult<()> {
        self.remove(id, "remove the VM's disk", overlay_name(id)).await
    }

    async fn store_seed(&self, id: VmId, seed: &[u8]) -> PortResult<PathBuf> {
        let (pool, seed) = (Arc::clone(&self.pool), seed.to_vec());
        let store = move |conn: &Conn| store_seed(conn, &pool, id, &seed);
        self.calls
            .call_for(id, "store the VM's seed", Effort::Slow, store)
            .await
            .map_err(|e| about(e, id))
    }

    async fn ensure_no_seed(&self, id: VmId) -> PortResult<()> {
        self.remove(id, "remove the VM's seed", seed_name(id)).await
    }

    async fn find(&self, id: VmId) -> PortResult<FoundVolumes> {
        let pool = Arc::clone(&self.pool);
        let find = move |conn: &Conn| {
            let pool = volumes::active_pool(conn, &pool)?;
            Ok(FoundVolumes {
                disk: volumes::path_of(&pool, &overlay_name(id))?,
                seed: volumes::path_of(&pool, &seed_name(id))?,
            })
        };
        // The pool may have to be read anew.
        self.calls
            .ask("look for the VM's volumes", Effort::Slow, find)
            .await
            .map_err(|e| about(e, id))
    }

    async fn space(&self) -> PortResult<PoolSpace> {
        let pool = Arc::clone(&self.pool);
        let space = move |conn: &Conn| volumes::space(&volumes::active_pool(conn, &pool)?);
        self.calls
            .ask("measure the storage pool", Effort::Quick, space)
            .await
            .map_err(AppError::from)
    }
}

fn about(error: Failure, id: VmId) -> AppError {
    AppError::from(error).with("vm_id", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_names_its_backing_format_and_its_exact_size() {
        let id = VmId::generate();
        let xml = overlay_xml(id, "/images/<base>.qcow2", Gib::within(1..=20, 10).unwrap())
            .render()
            .unwrap();
        let read = roxmltree::Document::parse(&xml).unwrap();
        let text = |name: &str| {
            read.descendants().find(|n| n.has_tag_name(name)).and_then(|n| n.text()).unwrap()
        };
        assert_eq!(text("name"), format!("ghost-{id}.qcow2"));
        assert_eq!(text("capacity"), (10u64 << 30).to_string());
        assert_eq!(text("path"), "/images/<base>.qcow2");
        assert_eq!(text("compat"), "1.1");
        let formats =
            read.descendants().filter(|n| n.has_tag_name("format")).map(|n| n.attribute("type"));
        assert_eq!(formats.collect::<Vec<_>>(), [Some("qcow2"), Some("qcow2")]);
    }
}
