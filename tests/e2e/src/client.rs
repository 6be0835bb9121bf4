//! The API itself, without agentctl in between.

use std::net::SocketAddr;

use anyhow::Context as _;
use ghost_proto::agentpb::CreateVmRequest;
use ghost_proto::agentpb::agent_service_client::AgentServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::certs::{Certs, Identity};

/// The API's client.
pub type Client = AgentServiceClient<Channel>;

/// A channel to the agent over mutual TLS.
///
/// # Errors
/// If there is no connection.
pub async fn channel(
    address: SocketAddr,
    certs: &Certs,
    who: &Identity,
) -> anyhow::Result<Channel> {
    let read = |path| std::fs::read(path).context("a certificate's file");
    let tls = ClientTlsConfig::new()
        .domain_name("localhost")
        .ca_certificate(Certificate::from_pem(read(certs.ca())?))
        .identity(tonic::transport::Identity::from_pem(
            read(who.cert.clone())?,
            read(who.key.clone())?,
        ));
    Ok(Endpoint::new(format!("https://{address}"))?.tls_config(tls)?.connect().await?)
}

/// The API over mutual TLS, as the operator.
///
/// # Errors
/// If there is no connection.
pub async fn operator(address: SocketAddr, certs: &Certs) -> anyhow::Result<Client> {
    Ok(AgentServiceClient::new(channel(address, certs, &certs.operator()).await?))
}

/// The smallest VM of that name from template `mini`.
#[must_use]
pub fn mini(name: &str) -> CreateVmRequest {
    CreateVmRequest {
        name: name.to_owned(),
        vcpu: 1,
        ram_gb: 1,
        disk_gb: 10,
        template: "mini".to_owned(),
        ..CreateVmRequest::default()
    }
}
