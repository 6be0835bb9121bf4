//! The mark: an element in the domain's metadata that says that the agent made it, and of what.
//!
//! Invariant: a domain is ours if and only if it carries the mark **and** the mark names the
//! domain's own UUID. A copy of one of our domains (virt-clone keeps the metadata) is not ours. What
//! the mark holds is enough to make a lost record anew. Of commands it names the one that caused the definition:
//! a later start or stop changes the ledger and not the mark.

use ghost_core::domain::{Definition, Kept, VmId, VmRecord, cause};
use roxmltree::{Document, Node};
use uuid::Uuid;

use crate::failure::Failure;
use crate::sys::{Conn, Domain, LibvirtError, MetadataOf};
use crate::xml::{self, Element};

/// The XML namespace of the mark.
pub(crate) const NAMESPACE: &str = "https://ghost.cloud/agent/1";

/// What the mark says: its attributes, names and labels for whoever reads `virsh dumpxml`, the
/// record for the agent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark<'a> {
    pub(crate) agent: Uuid,
    pub(crate) record: &'a VmRecord,
    pub(crate) base: Option<&'a str>,
}

impl Mark<'_> {
    /// The mark as the one child of the domain's `<metadata>`.
    pub(crate) fn element(&self) -> Result<Element, Failure> {
        let labels = self
            .record
            .metadata
            .iter()
            .map(|(key, value)| Element::new("ghost:label").attr("key", key).text(value));
        let mark = Element::new("ghost:vm")
            .attr("xmlns:ghost", NAMESPACE)
            .attr("id", self.record.id)
            .attr("agent", self.agent)
            .attr("created-by", concat!("ghost-agent/", env!("CARGO_PKG_VERSION")));
        let mark = match &self.record.origin {
            Some(origin) => mark.attr("request-id", &origin.request_id),
            None => mark,
        };
        let mark = match self.record.origin.as_ref().and_then(|one| one.traceparent.as_ref()) {
            Some(parent) => mark.attr("trace-id", parent.trace_id()),
            None => mark,
        };
        Ok(mark
            .child(Element::new("ghost:name").text(&self.record.name))
            .child(Element::new("ghost:template").text(&self.record.template))
            .children(self.base.map(|base| Element::new("ghost:base").text(base)))
            .children(labels)
            .child(Element::new("ghost:record").text(json(self.record)?)))
    }
}

/// The record as JSON, escaped so that XML can hold every character of it.
fn json(record: &VmRecord) -> Result<String, Failure> {
    let json = serde_json::to_string(record)
        .map_err(|e| Failure::Xml { what: "the VM's record", why: e.to_string() })?;
    let escaped = |c: char| match xml::is_legal(c) {
        true => c.to_string(),
        // What XML can't hold has four digits at most (section 2.2, `Char`).
        false => format!("\\u{:04x}", u32::from(c)),
    };
    Ok(json.chars().map(escaped).collect())
}

/// Whether the domain is ours.
pub(crate) fn is_ours(domain: &Domain) -> Result<bool, LibvirtError> {
    let id = VmId::from(domain.uuid()?);
    match domain.metadata(NAMESPACE, MetadataOf::Current) {
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

/// Domains with a mark that names themselves.
#[derive(Debug, Default)]
pub(crate) struct Marked {
    /// Of this agent.
    pub(crate) ours: Vec<Kept>,
    /// Of other agents, and which.
    pub(crate) of_others: Vec<(VmId, Uuid)>,
}

/// What libvirt keeps of all domains with a mark. One that can't be looked at does not hide the rest.
pub(crate) fn kept(conn: &Conn, agent: Uuid) -> Result<Marked, LibvirtError> {
    let mut all = Marked::default();
    for domain in conn.domains()? {
        let id = VmId::from(domain.uuid()?);
        match definition(&domain) {
            Ok((definition, mark)) if names(&mark, id) => match agent_of(&mark) {
                Some(of) if of == agent => {
                    all.ours.push(Kept { id, record: record(&mark, id), definition });
                }
                Some(other) => all.of_others.push((id, other)),
                None => {}
            },
            Ok(_of_somebody_else) => {}
            // No mark, or no domain any more.
            Err(error) if error.is_missing() => {}
            Err(error) if error.is_of_the_connection() || !conn.is_alive() => return Err(error),
            Err(error) => {
                tracing::debug!(vm_id = %id, error = cause(&error), "cannot read a domain's metadata")
            }
        }
    }
    Ok(all)
}

/// Whether the domain will be there when its power goes off, and its mark: of its definition, which
/// is newer than what runs, where it has one.
fn definition(domain: &Domain) -> Result<(Definition, String), LibvirtError> {
    match domain.metadata(NAMESPACE, MetadataOf::Definition) {
        Ok(mark) => Ok((Definition::Persistent, mark)),
        Err(error) if error.is_of_state() && !domain.is_persistent()? => {
            Ok((Definition::Transient, domain.metadata(NAMESPACE, MetadataOf::Current)?))
        }
        Err(error) => Err(error),
    }
}

/// Looks at the mark, which is read without its namespace: libvirt hands the element out as it was
/// written. `None` if it is not understood.
fn read<T>(mark: &str, look: impl FnOnce(Node<'_, '_>) -> Option<T>) -> Option<T> {
    look(Document::parse(mark).ok()?.root_element())
}

fn names(mark: &str, id: VmId) -> bool {
    read(mark, |mark| mark.attribute("id")?.parse().ok()) == Some(id)
}

fn agent_of(mark: &str) -> Option<Uuid> {
    read(mark, |mark| mark.attribute("agent")?.parse().ok())
}

/// The record of this VM; `None`, and a line in the log, if there is none that can be read.
fn record(mark: &str, id: VmId) -> Option<VmRecord> {
    let text = read(mark, |mark| {
        mark.children().find(|n| n.tag_name().name() == "record")?.text().map(str::to_owned)
    });
    let why = match serde_json::from_str::<VmRecord>(&text.unwrap_or_default()) {
        Ok(record) if record.id == id => return Some(record),
        Ok(record) => format!("it is of VM {}", record.id),
        Err(error) => error.to_string(),
    };
    tracing::debug!(vm_id = %id, why, "the record in the domain's mark can't be used");
    None
}

#[cfg(test)]
mod tests {
    use ghost_core::domain::validation::Violations;
    use ghost_core::domain::{Metadata, Origin};
    use proptest::prelude::*;

    use super::*;
    use crate::domain_xml::tests::record_of;

    fn labelled(id: VmId, label: &str) -> VmRecord {
        let labels = [("team".to_owned(), label.to_owned())];
        let metadata = Metadata::parse(labels, &mut Violations::default());
        VmRecord { metadata, ..record_of(id) }
    }

    fn mark_of(record: &VmRecord, agent: Uuid) -> String {
        Mark { agent, record, base: Some("/base") }.element().unwrap().render().unwrap()
    }

    #[test]
    fn the_mark_names_its_own_domain_and_agent_and_no_other() {
        let (id, agent) = (VmId::generate(), Uuid::new_v4());
        let mark = mark_of(&record_of(id), agent);
        assert!(names(&mark, id));
        assert_eq!(agent_of(&mark), Some(agent));
        assert!(!names(&mark, VmId::generate()));
        let without = "<ghost:vm xmlns:ghost='https://ghost.cloud/agent/1'/>";
        for mark in [without, "nonsense"] {
            assert!(!names(mark, id) && agent_of(mark).is_none(), "{mark}");
        }
    }

    #[test]
    fn labels_are_readable_in_the_mark() {
        let mark = mark_of(&labelled(VmId::generate(), "<a> & \"b\""), Uuid::nil());
        let read = Document::parse(&mark).unwrap();
        let label = read.descendants().find(|n| n.has_tag_name((NAMESPACE, "label"))).unwrap();
        assert_eq!((label.attribute("key"), label.text()), (Some("team"), Some("<a> & \"b\"")));
    }

    #[test]
    fn the_command_that_caused_the_definition_is_readable_in_the_mark() {
        let hostile = "a\"b<c>&d'";
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok();
        let origin = Origin { request_id: hostile.parse().unwrap(), traceparent };
        let record = VmRecord { origin: Some(origin), ..record_of(VmId::generate()) };
        let mark = mark_of(&record, Uuid::nil());
        let attribute = |name: &str| read(&mark, |mark| mark.attribute(name).map(str::to_owned));
        assert_eq!(attribute("request-id").as_deref(), Some(hostile));
        assert_eq!(attribute("trace-id").as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        let nobodys = mark_of(&record_of(record.id), Uuid::nil());
        assert!(!nobodys.contains("request-id=") && !nobodys.contains("trace-id="), "{nobodys}");
    }

    #[test]
    fn a_record_that_is_missing_broken_or_of_another_vm_is_none() {
        let (id, other) = (VmId::generate(), record_of(VmId::generate()));
        let mark = mark_of(&record_of(id), Uuid::nil());
        assert_eq!(record(&mark, id), Some(record_of(id)));
        assert_eq!(record(&mark.replace("{", ""), id), None);
        assert_eq!(record(&mark.replace("record", "other"), id), None);
        assert_eq!(record(&mark_of(&other, Uuid::nil()), id), None);
    }

    proptest! {
        #[test]
        fn the_record_is_read_as_it_was_written(label in "[ -~äß😀\u{fdd0}\u{fffe}\u{ffff}<>&'\"\\\\]{0,60}") {
            let written = labelled(VmId::generate(), &label);
            let mark = mark_of(&written, Uuid::nil());
            prop_assert_eq!(record(&mark, written.id), Some(written));
        }
    }
}
