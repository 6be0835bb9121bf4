//! Servers with certificates, good and bad.

use std::io::{Read, Write};

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

/// A certificate for this host that vouches for itself, in PEM too.
fn certificate(year: i32) -> (ServerConfig, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    (builder.with_single_cert(chain, der).unwrap(), certificate.pem())
}

#[tokio::test]
async fn a_certificate_that_no_one_vouches_for_is_refused_at_once_and_called_so() {
    let (config, _pem) = certificate(2099);
    let server = Server::start_tls(config, |_, _| Reply::file(&content()));
    let rig = Rig::new(limits());
    let error = rig.failure_from(&server.url).await;
    assert!(matches!(error, ImageError::Untrusted { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .starts_with(&format!("the certificate of {} is not trusted: ", server.url))
    );
    assert!(error.remedy().contains("ca-certificates"), "{}", error.remedy());
    assert_eq!((server.asked().len(), rig.waits()), (0, 0));
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_from_who_is_not_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/a.qcow2", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let rig = Rig::new(limits());
    let error = rig.failure_from(&url).await;
    assert!(matches!(error, ImageError::Tls { .. }), "{error:?}");
    assert_eq!(rig.waits(), 0);
}

/// Runs the test `name` again, trusting the certificate of `pem`.
fn trusting(name: &str, pem: &str, value: &str) {
    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("authority.pem");
    fs::write(&authority, pem).unwrap();
    let mut command = alone::command(module_path!(), name, value);
    alone::assert_passed(&command.env("SSL_CERT_FILE", authority).output().unwrap());
}

#[tokio::test]
async fn an_encrypted_download_is_never_sent_on_to_an_unencrypted_one() {
    let name = "an_encrypted_download_is_never_sent_on_to_an_unencrypted_one";
    if let Some(url) = alone::given() {
        let rig = Rig::new(limits());
        rig.content_from(&url).await;
        let sent_on = url.parse::<Url>().unwrap().join("/moved").unwrap();
        let error = Rig::new(limits()).failure_from(sent_on.as_str()).await.to_string();
        assert!(error.starts_with(&format!("{sent_on} redirects to http://127.0.0.1:")), "{error}");
        assert!(error.ends_with("which is not encrypted"), "{error}");
        return;
    }
    let (config, pem) = certificate(2099);
    let plain = Server::start(|_, _| Reply::file(&content()));
    let to = plain.url.clone();
    let server = Server::start_tls(config, move |_, asked| match asked.path() {
        "/moved" => Reply::redirect(&to),
        _ => Reply::file(&content()),
    });
    trusting(name, &pem, &server.url);
    assert!(plain.asked().is_empty());
}

#[tokio::test]
async fn a_certificate_that_has_run_out_points_to_the_clock_too() {
    let name = "a_certificate_that_has_run_out_points_to_the_clock_too";
    if let Some(url) = alone::given() {
        let error = Rig::new(limits()).failure_from(&url).await;
        assert!(matches!(error, ImageError::Untrusted { .. }), "{error:?}");
        assert!(error.to_string().contains("expired"), "{error}");
        assert!(error.remedy().contains("clock"), "{}", error.remedy());
        return;
    }
    let (config, pem) = certificate(2001);
    let server = Server::start_tls(config, |_, _| Reply::file(&content()));
    trusting(name, &pem, &server.url);
}
