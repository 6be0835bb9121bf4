//! Where a VM goes. Invariant: [`pick`] names an agent that is online, offers the template and said that
//! it has the room; or says of each agent why not.
//!
//! What agents said is up to one interval old: the agent itself has the last word, by its admission.

use std::fmt;

use super::agent::{AgentId, AgentRecord};
use super::presence::Presence;

/// A GiB in bytes.
const GIB: f64 = 1_073_741_824.0;
/// Most agents that a refusal names.
const MOST_NAMED: usize = 10;

/// What the VM needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// A template of the agent's.
    pub template: String,
    /// Virtual CPUs.
    pub vcpu: i32,
    /// Memory in GiB.
    pub ram_gib: i32,
    /// Disk in GiB.
    pub disk_gib: i32,
}

/// An agent and how it is.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// What is known of it.
    pub agent: &'a AgentRecord,
    /// How it is.
    pub presence: Presence,
}

/// Why an agent can't have the VM.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unfit {
    /// It is not online.
    #[error("is {}", .0.as_str())]
    NotOnline(Presence),
    /// It can't be commanded.
    #[error("listens on its own host only")]
    NoAddress,
    /// It has not the template.
    #[error("does not offer template '{0}'")]
    NoTemplate(String),
    /// It has not the room.
    #[error("has {left:.1} {of} left, {asked} asked")]
    NoRoom {
        /// Of what.
        of: &'static str,
        /// What it has.
        left: f64,
        /// What it would take.
        asked: i32,
    },
}

/// No agent can have the VM.
#[derive(Debug, Clone, PartialEq)]
pub struct NoneFits(pub Vec<(String, Unfit)>);

impl fmt::Display for NoneFits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no agent is enrolled; make a key with: ghost-api token create");
        }
        f.write_str("no agent can have this VM: ")?;
        for (number, (name, why)) in self.0.iter().take(MOST_NAMED).enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{name} {why}")?;
        }
        match self.0.len().saturating_sub(MOST_NAMED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for NoneFits {}

/// The agent with most memory left of those that have the template's image; else of those that would
/// have to fetch it. Of equals the one with the smaller id.
///
/// # Errors
/// If none fits, with the reason of each.
pub fn pick(agents: &[Candidate<'_>], wanted: &Wanted) -> Result<AgentId, NoneFits> {
    let mut unfit = Vec::new();
    let mut best: Option<((bool, f64), AgentId)> = None;
    for candidate in agents {
        match fitness(candidate, wanted) {
            Err(why) => unfit.push((candidate.agent.name.clone(), why)),
            Ok(this) => {
                let id = candidate.agent.id;
                let better = best.is_none_or(|(best, holder)| {
                    this.0
                        .cmp(&best.0)
                        .then(this.1.total_cmp(&best.1))
                        .then(holder.cmp(&id))
                        .is_gt()
                });
                if better {
                    best = Some((this, id));
                }
            }
        }
    }
    best.map(|(_, id)| id).ok_or(NoneFits(unfit))
}

/// Whether the image is there, and how much memory is left.
fn fitness(candidate: &Candidate<'_>, wanted: &Wanted) -> Result<(bool, f64), Unfit> {
    let (Presence::Online, Some(registration), Some(capacity)) =
        (candidate.presence, &candidate.agent.registration, candidate.agent.capacity())
    else {
        return Err(Unfit::NotOnline(candidate.presence));
    };
    if registration.address.is_empty() {
        return Err(Unfit::NoAddress);
    }
    if !registration.templates.contains(&wanted.template) {
        return Err(Unfit::NoTemplate(wanted.template.clone()));
    }
    for (of, left, asked) in [
        ("CPUs", capacity.cpu.available, wanted.vcpu),
        ("GiB of memory", capacity.ram.available / GIB, wanted.ram_gib),
        ("GiB of disk", capacity.disk.available / GIB, wanted.disk_gib),
    ] {
        if f64::from(asked) > left {
            return Err(Unfit::NoRoom { of, left, asked });
        }
    }
    Ok((registration.templates_cached.contains(&wanted.template), capacity.ram.available))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::registration::{Registration, tests::registration};
    use jiff::Timestamp;

    fn agent(digit: char, change: impl FnOnce(&mut Registration)) -> AgentRecord {
        let id = format!("{digit}b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55").parse().unwrap();
        let name = format!("pc-{digit}");
        let mut agent = AgentRecord::enrolled(id, &name, Timestamp::UNIX_EPOCH);
        let mut said = registration(&name);
        change(&mut said);
        agent.registration = Some(said);
        agent
    }

    fn wanted() -> Wanted {
        Wanted { template: "debian-12".to_owned(), vcpu: 2, ram_gib: 4, disk_gib: 20 }
    }

    fn picked(agents: &[AgentRecord]) -> Result<String, NoneFits> {
        let online = |agent| Candidate { agent, presence: Presence::Online };
        let all: Vec<_> = agents.iter().map(online).collect();
        let id = pick(&all, &wanted())?;
        Ok(agents.iter().find(|agent| agent.id == id).unwrap().name.clone())
    }

    #[test]
    fn the_agent_with_most_memory_left_is_picked_whatever_their_order() {
        let more = |digit, ram| agent(digit, |said| said.capacity.ram.available = ram);
        let mut agents = vec![more('1', 8e9), more('2', 12e9), more('3', 10e9)];
        assert_eq!(picked(&agents).unwrap(), "pc-2");
        agents.reverse();
        assert_eq!(picked(&agents).unwrap(), "pc-2");
        assert_eq!(picked(&[more('2', 8e9), more('1', 8e9)]).unwrap(), "pc-1");
        assert_eq!(picked(&[more('1', 8e9), more('2', 8e9)]).unwrap(), "pc-1");
    }

    #[test]
    fn one_that_has_the_image_is_preferred() {
        let cached = agent('1', |said| {
            said.templates_cached = said.templates.clone();
            said.capacity.ram.available = 5e9;
        });
        assert_eq!(picked(&[agent('2', |_| ()), cached]).unwrap(), "pc-1");
    }

    #[test]
    fn when_none_fits_each_has_its_reason() {
        let (no_address, no_template) =
            (agent('1', |said| said.address.clear()), agent('2', |said| said.templates.clear()));
        let small = agent('3', |said| said.capacity.ram.available = 2.5 * GIB);
        let refusal = picked(&[no_address, no_template, small]).unwrap_err().to_string();
        for part in [
            "pc-1 listens on its own host only",
            "pc-2 does not offer template 'debian-12'",
            "pc-3 has 2.5 GiB of memory left, 4 asked",
        ] {
            assert!(refusal.contains(part), "{refusal}");
        }
        assert!(picked(&[]).unwrap_err().to_string().contains("token create"));
    }

    #[test]
    fn only_one_that_is_online_gets_vms() {
        let agent = agent('1', |_| ());
        for presence in Presence::ALL {
            let fits = pick(&[Candidate { agent: &agent, presence }], &wanted());
            match presence {
                Presence::Online => assert!(fits.is_ok()),
                _ => assert_eq!(fits.unwrap_err().0[0].1, Unfit::NotOnline(presence)),
            }
        }
    }

    #[test]
    fn what_was_heard_last_counts_not_what_was_registered() {
        let mut agent = agent('1', |_| ());
        let mut capacity = agent.capacity().unwrap();
        capacity.cpu.available = 1.0;
        agent.heard = Some(crate::domain::Heard {
            at: Timestamp::UNIX_EPOCH,
            said: crate::domain::Said::Online,
            reasons: vec![],
            capacity,
            vms: 0,
            vms_running: 0,
            version: String::new(),
            boot_id: String::new(),
        });
        let refusal = picked(&[agent]).unwrap_err().to_string();
        assert!(refusal.contains("1.0 CPUs left, 2 asked"), "{refusal}");
    }
}
