//! A look at the certificate that an agent shows. Invariant: nothing is sent, asked or believed: the
//! agent proves that the key is its own, and that is all; so it works with certificates that are over.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Target, unavailable};
use crate::cli::Connection;
use crate::errors::{Failure, from_tls};

/// Longest look.
const LIMIT: Duration = Duration::from_secs(10);

/// The certificate that the agent at `--addr` shows to a new connection, DER, and where that is.
///
/// # Errors
/// Exit 2 for an address that makes no sense, 7 when nobody answers, 9 when it does not speak TLS 1.3.
pub(crate) async fn certificate(
    options: &Connection,
    limit: Option<Duration>,
) -> Result<(Target, CertificateDer<'static>), Failure> {
    let target = Target::choose(options, |_| None)?;
    let limit = limit.unwrap_or(LIMIT).min(LIMIT);
    let certificate = match timeout(limit, ask(&target)).await {
        Ok(certificate) => certificate?,
        Err(_) => return Err(target.silent(limit)),
    };
    Ok((target, certificate))
}

async fn ask(target: &Target) -> Result<CertificateDer<'static>, Failure> {
    let Target::Remote(remote) = target else {
        return Err(Failure::usage("a unix socket has no certificate").remedy("give --addr"));
    };
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Failure::local(format!("TLS 1.3 is not available: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect((remote.host.as_str(), remote.port))
        .await
        .map_err(|error| target.refused(&error))?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(remote.name.clone(), tcp)
        .await
        .map_err(|error| from_tls::handshake(&error, target))?;
    let shown = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    shown.map(|der| der.clone().into_owned()).ok_or_else(|| {
        unavailable(format!("{target} showed no certificate"), "is it a ghost-agent?")
    })
}

/// Takes any certificate whose key the other end has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
