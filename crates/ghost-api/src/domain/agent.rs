//! An agent as the control plane knows it. Invariant: its id is a UUID and never changes; a revoked agent
//! stays revoked.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::registration::{Capacity, Registration};

/// Before an agent's UUID in its certificate.
const URI: &str = "spiffe://ghost/agent/";
/// Behind an agent's UUID in its DNS name.
const DOMAIN: &str = "agents.ghost.internal";

/// Who an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AgentId(Uuid);

/// A text is no agent's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a UUID such as 0b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55")]
pub struct NotAnId;

impl AgentId {
    /// The URI in its certificate.
    #[must_use]
    pub fn uri(self) -> String {
        format!("{URI}{self}")
    }

    /// The name that its server's certificate has.
    #[must_use]
    pub fn dns(self) -> String {
        format!("{self}.{DOMAIN}")
    }

    /// The agent that such a URI names.
    #[must_use]
    pub fn of_uri(uri: &str) -> Option<Self> {
        uri.strip_prefix(URI)?.parse().ok()
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for AgentId {
    type Err = NotAnId;

    /// Only the usual form: 36 characters, lower case. One agent has one spelling, in certificates too.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let id = Uuid::try_parse(text).map_err(|_| NotAnId)?;
        if id.is_nil() || id.hyphenated().to_string() != text {
            return Err(NotAnId);
        }
        Ok(Self(id))
    }
}

/// How an agent says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// All is well.
    Online,
    /// It lives, and something is wrong.
    Degraded,
    /// It ends.
    Draining,
}

/// The last sign of life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// By the server's clock.
    pub at: Timestamp,
    /// How it said that it is.
    pub said: Said,
    /// Why, one line each; also what the control plane noticed, such as a wrong clock.
    pub reasons: Vec<String>,
    /// What it has and what is left of it.
    pub capacity: Capacity,
    /// All VMs.
    pub vms: u32,
    /// Of these, those that run.
    pub vms_running: u32,
    /// The agent's version.
    pub version: String,
    /// The boot of the host.
    pub boot_id: String,
}

/// All that is known of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Who it is.
    pub id: AgentId,
    /// What people call it: as it enrolled, then as it registered.
    pub name: String,
    /// When it last exchanged a one-time key. Certificates issued before are worth nothing.
    pub enrolled_at: Timestamp,
    /// Since when it is barred.
    pub revoked_at: Option<Timestamp>,
    /// What it said of itself at last.
    pub registration: Option<Registration>,
    /// Its last sign of life.
    pub heard: Option<Heard>,
}

impl AgentRecord {
    /// One that has just enrolled.
    #[must_use]
    pub fn enrolled(id: AgentId, name: &str, at: Timestamp) -> Self {
        Self {
            id,
            name: name.to_owned(),
            enrolled_at: at,
            revoked_at: None,
            registration: None,
            heard: None,
        }
    }

    /// The amounts it told last.
    #[must_use]
    pub fn capacity(&self) -> Option<Capacity> {
        let heard = self.heard.as_ref().map(|heard| heard.capacity);
        heard.or_else(|| self.registration.as_ref().map(|registration| registration.capacity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55";

    #[test]
    fn an_agent_has_one_spelling() {
        let id: AgentId = ID.parse().unwrap();
        assert_eq!(id.to_string(), ID);
        assert_eq!(AgentId::of_uri(&id.uri()), Some(id));
        assert_eq!(id.dns(), format!("{ID}.agents.ghost.internal"));
        for wrong in [
            "",
            "pc-1",
            &ID.to_uppercase(),
            &ID.replace('-', ""),
            &format!("{{{ID}}}"),
            &format!("urn:uuid:{ID}"),
            &format!("{ID} "),
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(wrong.parse::<AgentId>(), Err(NotAnId), "{wrong}");
        }
    }

    #[test]
    fn only_an_agents_uri_names_an_agent() {
        for wrong in
            ["spiffe://ghost/operator", "spiffe://ghost/agent/", "spiffe://ghost/agent/pc-1"]
        {
            assert_eq!(AgentId::of_uri(wrong), None, "{wrong}");
        }
        assert_eq!(AgentId::of_uri(&format!("spiffe://ghost/agent/{ID}/x")), None);
    }
}
