//! The mark: an element in the domain's metadata that says that the agent made it.
//!
//! Invariant: a domain is ours if and only if it carries the mark **and** the mark names the
//! domain's own UUID. A copy of one of our domains (virt-clone keeps the metadata) is not ours.

use ghost_core::domain::{Metadata, TemplateName, VmId, VmName};

use crate::failure::Failure;
use crate::sys::{Conn, Domain, LibvirtError};
use crate::xml::Element;

/// The XML namespace of the mark.
pub(crate) const NAMESPACE: &str = "https://ghost.cloud/agent/1";

/// What the mark says, for whoever reads `virsh dumpxml`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark<'a> {
    pub(crate) id: VmId,
    pub(crate) name: &'a VmName,
    pub(crate) template: &'a TemplateName,
    pub(crate) base: Option<&'a str>,
    pub(crate) labels: &'a Metadata,
}

impl Mark<'_> {
    /// The mark as the one child of the domain's `<metadata>`.
    pub(crate) fn element(&self) -> Element {
        let labels = self
            .labels
            .iter()
            .map(|(key, value)| Element::new("ghost:label").attr("key", key).text(value));
        Element::new("ghost:vm")
            .attr("xmlns:ghost", NAMESPACE)
            .attr("id", self.id)
            .attr("created-by", concat!("ghost-agent/", env!("CARGO_PKG_VERSION")))
            .child(Element::new("ghost:name").text(self.name))
            .child(Element::new("ghost:template").text(self.template))
            .children(self.base.map(|base| Element::new("ghost:base").text(base)))
            .children(labels)
    }
}

/// Whether the domain is ours.
pub(crate) fn is_ours(domain: &Domain) -> Result<bool, LibvirtError> {
    let id = VmId::from(domain.uuid()?);
    match domain.metadata(NAMESPACE) {
        Ok(mark) => Ok(names(&mark, id)),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The VM's domain, if there is one.
///
/// # Errors
/// [`Failure::NotOurs`] if the UUID belongs to a domain that we did not make.
pub(crate) fn find(conn: &Conn, id: VmId) -> Result<Option<Domain>, Failure> {
    let domain = match conn.domain(id.as_uuid()) {
        Ok(domain) => domain,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match is_ours(&domain) {
        Ok(true) => Ok(Some(domain)),
        // It was undefined in between; libvirt says so in the same words as for a missing mark.
        Ok(false) if conn.domain(id.as_uuid()).is_err_and(|e| e.is_missing()) => Ok(None),
        Ok(false) => Err(Failure::NotOurs(id)),
        Err(error) => Err(error.into()),
    }
}

/// The mark is read without its namespace: libvirt hands the element out as it was written.
fn names(mark: &str, id: VmId) -> bool {
    roxmltree::Document::parse(mark)
        .ok()
        .and_then(|mark| mark.root_element().attribute("id")?.parse().ok())
        .is_some_and(|marked: VmId| marked == id)
}

#[cfg(test)]
mod tests {
    use ghost_core::domain::validation::Violations;

    use super::*;

    fn mark_of(id: VmId) -> String {
        let labels = Metadata::parse(
            [("team".to_owned(), "<a> & \"b\"".to_owned())],
            &mut Violations::default(),
        );
        let (name, template) = ("web-1".parse().unwrap(), "debian-12".parse().unwrap());
        let mark =
            Mark { id, name: &name, template: &template, base: Some("/base"), labels: &labels };
        mark.element().render().unwrap()
    }

    #[test]
    fn the_mark_names_its_own_domain_and_no_other() {
        let id = VmId::generate();
        assert!(names(&mark_of(id), id));
        assert!(!names(&mark_of(VmId::generate()), id));
        assert!(!names("<ghost:vm xmlns:ghost='https://ghost.cloud/agent/1'/>", id));
        assert!(!names("nonsense", id));
    }

    #[test]
    fn labels_are_readable_in_the_mark() {
        let mark = mark_of(VmId::generate());
        let read = roxmltree::Document::parse(&mark).unwrap();
        let label = read.descendants().find(|n| n.has_tag_name((NAMESPACE, "label"))).unwrap();
        assert_eq!((label.attribute("key"), label.text()), (Some("team"), Some("<a> & \"b\"")));
    }
}
