//! Volumes by name. Invariant: `create` and `ensure_removed` work whether or not libvirt knows of
//! the file: a pool forgets what it did not see being made.

use std::path::{Path, PathBuf};

use ghost_core::domain::Bytes;
use ghost_core::ports::PoolSpace;

use crate::failure::Failure;
use crate::sys::{Conn, LibvirtError, Pool, Volume};
use crate::xml::Element;

/// The pool, if it runs.
pub(crate) fn active_pool(conn: &Conn, name: &str) -> Result<Pool, Failure> {
    let pool = match conn.pool(name) {
        Ok(pool) => pool,
        Err(error) if error.is_missing() => return Err(Failure::NoPool(name.to_owned())),
        Err(error) => return Err(error.into()),
    };
    if pool.is_active()? { Ok(pool) } else { Err(Failure::PoolInactive(name.to_owned())) }
}

/// A volume of `size`; the rest is to be added.
pub(crate) fn volume(name: &str, size: Bytes) -> Element {
    Element::new("volume")
        .child(Element::new("name").text(name))
        .child(Element::new("capacity").attr("unit", "bytes").text(size.0))
}

/// A file that only root may read, and QEMU while it runs: libvirt lends it to QEMU's user.
pub(crate) fn target(format: &str) -> Element {
    Element::new("target")
        .child(Element::new("format").attr("type", format))
        .child(Element::new("permissions").child(Element::new("mode").text("0600")))
}

/// Makes a volume, in place of a leftover of the same name.
pub(crate) fn create(pool: &Pool, name: &str, xml: &Element) -> Result<Volume, Failure> {
    let xml =
        xml.render().map_err(|e| Failure::Xml { what: "the new volume", why: e.to_string() })?;
    ensure_removed(pool, name)?;
    Ok(pool.create_volume(&xml)?)
}

/// Removes a volume with its file, if there is one.
pub(crate) fn ensure_removed(pool: &Pool, name: &str) -> Result<(), Failure> {
    let Some(volume) = find(pool, name)? else { return Ok(()) };
    match volume.delete() {
        Err(error) if !error.is_missing() => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The volume of this name; looks for its file if libvirt does not know it.
pub(crate) fn find(pool: &Pool, name: &str) -> Result<Option<Volume>, Failure> {
    if let Some(volume) = known(pool, name)? {
        return Ok(Some(volume));
    }
    // What this agent may not look at, libvirt has to.
    if let Ok(false) = path(pool)?.join(name).try_exists() {
        return Ok(None);
    }
    pool.refresh()?;
    Ok(known(pool, name)?)
}

/// The path of the volume of this name, if its file is there: a pool goes on to remember a file that
/// somebody else removed.
pub(crate) fn path_of(pool: &Pool, name: &str) -> Result<Option<PathBuf>, Failure> {
    let Some(volume) = find(pool, name)? else { return Ok(None) };
    match volume.ensure_there() {
        Ok(()) => Ok(Some(volume.path()?)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn known(pool: &Pool, name: &str) -> Result<Option<Volume>, LibvirtError> {
    match pool.volume(name) {
        Ok(volume) => Ok(Some(volume)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The pool's folder.
pub(crate) fn path(pool: &Pool) -> Result<PathBuf, Failure> {
    let xml = pool.xml()?;
    text_of(&xml, "storage pool", &["target", "path"])?.map(PathBuf::from).ok_or_else(|| {
        Failure::Xml {
            what: "the storage pool",
            why: "it has no target path: it must be of a type that holds files, such as dir"
                .to_owned(),
        }
    })
}

/// The base image under the volume at `path`; `None` if it stands alone, or is not in a pool.
pub(crate) fn backing_of(conn: &Conn, path: &Path) -> Result<Option<PathBuf>, Failure> {
    match conn.volume(path) {
        Ok(volume) => {
            Ok(text_of(&volume.xml()?, "a volume", &["backingStore", "path"])?.map(PathBuf::from))
        }
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn text_of(xml: &str, what: &'static str, path: &[&str]) -> Result<Option<String>, Failure> {
    let document =
        roxmltree::Document::parse(xml).map_err(|e| Failure::Xml { what, why: e.to_string() })?;
    let step = |node: roxmltree::Node<'_, '_>, name: &&str| {
        node.children().find(|n| n.has_tag_name(*name)).map(|n| n.id())
    };
    let mut node = document.root_element();
    for name in path {
        match step(node, name).and_then(|id| document.get_node(id)) {
            Some(child) => node = child,
            None => return Ok(None),
        }
    }
    Ok(node.text().map(str::to_owned))
}

/// The size of the pool's file system: from the file system itself if this host sees it, because
/// libvirt only remembers what it saw last.
pub(crate) fn space(pool: &Pool) -> Result<PoolSpace, Failure> {
    if let Ok(fs) = rustix::fs::statvfs(path(pool)?) {
        return Ok(PoolSpace {
            total: Bytes(fs.f_blocks * fs.f_frsize),
            free: Bytes(fs.f_bavail * fs.f_frsize),
        });
    }
    let info = pool.info()?;
    Ok(PoolSpace { total: Bytes(info.capacity), free: Bytes(info.available) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_pools_and_not_one_of_its_permissions() {
        let xml = "<pool><source><path>/no</path></source><target><permissions/><path>/pool</path></target></pool>";
        assert_eq!(text_of(xml, "x", &["target", "path"]).unwrap().as_deref(), Some("/pool"));
        assert_eq!(text_of(xml, "x", &["backingStore", "path"]).unwrap(), None);
        assert!(text_of("<pool>", "x", &["target"]).is_err());
    }
}
