//! What an agent says of itself. Invariant: a [`Registration`] that exists is within its limits: its
//! amounts are numbers, its name is a hostname label, its address can be dialled.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::text::{cut, is_label};

/// Most templates that an agent may offer: catalogues have a dozen.
const TEMPLATES: usize = 256;
/// Longest name of a template, version or capability, in bytes.
const WORD: usize = 128;
/// Longest host name (RFC 1035).
const HOST: usize = 253;

/// One resource: CPUs, or bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Amount {
    /// All that the host has.
    pub total: f64,
    /// What its owner keeps.
    pub reserved: f64,
    /// What VMs may take at most.
    pub allocated: f64,
    /// What a new VM can have.
    pub available: f64,
}

/// What a host has for VMs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Logical CPUs.
    pub cpu: Amount,
    /// Memory in bytes.
    pub ram: Amount,
    /// Disk in bytes.
    pub disk: Amount,
}

impl Capacity {
    /// What is wrong with the numbers, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        [("cpu", self.cpu), ("ram", self.ram), ("disk", self.disk)].iter().find_map(|(what, of)| {
            let all = [of.total, of.reserved, of.allocated, of.available];
            let sane = all.iter().all(|number| number.is_finite() && *number >= 0.0);
            (!sane).then(|| format!("capacity.{what} has an amount that is no number from 0 up"))
        })
    }
}

/// What the agent of one process said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// The process.
    pub instance: Uuid,
    /// The agent's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it can be commanded, "host:port"; empty if it can't.
    pub address: String,
    /// "x86_64" or "aarch64".
    pub architecture: String,
    /// "kvm" or "tcg".
    pub acceleration: String,
    /// What it has.
    pub capacity: Capacity,
    /// What it offers.
    pub templates: Vec<String>,
    /// Of these, those whose image is there.
    pub templates_cached: Vec<String>,
    /// What it can do besides.
    pub capabilities: Vec<String>,
    /// The boot of its host.
    pub boot_id: String,
}

impl Registration {
    /// Itself, within its limits.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn checked(mut self) -> Result<Self, String> {
        if !is_label(&self.name) {
            return Err("name is no hostname label of 1 to 63 characters".to_owned());
        }
        if !self.address.is_empty() && !can_be_dialled(&self.address) {
            return Err("address is not host:port, such as 100.64.0.7:9090".to_owned());
        }
        if let Some(fault) = self.capacity.fault() {
            return Err(fault);
        }
        for (what, words) in [
            ("templates", &mut self.templates),
            ("templates_cached", &mut self.templates_cached),
            ("capabilities", &mut self.capabilities),
        ] {
            if words.len() > TEMPLATES || words.iter().any(|word| word.len() > WORD) {
                return Err(format!(
                    "{what} has more than {TEMPLATES} entries, or one of more than {WORD} bytes"
                ));
            }
        }
        for word in
            [&mut self.version, &mut self.architecture, &mut self.acceleration, &mut self.boot_id]
        {
            *word = cut(word, WORD);
        }
        Ok(self)
    }
}

fn can_be_dialled(address: &str) -> bool {
    if let Ok(socket) = address.parse::<std::net::SocketAddr>() {
        return socket.port() != 0 && !socket.ip().is_unspecified() && !socket.ip().is_multicast();
    }
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= HOST
        && host.split('.').all(is_label)
        // An address in another spelling, such as 127.1, is none that a person would recognise.
        && !host.split('.').next_back().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn registration(name: &str) -> Registration {
        let amount = |total| Amount { total, reserved: 0.0, allocated: 0.0, available: total };
        Registration {
            instance: Uuid::new_v4(),
            name: name.to_owned(),
            version: "1".to_owned(),
            address: "100.64.0.7:9090".to_owned(),
            architecture: "x86_64".to_owned(),
            acceleration: "kvm".to_owned(),
            capacity: Capacity { cpu: amount(8.0), ram: amount(16e9), disk: amount(500e9) },
            templates: vec!["debian-12".to_owned()],
            templates_cached: vec![],
            capabilities: vec![],
            boot_id: "b".to_owned(),
        }
    }

    #[test]
    fn an_address_is_a_host_and_a_port_that_can_be_dialled() {
        for right in ["100.64.0.7:9090", "[fd7a::1]:9090", "pc.vpn:1", "pc-1:65535"] {
            assert!(can_be_dialled(right), "{right}");
        }
        for wrong in [
            "100.64.0.7",
            "100.64.0.7:0",
            "0.0.0.0:9090",
            "[::]:9090",
            "224.0.0.1:1",
            "127.1:9090",
            ":9090",
            "pc:",
            "pc:65536",
            "http://pc:80",
            "p c:80",
            "-:80",
            "a@b:80",
        ] {
            assert!(!can_be_dialled(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_registration_beyond_its_limits_is_refused_in_words() {
        let refused = |change: fn(&mut Registration)| {
            let mut one = registration("pc-1");
            change(&mut one);
            one.checked().unwrap_err()
        };
        assert!(registration("pc-1").checked().is_ok());
        assert!(refused(|one| one.name = "a b".to_owned()).contains("name"));
        assert!(refused(|one| one.address = "nowhere".to_owned()).contains("address"));
        assert!(refused(|one| one.capacity.ram.available = f64::NAN).contains("capacity.ram"));
        assert!(refused(|one| one.capacity.cpu.total = -1.0).contains("capacity.cpu"));
        assert!(refused(|one| one.capacity.disk.total = f64::INFINITY).contains("capacity.disk"));
        assert!(refused(|one| one.templates = vec!["t".repeat(129)]).contains("templates"));
        let many = |one: &mut Registration| one.capabilities = vec![String::new(); 257];
        assert!(refused(many).contains("capabilities"));
    }

    #[test]
    fn an_agent_that_cannot_be_commanded_may_register() {
        let mut one = registration("pc-1");
        one.address = String::new();
        assert!(one.checked().is_ok());
    }
}
