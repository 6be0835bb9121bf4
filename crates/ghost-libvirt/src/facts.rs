//! What a bug report needs to know of libvirt. Invariant: of domains that are not this agent's nothing is told, and of its own no label's
//! value: a label is its owner's, and may be a secret.

use std::ffi::c_ulong;
use std::fmt::{Display, Write as _};
use std::ops::Range;

use ghost_core::domain::VmId;
use roxmltree::Document;
use uuid::Uuid;

use crate::domain_xml::NWFILTER;
use crate::libvirt::LibvirtConfig;
use crate::mark;
use crate::sys::{self, Conn, LibvirtError, NetworkXml};
use crate::watch::ConnectionState;

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LibvirtFacts {
    /// A `key: value` a line, for people.
    pub text: String,
    /// This agent's domains.
    pub domains: Vec<DomainFacts>,
}

/// One domain of this agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFacts {
    /// Its VM.
    pub id: VmId,
    /// Its XML, without the values of labels; or why there is none.
    pub xml: String,
}

impl LibvirtFacts {
    /// That nothing could be found out.
    pub(crate) fn without(why: &dyn Display) -> Self {
        let mut text = format!("error: {why}\n");
        line(&mut text, "library", sys::library_version().map(version));
        Self { text, domains: Vec::new() }
    }

    /// Behind what is known without asking.
    pub(crate) fn headed(self, uri: &str, state: &ConnectionState) -> Self {
        let text = format!("uri: {uri}\nconnection for events: {state:?}\n{}", self.text);
        Self { text, ..self }
    }
}

/// What to look at.
#[derive(Debug)]
pub(crate) struct Look {
    agent: Uuid,
    network: String,
    pool: String,
}

impl Look {
    pub(crate) fn of(config: &LibvirtConfig) -> Self {
        let LibvirtConfig { agent, network, storage_pool, .. } = config.clone();
        Self { agent, network, pool: storage_pool }
    }

    /// Finds out what it can; what fails is told as a line of its own.
    pub(crate) fn at(&self, conn: &Conn) -> LibvirtFacts {
        let mut text = String::new();
        line(&mut text, "library", sys::library_version().map(version));
        line(&mut text, "daemon", conn.daemon_version().map(version));
        let hypervisor = conn
            .hypervisor_type()
            .and_then(|name| Ok(format!("{name} {}", version(conn.hypervisor_version()?))));
        line(&mut text, "hypervisor", hypervisor);
        line(&mut text, &format!("network {}", self.network), network(conn, &self.network));
        line(&mut text, &format!("storage pool {}", self.pool), pool(conn, &self.pool));
        let filter =
            conn.has_nwfilter(NWFILTER).map(|there| if there { "there" } else { "missing" });
        line(&mut text, &format!("network filter {NWFILTER}"), filter);
        line(&mut text, "capabilities", conn.capabilities().map(|xml| capabilities(&xml)));
        let domains = self.domains(conn, &mut text);
        LibvirtFacts { text, domains }
    }

    fn domains(&self, conn: &Conn, text: &mut String) -> Vec<DomainFacts> {
        let marked = match mark::kept(conn, self.agent) {
            Ok(marked) => marked,
            Err(error) => {
                line::<&str>(text, "domains", Err(error));
                return Vec::new();
            }
        };
        let (ours, of_others) = (marked.ours.len(), marked.of_others.len());
        line(text, "domains", Ok(format!("{ours} of this agent, {of_others} of other agents")));
        let facts = |id: VmId| {
            let xml = conn.domain(id.as_uuid()).and_then(|domain| domain.xml());
            let xml =
                xml.map_or_else(|error| format!("error: {error}\n"), |xml| without_labels(&xml));
            DomainFacts { id, xml }
        };
        marked.ours.into_iter().map(|kept| facts(kept.id)).collect()
    }
}

fn line<T: Display>(text: &mut String, key: &str, value: Result<T, LibvirtError>) {
    // Writing to a String can't fail.
    let _ = match value {
        Ok(value) => writeln!(text, "{key}: {value}"),
        Err(error) => writeln!(text, "{key}: error: {error}"),
    };
}

/// libvirt's versions are `1000000 * major + 1000 * minor + release` (libvirt, virGetVersion).
fn version(number: c_ulong) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000)
}

fn network(conn: &Conn, name: &str) -> Result<String, LibvirtError> {
    let network = conn.network(name)?;
    let active = network.is_active()?;
    let bridge = network.xml(NetworkXml::Live).ok().and_then(|xml| bridge(&xml));
    let bridge = bridge.map(|bridge| format!(", bridge {bridge}")).unwrap_or_default();
    Ok(format!("{}{bridge}", if active { "active" } else { "not active" }))
}

fn bridge(xml: &str) -> Option<String> {
    let document = Document::parse(xml).ok()?;
    let bridge = document.root_element().children().find(|node| node.has_tag_name("bridge"))?;
    bridge.attribute("name").map(str::to_owned)
}

fn pool(conn: &Conn, name: &str) -> Result<String, LibvirtError> {
    let pool = conn.pool(name)?;
    if !pool.is_active()? {
        return Ok("not active".to_owned());
    }
    let info = pool.info()?;
    Ok(format!("active, {} of {} bytes free", info.available, info.capacity))
}

/// The host's processor, and what kinds of domains run on which architecture.
fn capabilities(xml: &str) -> String {
    let Ok(document) = Document::parse(xml) else { return "can't be read".to_owned() };
    let texts = |name: &'static str| {
        let nodes = document.descendants().filter(move |node| node.has_tag_name(name));
        nodes.filter_map(|node| node.text().map(str::trim)).collect::<Vec<_>>()
    };
    let guests = document.descendants().filter(|node| node.has_tag_name("arch"));
    let guests = guests.filter_map(|arch| {
        let kinds = arch.children().filter(|node| node.has_tag_name("domain"));
        let kinds: Vec<_> = kinds.filter_map(|kind| kind.attribute("type")).collect();
        Some(format!("{} ({})", arch.attribute("name")?, kinds.join(", ")))
    });
    let (guests, models) = (guests.collect::<Vec<_>>().join("; "), texts("model").join(", "));
    format!("processor and security models {models}; guests {guests}")
}

/// The XML without the texts of the mark's labels and of its copy of the record, which has them too.
fn without_labels(xml: &str) -> String {
    let Ok(document) = Document::parse(xml) else {
        return "error: libvirt's XML can't be read\n".to_owned();
    };
    let secret = |name| matches!(name, "label" | "record");
    let texts = document.descendants().filter(|node| {
        let of = node.parent_element().map(|parent| parent.tag_name());
        node.is_text()
            && of.is_some_and(|of| of.namespace() == Some(mark::NAMESPACE) && secret(of.name()))
    });
    let texts: Vec<Range<usize>> = texts.map(|node| node.range()).collect();
    let (mut kept, mut from) = (String::new(), 0);
    for range in texts {
        kept.push_str(xml.get(from..range.start).unwrap_or_default());
        let _ = write!(kept, "[{} bytes]", range.len());
        from = range.end;
    }
    kept.push_str(xml.get(from..).unwrap_or_default());
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_labels_value_is_told_and_all_else_is() {
        let xml = format!(
            "<domain>\n<name>ghost-a</name><metadata><g:vm xmlns:g=\"{}\" id=\"1\"><g:name>a</g:name>\
             <g:label key=\"mail\">me@&lt;home&gt;</g:label><g:record>{{\"metadata\":{{}}}}</g:record></g:vm>\
             </metadata><devices><label>kept</label></devices></domain>",
            mark::NAMESPACE
        );
        let expected =
            xml.replace("me@&lt;home&gt;", "[15 bytes]").replace("{\"metadata\":{}}", "[15 bytes]");
        assert_ne!(expected, xml);
        assert_eq!(without_labels(&xml), expected);
        assert!(without_labels("<a").starts_with("error"));
    }

    #[test]
    fn versions_and_capabilities_read_like_speech() {
        assert_eq!(version(9_000_012), "9.0.12");
        let xml = "<capabilities><host><cpu><model>EPYC</model></cpu></host><guest><arch name='x86_64'>\
                   <domain type='qemu'/><domain type='kvm'/></arch></guest></capabilities>";
        let told = capabilities(xml);
        assert_eq!(told, "processor and security models EPYC; guests x86_64 (qemu, kvm)");
    }

    #[tokio::test]
    async fn what_libvirts_test_driver_lends_is_told() {
        let uri = "test:///default".to_owned();
        let config = LibvirtConfig { uri, ..LibvirtConfig::default() };
        let libvirt = crate::Libvirt::connect(config).unwrap();
        let facts = libvirt.facts().await;
        for part in
            ["uri: test:///default\n", "hypervisor: TEST", "network default: active", "daemon: "]
        {
            assert!(facts.text.contains(part), "{part} in {}", facts.text);
        }
        assert!(facts.domains.is_empty(), "the test driver's own domain is not ours: {facts:?}");
        libvirt.shutdown().await;
    }

    #[tokio::test]
    async fn an_absent_libvirt_is_told_as_such() {
        let uri = "qemu+unix:///system?socket=/nonexistent".to_owned();
        let config = LibvirtConfig { uri, ..LibvirtConfig::default() };
        let libvirt = crate::Libvirt::connect(config).unwrap();
        let facts = libvirt.facts().await;
        assert!(
            facts.text.contains("error: ") && facts.text.contains("library: "),
            "{}",
            facts.text
        );
        libvirt.shutdown().await;
    }
}
