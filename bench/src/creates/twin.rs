//! Another VM after the agent's pattern, made by others. Invariant: everything of it has its UUID in
//! its name, so that all of it can be found and removed; no agent takes it for its own.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use ghost_e2e::host::virsh;
use uuid::Uuid;

use super::pattern::{POOL, Pattern};

/// The network of the tests.
pub(crate) const NETWORK: &str = "default";

/// A VM's names and addresses.
#[derive(Debug, Clone)]
pub(crate) struct Twin {
    /// Its UUID.
    pub(crate) id: Uuid,
    /// Its network card's Ethernet address.
    pub(crate) mac: String,
    /// Files that are read by virsh, and removed with their folder.
    folder: PathBuf,
}

impl Twin {
    /// A new one that does not exist yet; what virsh is to read goes into `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        let id = Uuid::new_v4();
        let [.., a, b, c] = *id.as_bytes();
        // QEMU's prefix, as libvirt and the agent use it.
        Self { id, mac: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"), folder: folder.to_owned() }
    }

    /// The domain's name.
    pub(crate) fn domain(&self) -> String {
        format!("bench-{}", self.id)
    }

    /// The disk's name.
    pub(crate) fn disk(&self) -> String {
        format!("bench-{}.qcow2", self.id)
    }

    /// The seed's name.
    pub(crate) fn seed(&self) -> String {
        format!("bench-{}-seed.iso", self.id)
    }

    /// The console log's name.
    pub(crate) fn log(&self) -> String {
        format!("bench-{}-console.log", self.id)
    }

    /// The static host's description.
    pub(crate) fn host(&self, address: &str) -> String {
        format!("<host mac='{}' name='bench-{}' ip='{address}'/>", self.mac, self.id)
    }

    /// The domain's description: the pattern's, with this one's names and addresses.
    pub(crate) fn xml(&self, pattern: &Pattern, address: &str) -> anyhow::Result<String> {
        let xml = pattern
            .xml
            .replace(&format!("<name>{}<", pattern.domain), &format!("<name>{}<", self.domain()))
            .replace(&format!("ghost-{}", pattern.id), &format!("bench-{}", self.id))
            .replace(&pattern.id, &self.id.to_string())
            .replace(&pattern.mac, &self.mac)
            .replace(&format!("'{}'", pattern.address), &format!("'{address}'"));
        let wanted = [
            self.domain(),
            self.disk(),
            self.seed(),
            self.log(),
            self.mac.clone(),
            address.to_owned(),
        ];
        for text in &wanted {
            ensure!(xml.contains(text), "the agent's domain has no place for {text}");
        }
        ensure!(!xml.contains(&pattern.domain), "the pattern's name is left in the domain");
        Ok(xml)
    }

    /// Writes a description and returns its file.
    pub(crate) fn write(&self, what: &str, xml: &str) -> anyhow::Result<String> {
        let file = self.folder.join(format!("{what}.xml"));
        std::fs::write(&file, xml).with_context(|| file.display().to_string())?;
        file.to_str().map(str::to_owned).context("a folder whose name is no UTF-8")
    }

    /// The disk's description, over the pattern's base image.
    pub(crate) fn disk_xml(&self, pattern: &Pattern) -> String {
        let backing = format!(
            "<backingStore><path>{}</path><format type='qcow2'/></backingStore>",
            pattern.base
        );
        let target = target("qcow2", "<compat>1.1</compat>");
        volume(&self.disk(), &pattern.capacity, &format!("{target}{backing}"))
    }

    /// The seed's description.
    pub(crate) fn seed_xml(&self, pattern: &Pattern) -> anyhow::Result<String> {
        let bytes = std::fs::metadata(&pattern.seed)?.len();
        Ok(volume(&self.seed(), &bytes.to_string(), &target("raw", "")))
    }

    /// The console log's description.
    pub(crate) fn log_xml(&self) -> String {
        volume(&self.log(), "0", &target("raw", ""))
    }

    /// Removes whatever there is of it; what is not there is no failure.
    pub(crate) async fn remove(&self) {
        let domain = self.domain();
        // What can't be removed is seen by the look at the host that follows.
        let _ = virsh(&["destroy", &domain]).await;
        let _ = virsh(&["undefine", "--nvram", &domain]).await;
        for volume in [self.disk(), self.seed(), self.log()] {
            let _ = virsh(&["vol-delete", "--pool", POOL, &volume]).await;
        }
        let host = format!("<host mac='{}'/>", self.mac);
        let _ =
            virsh(&["net-update", NETWORK, "delete", "ip-dhcp-host", &host, "--live", "--config"])
                .await;
    }
}

fn volume(name: &str, bytes: &str, rest: &str) -> String {
    format!("<volume><name>{name}</name><capacity unit='bytes'>{bytes}</capacity>{rest}</volume>")
}

fn target(format: &str, rest: &str) -> String {
    format!(
        "<target><format type='{format}'/><permissions><mode>0600</mode></permissions>{rest}</target>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(console: &str) -> Pattern {
        let id = "11111111-2222-4333-8444-555555666666";
        Pattern {
            id: id.to_owned(),
            address: "192.0.2.2".to_owned(),
            domain: "ghost-a-11111111".to_owned(),
            mac: "52:54:00:66:66:66".to_owned(),
            xml: format!(
                "<domain><name>ghost-a-11111111</name><uuid>{id}</uuid><source file='/p/ghost-{id}.qcow2'/>\
                 <source file='/p/ghost-{id}-seed.iso'/>{console}<mac address='52:54:00:66:66:66'/>\
                 <parameter name='IP' value='192.0.2.2'/><x value='192.0.2.22'/></domain>"
            ),
            base: "/base".to_owned(),
            capacity: "1".to_owned(),
            seed: PathBuf::new(),
        }
    }

    #[test]
    fn a_twin_shares_nothing_that_must_be_unique() {
        let pattern =
            pattern("<log file='/p/ghost-11111111-2222-4333-8444-555555666666-console.log'/>");
        let twin = Twin::new(Path::new("/nowhere"));
        let xml = twin.xml(&pattern, "192.0.2.9").unwrap();
        for gone in [pattern.id.as_str(), &pattern.domain, &pattern.mac, "'192.0.2.2'"] {
            assert!(!xml.contains(gone), "{gone} is left in {xml}");
        }
        assert!(xml.contains(&format!("<uuid>{}</uuid>", twin.id)));
        assert!(xml.contains("'192.0.2.9'") && xml.contains("'192.0.2.22'"), "{xml}");
    }

    #[test]
    fn a_domain_that_is_described_otherwise_is_no_pattern() {
        let error = Twin::new(Path::new("/nowhere")).xml(&pattern(""), "192.0.2.9").unwrap_err();
        assert!(error.to_string().contains("console.log"), "{error}");
    }
}
