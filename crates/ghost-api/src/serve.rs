//! The control plane at work. Invariant: it starts whole or not at all, and at its end what it knows is
//! in the store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authority::{Authority, AuthorityError, files};
use crate::clock::Clock;
use crate::commander::Commander;
use crate::grpc::status::chain;
use crate::grpc::tls::TlsError;
use crate::grpc::unix::SocketError;
use crate::grpc::{server, tls, unix};
use crate::http;
use crate::plane::{Plane, Settings};
use crate::store::redb::OpenError;
use crate::store::{Store, StoreError};

/// What outlives the process, in the folder.
pub const STORE: &str = "store.redb";
/// The operators' socket, in the folder.
pub const SOCKET: &str = "admin.sock";
/// Signs of life reach the disk so often.
const SAVED_EVERY: Duration = Duration::from_secs(60);
/// What is under way at the end has so long: a create that takes longer goes on at its agent.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// How to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where `init` made the authority.
    pub folder: PathBuf,
    /// Where agents connect.
    pub listen: SocketAddr,
    /// Where monitoring asks; none for not at all.
    pub http: Option<SocketAddr>,
    /// Where operators connect.
    pub socket: PathBuf,
    /// How long an agent's certificate lives.
    pub certificate_life: Duration,
    /// The rest.
    pub settings: Settings,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The authority's files.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store's file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operators' socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A port.
    #[error(
        "cannot listen at {address}; choose an address of this host and a free port with {option} (see who has it: ss -ltnp)"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The option that names it.
        option: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// A control plane that serves.
#[derive(Debug)]
pub struct Server {
    /// Where agents connect.
    pub address: SocketAddr,
    /// Where monitoring asks.
    pub http: Option<SocketAddr>,
    plane: Arc<Plane>,
    closing: CancellationToken,
    /// Doors and what is behind them.
    background: TaskTracker,
    /// What is being changed, and commands to agents.
    work: TaskTracker,
    serving: JoinHandle<()>,
}

impl Server {
    /// Opens all doors.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn start(
        config: &Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServeError> {
        let authority = Authority::load(&config.folder, config.certificate_life)?;
        let ca = authority.certificate().clone();
        let own = authority.identity(&config.folder, files::SERVER)?;
        let server_tls = tls::server_config(&ca, own)?;
        let own = authority.identity(&config.folder, files::CONTROL_PLANE)?;
        let commander = Commander::new(tls::client_config(&ca, own)?);
        let plane = Arc::new(Plane::new(store, authority, clock, config.settings).await?);

        let agents = bind(config.listen, "--listen").await?;
        let monitoring = match config.http {
            Some(address) => Some(bind(address, "--http").await?),
            None => None,
        };
        let operators = unix::bind(&config.socket)?;
        let address = local(&agents, config.listen);
        let http = monitoring.as_ref().zip(config.http).map(|(one, wanted)| local(one, wanted));

        let (closing, background, work) =
            <(CancellationToken, TaskTracker, TaskTracker)>::default();
        let serving_agents = server::serve_agents(
            Arc::clone(&plane),
            agents,
            server_tls,
            background.clone(),
            work.clone(),
            closing.clone(),
        );
        let serving_operators = server::serve_operators(
            Arc::clone(&plane),
            commander,
            operators,
            work.clone(),
            closing.clone(),
        );
        let either_ended = closing.clone();
        let serving = background.spawn(async move {
            let (agents, operators) = tokio::join!(
                ended_by_itself(serving_agents, either_ended.clone()),
                ended_by_itself(serving_operators, either_ended)
            );
            for error in [agents.err(), operators.err()].into_iter().flatten() {
                tracing::error!(error = chain(&error), "the gRPC server failed");
            }
        });
        background.spawn(save_now_and_then(Arc::clone(&plane), closing.clone()));
        if let Some(listener) = monitoring {
            background.spawn(http::serve(
                Arc::clone(&plane),
                listener,
                background.clone(),
                closing.clone(),
            ));
        }
        tracing::info!(%address, http = http.map(tracing::field::display), socket = %config.socket.display(), "listening");
        Ok(Self { address, http, plane, closing, background, work, serving })
    }

    /// Until a door fails, which is only if something is wrong.
    pub async fn until_a_part_dies(&mut self) {
        let _ = (&mut self.serving).await;
    }

    /// Closes the doors, answers what is under way, and saves.
    ///
    /// # Errors
    /// If the last signs of life did not reach the store.
    pub async fn stop(self) -> Result<(), StoreError> {
        self.work.close();
        self.closing.cancel();
        self.background.close();
        let all = async { tokio::join!(self.work.wait(), self.background.wait()) };
        if tokio::time::timeout(SHUTDOWN_LIMIT, all).await.is_err() {
            tracing::warn!(
                unfinished = self.work.len(),
                "left what took longer than the shutdown may; agents finish what they began"
            );
        }
        self.plane.save().await
    }

    /// The control plane itself.
    #[must_use]
    pub fn plane(&self) -> &Plane {
        &self.plane
    }
}

/// One door that fails closes all.
async fn ended_by_itself<T>(serving: impl Future<Output = T>, closing: CancellationToken) -> T {
    let ended = serving.await;
    closing.cancel();
    ended
}

async fn save_now_and_then(plane: Arc<Plane>, closing: CancellationToken) {
    let mut every = tokio::time::interval(SAVED_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while closing.run_until_cancelled(every.tick()).await.is_some() {
        if let Err(error) = plane.save().await {
            tracing::error!(
                error = chain(&error),
                "the store failed; signs of life are kept in memory"
            );
        }
    }
}

async fn bind(address: SocketAddr, option: &'static str) -> Result<TcpListener, ServeError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| ServeError::Bind { address, option, source })
}

fn local(listener: &TcpListener, wanted: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(wanted)
}
