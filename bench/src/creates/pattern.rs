//! What the agent makes, taken down as it was made, so that others can be given the same. Invariant:
//! it is read with virsh from a VM that exists; nothing is assumed about how the agent describes one.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ghost_e2e::host::virsh;
use ghost_proto::agentpb::CreateVmResponse;
use roxmltree::Document;

/// The storage pool of the tests.
pub(crate) const POOL: &str = "default";

/// A VM of the agent's.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// Its id, which its volumes' names contain.
    pub(crate) id: String,
    /// Its address.
    pub(crate) address: String,
    /// The domain's name.
    pub(crate) domain: String,
    /// The network card's Ethernet address.
    pub(crate) mac: String,
    /// The domain's description, without the metadata by which the agent knows its own.
    pub(crate) xml: String,
    /// The base image's path.
    pub(crate) base: String,
    /// The disk's size, in bytes.
    pub(crate) capacity: String,
    /// A copy of the seed.
    pub(crate) seed: PathBuf,
}

impl Pattern {
    /// Takes down the VM that was just created; the copy of its seed goes into `folder`.
    pub(crate) async fn of(vm: &CreateVmResponse, folder: &Path) -> anyhow::Result<Self> {
        let (id, disk) = (&vm.vm_id, format!("ghost-{}.qcow2", vm.vm_id));
        let xml = virsh(&["dumpxml", "--inactive", id]).await?;
        let disk = virsh(&["vol-dumpxml", "--pool", POOL, &disk]).await?;
        let seed = folder.join("pattern-seed.iso");
        let seed_name = format!("ghost-{id}-seed.iso");
        let to = seed.to_str().context("a folder whose name is no UTF-8")?;
        virsh(&["vol-download", "--pool", POOL, &seed_name, to]).await?;
        let domain = Document::parse(&xml)?;
        let volume = Document::parse(&disk)?;
        Ok(Self {
            id: id.clone(),
            address: vm.ip_address.clone(),
            domain: text(&domain, &["name"])?,
            mac: mac(&domain)?,
            base: text(&volume, &["backingStore", "path"])?,
            capacity: text(&volume, &["capacity"])?,
            xml: without_metadata(&xml)?,
            seed,
        })
    }
}

fn text(document: &Document<'_>, path: &[&str]) -> anyhow::Result<String> {
    let mut node = document.root_element();
    for name in path {
        let child = node.children().find(|child| child.has_tag_name(*name));
        node = child.with_context(|| format!("libvirt's XML has no <{}>", path.join("><")))?;
    }
    node.text().map(str::to_owned).with_context(|| format!("an empty <{}>", path.join("><")))
}

fn mac(domain: &Document<'_>) -> anyhow::Result<String> {
    let mut macs = domain.descendants().filter(|node| node.has_tag_name("mac"));
    let address = macs.next().and_then(|mac| mac.attribute("address"));
    address.map(str::to_owned).context("the domain has no network card")
}

fn without_metadata(xml: &str) -> anyhow::Result<String> {
    let (before, rest) = xml.split_once("<metadata>").context("the domain has no metadata")?;
    let (_, after) = rest.split_once("</metadata>").context("metadata without an end")?;
    Ok(format!("{before}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_the_agents_own_is_cut_out() {
        let xml = "<domain><name>a</name><metadata>\n<x id='1'/></metadata><os/></domain>";
        assert_eq!(without_metadata(xml).unwrap(), "<domain><name>a</name><os/></domain>");
        assert!(without_metadata("<domain/>").is_err());
    }

    #[test]
    fn only_a_child_by_that_path_is_read() {
        let xml = "<volume><target><path>/disk</path></target><backingStore><path>/base</path></backingStore></volume>";
        let volume = Document::parse(xml).unwrap();
        assert_eq!(text(&volume, &["backingStore", "path"]).unwrap(), "/base");
        assert!(text(&volume, &["path"]).is_err());
    }
}
