//! The agent's side, as short as the contract lets it be.

use ghost_proto::controlplane::{
    Amount, Capacity, EnrollRequest, EnrollResponse, HeartbeatRequest, HeartbeatResponse,
    RegisterRequest, RegisterResponse, ReportEventsRequest, Status as Said, VmEvent,
};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::Status;
use uuid::Uuid;

use crate::api::{Api, Client, Identity, Key, tls};

/// An enrolled agent with a connection.
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) instance: String,
    pub(crate) identity: Issued,
    pub(crate) client: Client,
}

/// What an agent holds after its enrolment.
pub(crate) struct Issued {
    pub(crate) key: KeyPair,
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) ca: Vec<u8>,
}

impl Issued {
    pub(crate) fn identity(&self) -> Identity {
        let chain = self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        (chain, PrivateKeyDer::try_from(self.key.serialize_der()).unwrap())
    }
}

pub(crate) fn csr(key: &KeyPair, id: &str, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names =
        vec![SanType::URI(format!("spiffe://ghost/agent/{id}").try_into().unwrap())];
    change(&mut params);
    params.serialize_request(key).unwrap().der().to_vec()
}

pub(crate) fn enrolment(key: &Key, id: &str, csr: Vec<u8>) -> EnrollRequest {
    EnrollRequest {
        secret: key.secret.clone(),
        agent_id: id.to_owned(),
        csr,
        agent_name: "pc-1".to_owned(),
    }
}

pub(crate) async fn enrol(
    api: &Api,
    key: &Key,
    id: &str,
    own: &KeyPair,
) -> Result<EnrollResponse, Status> {
    let ask = enrolment(key, id, csr(own, id, |_| ()));
    Ok(api.stranger().await.enroll(ask).await?.into_inner())
}

impl Agent {
    /// Enrols a new one.
    pub(crate) async fn new(api: &Api) -> Self {
        Self::with_id(api, &Uuid::new_v4().to_string(), "").await
    }

    /// Enrols one of that id; `again` is the id once more if it is enrolled already.
    pub(crate) async fn with_id(api: &Api, id: &str, again: &str) -> Self {
        let (key, own) = (api.key(again).await, KeyPair::generate().unwrap());
        let EnrollResponse { chain, ca } = enrol(api, &key, id, &own).await.unwrap();
        let identity = Issued { key: own, chain, ca };
        let client = connect(api, &identity).await;
        Self { id: id.to_owned(), instance: Uuid::new_v4().to_string(), identity, client }
    }

    /// Another process with the same files.
    pub(crate) async fn double(&self, api: &Api) -> Self {
        let key = KeyPair::try_from(self.identity.key.serialize_der()).unwrap();
        let (chain, ca) = (self.identity.chain.clone(), self.identity.ca.clone());
        let identity = Issued { key, chain, ca };
        let client = connect(api, &identity).await;
        let (id, instance) = (self.id.clone(), Uuid::new_v4().to_string());
        Self { id, instance, identity, client }
    }

    pub(crate) async fn reconnect(&mut self, api: &Api) {
        self.client = connect(api, &self.identity).await;
    }

    pub(crate) fn registration(&self) -> RegisterRequest {
        RegisterRequest {
            instance: self.instance.clone(),
            name: "pc-1".to_owned(),
            version: "0.1.0".to_owned(),
            address: "127.0.0.1:9".to_owned(),
            architecture: "x86_64".to_owned(),
            acceleration: "kvm".to_owned(),
            capacity: Some(capacity(16.0)),
            templates: vec!["debian-12".to_owned()],
            templates_cached: vec![],
            capabilities: vec![],
            boot_id: "boot-1".to_owned(),
        }
    }

    pub(crate) async fn register(&mut self) -> Result<RegisterResponse, Status> {
        let ask = self.registration();
        Ok(self.client.register(ask).await?.into_inner())
    }

    pub(crate) fn beat(&self) -> HeartbeatRequest {
        let now = Timestamp::now();
        HeartbeatRequest {
            instance: self.instance.clone(),
            sent_at: Some(prost_types::Timestamp { seconds: now.as_second(), nanos: 0 }),
            capacity: Some(capacity(12.0)),
            vms_running: 1,
            vms: 2,
            version: "0.1.0".to_owned(),
            status: Said::Online.into(),
            reasons: vec![],
            boot_id: "boot-1".to_owned(),
        }
    }

    pub(crate) async fn heartbeat(&mut self) -> Result<HeartbeatResponse, Status> {
        let ask = self.beat();
        Ok(self.client.heartbeat(ask).await?.into_inner())
    }

    /// Reports events of these numbers; returns the last that is kept.
    pub(crate) async fn report(&mut self, sequences: &[u64]) -> Result<u64, Status> {
        let events = sequences.iter().map(|sequence| event(*sequence)).collect();
        let ask = ReportEventsRequest { instance: self.instance.clone(), events };
        Ok(self.client.report_events(ask).await?.into_inner().last_event)
    }
}

pub(crate) async fn connect(api: &Api, identity: &Issued) -> Client {
    let ca = CertificateDer::from(identity.ca.clone());
    api.connect(tls(&ca, Some(identity.identity()))).await.unwrap()
}

pub(crate) fn event(sequence: u64) -> VmEvent {
    VmEvent {
        sequence,
        at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        vm_id: "6d0a3f4e-6a43-4d5e-9f58-0d2d2b3f2c11".to_owned(),
        vm_name: "web".to_owned(),
        status: "running".to_owned(),
        reason: String::new(),
        ip_address: "192.168.122.50".to_owned(),
        ..VmEvent::default()
    }
}

/// Of a host with 8 CPUs and that much memory left, in GiB.
pub(crate) fn capacity(ram_gib: f64) -> Capacity {
    let amount = |total: f64, available: f64| {
        Some(Amount { total, reserved: 0.0, allocated: total - available, available })
    };
    let gib = 1_073_741_824.0;
    Capacity {
        cpu: amount(8.0, 6.0),
        ram: amount(64.0 * gib, ram_gib * gib),
        disk: amount(900.0 * gib, 500.0 * gib),
    }
}
