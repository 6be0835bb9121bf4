//! An agent of which there is the control plane's half alone. Invariant: what exists is enrolled and
//! registered, by a key and a certificate of its own, on a connection of its own.

use std::time::SystemTime;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ghost_e2e::plane::Plane;
use ghost_proto::controlplane::control_plane_client::ControlPlaneClient;
use ghost_proto::controlplane::{
    Amount, Capacity, EnrollRequest, HeartbeatRequest, RegisterRequest, Status as Said,
};
use rcgen::{CertificateParams, KeyPair, SanType};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use uuid::Uuid;

const GIB: f64 = 1_073_741_824.0;
const VERSION: &str = "0.1.0";
const BOOT: &str = "5e1c1b1e-0f5c-4b0e-9a55-6f5d1c1f1a77";

/// A registered agent.
#[derive(Debug, Clone)]
pub(super) struct Simulated {
    instance: String,
    channel: Channel,
}

impl Simulated {
    /// Enrols with a new key, connects with its certificate and registers.
    ///
    /// # Errors
    /// With what the control plane said.
    pub(super) async fn join(plane: &Plane, number: u32) -> anyhow::Result<Self> {
        let (name, id) = (format!("simulated-{number}"), Uuid::new_v4().to_string());
        let identity = enrol(plane, &name, &id).await?;
        let channel = connect(plane, Some(identity)).await?;
        let agent = Self { instance: Uuid::new_v4().to_string(), channel };
        let registration = agent.registration(name);
        ControlPlaneClient::new(agent.channel.clone()).register(registration).await?;
        Ok(agent)
    }

    fn registration(&self, name: String) -> RegisterRequest {
        RegisterRequest {
            instance: self.instance.clone(),
            name,
            version: VERSION.to_owned(),
            architecture: "x86_64".to_owned(),
            acceleration: "kvm".to_owned(),
            capacity: Some(capacity()),
            templates: vec!["debian12".to_owned()],
            boot_id: BOOT.to_owned(),
            ..RegisterRequest::default()
        }
    }

    /// One heartbeat.
    ///
    /// # Errors
    /// With what the control plane said.
    pub(super) async fn beat(self) -> Result<(), Status> {
        let beat = HeartbeatRequest {
            instance: self.instance,
            sent_at: Some(SystemTime::now().into()),
            capacity: Some(capacity()),
            vms_running: 1,
            vms: 2,
            version: VERSION.to_owned(),
            status: Said::Online.into(),
            reasons: Vec::new(),
            boot_id: BOOT.to_owned(),
        };
        ControlPlaneClient::new(self.channel).heartbeat(beat).await.map(drop)
    }

    /// A call on the same connection to a service that the control plane has not: it answers without any
    /// work, so it is the floor.
    ///
    /// # Errors
    /// If it was answered in another way.
    pub(super) async fn knock(&self) -> Result<(), Status> {
        let mut nobody = HealthClient::new(self.channel.clone());
        match nobody.check(HealthCheckRequest::default()).await {
            Err(status) if status.code() == Code::Unimplemented => Ok(()),
            Err(status) => Err(status),
            Ok(_) => Err(Status::internal("the control plane has a health service now")),
        }
    }
}

/// As the contract wants it: the private key stays here.
async fn enrol(plane: &Plane, name: &str, id: &str) -> anyhow::Result<Identity> {
    let (key, own) = (plane.key().await?, KeyPair::generate()?);
    let mut wanted = CertificateParams::default();
    wanted.subject_alt_names = vec![SanType::URI(format!("spiffe://ghost/agent/{id}").try_into()?)];
    let request = EnrollRequest {
        secret: key.split('-').nth(2).context("a key without a secret")?.to_owned(),
        agent_id: id.to_owned(),
        csr: wanted.serialize_request(&own)?.der().to_vec(),
        agent_name: name.to_owned(),
    };
    let mut stranger = ControlPlaneClient::new(connect(plane, None).await?);
    let issued = stranger.enroll(request).await?.into_inner();
    let chain: String = issued.chain.iter().map(|der| pem(der)).collect();
    Ok(Identity::from_pem(chain, own.serialize_pem()))
}

/// With TLS 1.3, since the control plane speaks no other; tonic sets TCP_NODELAY.
async fn connect(plane: &Plane, identity: Option<Identity>) -> anyhow::Result<Channel> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(plane.ca()?));
    let tls = identity.into_iter().fold(tls, ClientTlsConfig::identity);
    let endpoint = Endpoint::new(format!("https://{}", plane.address))?;
    Ok(endpoint.tls_config(tls)?.connect().await?)
}

fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

fn capacity() -> Capacity {
    let amount = |total, available| {
        Some(Amount { total, reserved: 0.0, allocated: total - available, available })
    };
    Capacity {
        cpu: amount(8.0, 6.0),
        ram: amount(64.0 * GIB, 12.0 * GIB),
        disk: amount(900.0 * GIB, 500.0 * GIB),
    }
}
