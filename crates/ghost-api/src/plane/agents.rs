//! What agents ask for.

use std::net::IpAddr;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use uuid::Uuid;

use super::{Bearer, Plane};
use crate::domain::audit::Change;
use crate::domain::csr;
use crate::domain::event::order_fault;
use crate::domain::presence::{clock_fault, is_silent};
use crate::domain::text::{cut, is_label};
use crate::domain::token::{Admission, Applicant, KeyRefusal, Secret};
use crate::domain::{AgentId, AgentRecord, Capacity, Heard, Registration, Said, VmEvent};
use crate::refusal::Refusal;

/// Most reasons that are kept of one agent, and the longest, in bytes.
const REASONS: (usize, usize) = (16, 256);

/// A first contact.
#[derive(Debug)]
pub struct EnrolRequest {
    /// As it was sent.
    pub secret: String,
    /// As it was sent.
    pub agent_id: String,
    /// PKCS #10 in DER.
    pub csr: Vec<u8>,
    /// As it was sent.
    pub name: String,
}

/// A certificate.
#[derive(Debug)]
pub struct Certified {
    /// The agent's.
    pub certificate: CertificateDer<'static>,
    /// The authority's.
    pub ca: CertificateDer<'static>,
}

/// An accepted registration.
#[derive(Debug, PartialEq, Eq)]
pub struct Registered {
    /// The last event that was kept.
    pub last_event: u64,
    /// Name and address of another process of the same id that was alive; empty if there was none.
    pub superseded: String,
}

/// A sign of life, as it was sent.
#[derive(Debug, Clone)]
pub struct Beat {
    /// The process.
    pub instance: Uuid,
    /// By the agent's clock.
    pub sent_at: Option<Timestamp>,
    /// Available now; none to leave what is known.
    pub capacity: Option<Capacity>,
    /// How it is; none if it says something that is not known here.
    pub said: Option<Said>,
    /// Why.
    pub reasons: Vec<String>,
    /// All VMs.
    pub vms: u32,
    /// Of these, those that run.
    pub vms_running: u32,
    /// The agent's version.
    pub version: String,
    /// The boot of the host.
    pub boot_id: String,
}

impl Plane {
    /// Exchanges a one-time key and a request for a certificate.
    ///
    /// # Errors
    /// If the key opens nothing, or the request can't be certified.
    pub async fn enrol(&self, from: IpAddr, ask: EnrolRequest) -> Result<Certified, Refusal> {
        self.limits.enrol(from)?;
        let agent: AgentId = ask
            .agent_id
            .parse()
            .map_err(|_| Refusal::BadEnrolment("agent_id is not a UUID in lower case"))?;
        if !is_label(&ask.name) {
            return Err(Refusal::BadEnrolment(
                "agent_name is no hostname label of 1 to 63 characters",
            ));
        }
        let secret = Secret::parse(&ask.secret).ok_or(Refusal::Key(KeyRefusal::Unknown))?;
        let request = csr::accept(&ask.csr, agent).map_err(Refusal::Csr)?;
        let who = Applicant {
            secret: secret.hash(),
            agent,
            name: ask.name,
            public_key: request.digest,
            at: self.now(),
        };
        let detail = format!("{} from {from}", who.name);
        let change = self.change(&agent.uri(), "agent enrolled", detail);
        let changing = self.changing.lock().await;
        let (record, admission) = self.store.enrol(who, change).await?;
        match admission {
            Admission::New | Admission::Again => {
                self.roster.put(record);
                self.counters.enrolments.add(1);
                tracing::info!(%agent, %from, ?admission, "enrolled");
            }
            Admission::Repeated => tracing::info!(%agent, %from, "answered an enrolment again"),
        }
        drop(changing);
        self.certify(agent, &request)
    }

    /// Exchanges a valid certificate for a newer one.
    ///
    /// # Errors
    /// If the caller is not welcome, or the request can't be certified.
    pub async fn renew(&self, bearer: &Bearer, csr: &[u8]) -> Result<Certified, Refusal> {
        let agent = self.welcome(bearer)?;
        self.limits.change(agent)?;
        let request = csr::accept(csr, agent).map_err(Refusal::Csr)?;
        let _changing = self.changing.lock().await;
        // It may have enrolled anew, or been revoked, while others had their turn: a certificate issued
        // now would outlive that.
        self.welcome(bearer)?;
        let certified = self.certify(agent, &request)?;
        self.store.record(self.change(&agent.uri(), "certificate renewed", String::new())).await?;
        self.counters.renewals.add(1);
        Ok(certified)
    }

    fn certify(&self, agent: AgentId, request: &csr::Accepted) -> Result<Certified, Refusal> {
        let certificate =
            self.authority.certify(agent, request, self.now()).map_err(Refusal::Authority)?;
        Ok(Certified { certificate, ca: self.authority.certificate().clone() })
    }

    /// The newest registration of an id counts.
    ///
    /// # Errors
    /// If the caller is not welcome, or what it says is out of bounds.
    pub async fn register(
        &self,
        bearer: &Bearer,
        registration: Registration,
    ) -> Result<Registered, Refusal> {
        let agent = self.welcome(bearer)?;
        self.limits.change(agent)?;
        let registration = registration.checked().map_err(Refusal::BadRegistration)?;
        let _changing = self.changing.lock().await;
        // It may have been revoked while others had their turn.
        self.welcome(bearer)?;
        let former = self.roster.get(agent).ok_or(Refusal::AgentUnknown(agent))?;
        let superseded = self.superseded(&former, &registration);
        let heard = self.first_heard(&former, &registration);
        if former.registration.as_ref() != Some(&registration) {
            let change = self.noteworthy(&former, &registration, &superseded);
            self.store.register(agent, registration.clone(), heard.clone(), change).await?;
        }
        if !superseded.is_empty() {
            tracing::warn!(%agent, by = registration.name, superseded, "two processes have one id");
        }
        let last_event = self.roster.registered(agent, registration, heard);
        self.counters.registrations.add(1);
        Ok(Registered { last_event, superseded })
    }

    /// Who of the same id was alive until now, for the log of who took its place.
    fn superseded(&self, former: &AgentRecord, new: &Registration) -> String {
        match (&former.registration, &former.heard) {
            (Some(other), Some(heard))
                if other.instance != new.instance
                    && heard.said != Said::Draining
                    && !is_silent(heard.at, self.now(), self.settings.interval) =>
            {
                format!("{} at {}", other.name, other.address)
            }
            _ => String::new(),
        }
    }

    fn first_heard(&self, former: &AgentRecord, new: &Registration) -> Heard {
        let same_process =
            former.registration.as_ref().is_some_and(|one| one.instance == new.instance);
        let former = former.heard.as_ref();
        let (said, reasons) = match former {
            Some(heard) if same_process => (heard.said, heard.reasons.clone()),
            Some(_) | None => (Said::Online, Vec::new()),
        };
        Heard {
            at: self.now(),
            said,
            reasons,
            capacity: new.capacity,
            vms: former.map_or(0, |heard| heard.vms),
            vms_running: former.map_or(0, |heard| heard.vms_running),
            version: new.version.clone(),
            boot_id: new.boot_id.clone(),
        }
    }

    fn noteworthy(
        &self,
        former: &AgentRecord,
        new: &Registration,
        superseded: &str,
    ) -> Option<Change> {
        let who = former.id.uri();
        let now = format!("{} at {}", new.name, new.address);
        if !superseded.is_empty() {
            return Some(self.change(&who, "agent superseded", format!("{superseded} by {now}")));
        }
        let same = |one: &Registration| one.name == new.name && one.address == new.address;
        let moved = !former.registration.as_ref().is_some_and(same);
        moved.then(|| self.change(&who, "agent registered", now))
    }

    /// A sign of life. Nothing is waited for.
    ///
    /// # Errors
    /// If the caller is not welcome, or another process of its id registered last.
    pub fn heartbeat(&self, bearer: &Bearer, beat: Beat) -> Result<u64, Refusal> {
        let agent = self.welcome(bearer)?;
        if let Some(fault) = beat.capacity.and_then(|capacity| capacity.fault()) {
            return Err(Refusal::BadHeartbeat(fault));
        }
        let known = || self.roster.get(agent).and_then(|record| record.capacity());
        let now = self.now();
        let mut reasons: Vec<String> =
            beat.reasons.iter().take(REASONS.0).map(|reason| cut(reason, REASONS.1)).collect();
        if beat.said.is_none() {
            reasons.push("it tells a status that this control plane does not know".to_owned());
        }
        reasons.extend(beat.sent_at.and_then(|sent_at| clock_fault(sent_at, now)));
        let heard = Heard {
            at: now,
            said: beat.said.unwrap_or(Said::Degraded),
            reasons,
            capacity: beat.capacity.or_else(known).unwrap_or_default(),
            vms: beat.vms,
            vms_running: beat.vms_running,
            version: cut(&beat.version, REASONS.1),
            boot_id: cut(&beat.boot_id, REASONS.1),
        };
        let last_event = self.roster.heard(agent, beat.instance, heard, self.settings.interval)?;
        self.counters.heartbeats.add(1);
        Ok(last_event)
    }

    /// Keeps events that are not kept yet; returns the last that is.
    ///
    /// # Errors
    /// If the caller is not welcome, another process of its id registered last, or they are out of order.
    pub async fn report(
        &self,
        bearer: &Bearer,
        instance: Uuid,
        events: Vec<VmEvent>,
    ) -> Result<u64, Refusal> {
        let agent = self.welcome(bearer)?;
        let last = self.roster.last_event(agent, instance, self.now(), self.settings.interval)?;
        if let Some(fault) = order_fault(&events) {
            return Err(Refusal::BadEvents(fault));
        }
        let new: Vec<VmEvent> = events
            .into_iter()
            .filter(|event| event.sequence > last)
            .map(VmEvent::bounded)
            .collect();
        if new.is_empty() {
            return Ok(last);
        }
        self.limits.report(agent)?;
        let count = u64::try_from(new.len()).unwrap_or_default();
        let last = self.store.keep_events(agent, self.now(), new).await?;
        self.roster.kept(agent, last);
        self.counters.events.add(count);
        Ok(last)
    }
}
