//! A control plane of a test's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ghost_api::authority::{self, files};
use ghost_api::clock::Clock;
use ghost_api::plane::Settings;
use ghost_api::serve::{Config, SOCKET, STORE, Server};
use ghost_api::store::Store;
use ghost_api::store::redb::RedbStore;
use ghost_proto::admin::admin_client::AdminClient;
use ghost_proto::admin::{
    Agent, AuditRecord, CreateTokenRequest, ListAgentsRequest, ListAuditRequest,
};
use ghost_proto::controlplane::control_plane_client::ControlPlaneClient;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_types::StatusExt as _;
use tower::service_fn;

/// The host's clock, and what a test added to it.
#[derive(Debug, Default)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let added = jiff::SignedDuration::from_secs(self.0.load(Ordering::SeqCst));
        Timestamp::now().checked_add(added).unwrap()
    }
}

/// A running control plane.
pub(crate) struct Api {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) settings: Settings,
    server: Option<Server>,
}

pub(crate) type Client = ControlPlaneClient<Channel>;

/// Makes an authority for loopback.
pub(crate) fn init(folder: &Path) {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    files::write(folder, &authority::make(&names, Timestamp::now()).unwrap()).unwrap();
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        init(&folder.path().join("api"));
        let mut api = Self { folder, clock: Arc::default(), settings, server: None };
        api.open().await;
        api
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("api")
    }

    /// With a store that the test holds.
    pub(crate) async fn start_on(store: Arc<dyn Store>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        init(&folder.path().join("api"));
        let settings = Settings::default();
        let mut api = Self { folder, clock: Arc::default(), settings, server: None };
        api.open_on(store).await;
        api
    }

    async fn open(&mut self) {
        let store = RedbStore::open(&self.dir().join(STORE)).unwrap();
        self.open_on(Arc::new(store)).await;
    }

    async fn open_on(&mut self, store: Arc<dyn Store>) {
        let folder = self.dir();
        let config = Config {
            socket: folder.join(SOCKET),
            folder,
            listen: ([127, 0, 0, 1], 0).into(),
            http: Some(([127, 0, 0, 1], 0).into()),
            certificate_life: Duration::from_secs(30 * 86_400),
            settings: self.settings,
        };
        self.server = Some(Server::start(&config, store, self.clock.clone()).await.unwrap());
    }

    pub(crate) async fn restart(&mut self) {
        self.server.take().unwrap().stop().await.unwrap();
        self.open().await;
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        admin(&self.dir().join(SOCKET)).await
    }

    /// A key for a new agent, or for that one.
    pub(crate) async fn key(&self, agent: &str) -> Key {
        let ask = CreateTokenRequest { ttl_seconds: 3600, agent_id: agent.to_owned() };
        let made = self.admin().await.create_token(ask).await.unwrap().into_inner();
        Key::parse(&made.key)
    }

    pub(crate) async fn agents(&self) -> Vec<Agent> {
        let told = self.admin().await.list_agents(ListAgentsRequest {}).await.unwrap();
        told.into_inner().agents
    }

    pub(crate) async fn agent(&self, id: &str) -> Agent {
        self.agents().await.into_iter().find(|agent| agent.agent_id == id).unwrap()
    }

    pub(crate) async fn audit(&self) -> Vec<AuditRecord> {
        let told = self.admin().await.list_audit(ListAuditRequest { limit: 0 }).await.unwrap();
        told.into_inner().records
    }

    /// A connection without a certificate.
    pub(crate) async fn stranger(&self) -> Client {
        self.connect(tls(&self.ca(), None)).await.unwrap()
    }

    pub(crate) fn ca(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.dir().join("ca.crt")).unwrap()
    }

    pub(crate) async fn connect(
        &self,
        tls: rustls::ClientConfig,
    ) -> Result<Client, Box<dyn std::error::Error>> {
        connect(self.server().address, tls).await
    }
}

/// The parts of an enrolment key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) secret: String,
    pub(crate) ca: String,
}

impl Key {
    pub(crate) fn parse(text: &str) -> Self {
        let parts: Vec<&str> = text.split('-').collect();
        let ["ghost", "1", secret, ca] = parts[..] else { panic!("{text} is no key") };
        Self { secret: secret.to_owned(), ca: ca.to_owned() }
    }
}

pub(crate) async fn admin(socket: &Path) -> AdminClient<Channel> {
    let path = socket.to_owned();
    let dial = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://admin.ghost").connect_with_connector(dial).await;
    AdminClient::new(channel.unwrap())
}

pub(crate) async fn connect(
    address: std::net::SocketAddr,
    tls: rustls::ClientConfig,
) -> Result<Client, Box<dyn std::error::Error>> {
    let tcp = TcpStream::connect(address).await?;
    // Requests are small and each is waited for.
    tcp.set_nodelay(true)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let stream = connector.connect(ServerName::try_from("localhost")?, tcp).await?;
    let mut stream = Some(TokioIo::new(stream));
    let once = service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| std::io::Error::other("used up")) }
    });
    let channel = Endpoint::from_static("http://api.ghost").connect_with_connector(once).await?;
    Ok(ControlPlaneClient::new(channel))
}

pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(crate) fn tls(ca: &CertificateDer<'static>, own: Option<Identity>) -> rustls::ClientConfig {
    tls_of(ca, own, &[&rustls::version::TLS13])
}

pub(crate) fn tls_of(
    ca: &CertificateDer<'static>,
    own: Option<Identity>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// The reason and domain of a refusal.
pub(crate) fn reason(status: &tonic::Status) -> String {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("no reason in {status:?}"));
    assert_eq!(info.domain, "controlplane.ghost");
    info.reason
}
