//! Real sockets on loopback: what moves, and what stays.

use std::io;

use ghost_core::domain::{VpnState, VpnStatus};
use ghost_host::{SystemClock, Tailscale};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::ClientName;
use crate::grpc::access::Access;
use crate::grpc::listen::Connection;
use crate::identity::issuing::{Authority, Pair, agent};

const OPERATOR: &str = "spiffe://ghost/operator";

/// Doors with nobody behind them but the test.
struct Rig {
    authority: Authority,
    operator: Pair,
    identity: Arc<Identity>,
    doors: Doors,
    connections: ReceiverStream<io::Result<Connection>>,
    closing: CancellationToken,
}

impl Rig {
    /// Whose certificates are still to come.
    fn new(address: ListenAddr) -> Self {
        let authority = Authority::new();
        let operator = authority.issue(OPERATOR);
        let clock = Arc::new(SystemClock::new());
        let identity = Arc::new(Identity::awaited(&authority.files(), clock.clone()));
        let access = Access::new([ClientName::Uri(OPERATOR.to_owned())]);
        let closing = CancellationToken::new();
        let (listeners, connections) = Listeners::new(TaskTracker::new(), closing.clone(), access);
        let vpn = VpnWatch::new(Arc::new(Tailscale::new(&authority.path("no.sock"))), clock);
        let doors = Doors::new(address, Arc::new(listeners), Arc::clone(&identity), &vpn);
        Self { authority, operator, identity, doors, connections, closing }
    }

    fn certify(&self, number: u8) {
        self.authority.write("certs", &self.authority.issue(&agent(number)));
    }

    fn bound(&self) -> Option<SocketAddr> {
        self.doors.open.as_ref().map(|door| door.bound)
    }

    /// A connection, both ends.
    async fn connect(&mut self) -> (TlsStream<TcpStream>, Connection) {
        let connector = tokio_rustls::TlsConnector::from(self.authority.client(&self.operator));
        let stream = TcpStream::connect(self.bound().unwrap()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let (near, far) = tokio::join!(connector.connect(name, stream), self.connections.next());
        (near.unwrap(), far.unwrap().unwrap())
    }
}

fn loopback() -> ListenAddr {
    ListenAddr::Fixed(([127, 0, 0, 1], 0).into())
}

fn presented(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn the_door_opens_when_the_certificates_come() {
    let mut rig = Rig::new(loopback());
    rig.doors.open().await.unwrap();
    assert_eq!(rig.bound(), None);
    rig.certify(1);
    rig.identity.reload().unwrap();
    rig.doors.arrange().await.unwrap();
    let (_near, _far) = rig.connect().await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_cuts_none() {
    let mut rig = Rig::new(loopback());
    rig.certify(1);
    rig.identity.reload().unwrap();
    rig.doors.open().await.unwrap();
    let (mut near, mut far) = rig.connect().await;
    rig.certify(1);
    rig.identity.reload().unwrap();
    rig.doors.arrange().await.unwrap();
    let (newer, _far) = rig.connect().await;
    assert_ne!(presented(&near), presented(&newer));
    near.write_all(b"a").await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'a', "the former connection goes on");
    far.write_all(b"b").await.unwrap();
    far.flush().await.unwrap();
    assert_eq!(near.read_u8().await.unwrap(), b'b');
}

#[tokio::test]
async fn a_moved_door_is_closed_where_it_was_and_puts_nobody_out() {
    let mut rig = Rig::new(loopback());
    rig.certify(1);
    rig.identity.reload().unwrap();
    rig.doors.open().await.unwrap();
    let (mut near, mut far) = rig.connect().await;
    let former = rig.bound().unwrap();
    rig.doors.address = ListenAddr::Fixed(([127, 0, 0, 2], 0).into());
    rig.doors.arrange().await.unwrap();
    assert_eq!(rig.bound().unwrap().ip().to_string(), "127.0.0.2");
    refused(former).await;
    let (_near, _far) = rig.connect().await;
    near.write_all(b"a").await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'a');
    assert!(!rig.closing.is_cancelled());
}

/// Waits until nobody listens there any more: the accepting task ends on its own.
async fn refused(address: SocketAddr) {
    let asking = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking).await.unwrap();
}

#[tokio::test]
async fn at_the_vpns_port_nobody_from_elsewhere_is_heard() {
    let rig = Rig::new(loopback());
    rig.certify(1);
    rig.identity.reload().unwrap();
    for (callers, heard) in [(Callers::All, true), (Callers::OfTheVpn, false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let security = Security::Tls(Arc::clone(&rig.identity));
        rig.doors.listeners.tcp(listener, security, callers);
        let connector = tokio_rustls::TlsConnector::from(rig.authority.client(&rig.operator));
        let stream = TcpStream::connect(at).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        assert_eq!(connector.connect(name, stream).await.is_ok(), heard, "{callers:?}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_at_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut rig = Rig::new(ListenAddr::Fixed(taken.local_addr().unwrap()));
    rig.certify(1);
    rig.identity.reload().unwrap();
    let error = rig.doors.open().await.unwrap_err().to_string();
    assert!(error.contains("ss -ltnp"), "{error}");
}

#[test]
fn where_to_listen_follows_the_vpn() {
    let up = |address: &str| {
        let addresses = vec![address.parse().unwrap()];
        VpnStatus { addresses, ..VpnStatus::without_network(VpnState::Running) }
    };
    let view = |status| VpnView { status, failure: None };
    let (none, unknown) = (view(Some(VpnStatus::without_network(VpnState::Stopped))), view(None));
    let there = view(Some(up("100.64.0.7")));
    let tailscale = ListenAddr::Tailscale { port: 1 };
    let shown = |address, view: &VpnView| wanted(address, view).map(|at| at.to_string());
    assert_eq!(shown(tailscale, &there).as_deref(), Some("100.64.0.7:1"));
    assert_eq!(shown(tailscale, &none), None);
    assert_eq!(shown(tailscale, &unknown), None);
    assert_eq!(shown(ListenAddr::Auto, &there).as_deref(), Some("100.64.0.7:9090"));
    assert_eq!(shown(ListenAddr::Auto, &none).as_deref(), Some("127.0.0.1:9090"));
    let silent = VpnView { failure: Some("away".to_owned()), ..there.clone() };
    assert_eq!(shown(ListenAddr::Auto, &silent).as_deref(), Some("100.64.0.7:9090"));
    assert_eq!(shown(loopback(), &there).as_deref(), Some("127.0.0.1:0"));
}
