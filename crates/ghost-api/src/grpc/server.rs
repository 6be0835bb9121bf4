//! The servers behind the doors.

use std::sync::Arc;
use std::time::Duration;

use ghost_proto::admin::admin_server::AdminServer;
use ghost_proto::controlplane::control_plane_server::ControlPlaneServer;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Error, Server};

use super::admin::AdminApi;
use super::agents::AgentsApi;
use super::listen;
use crate::commander::Commander;
use crate::plane::Plane;

/// Largest message that is read: 256 events at their limits are half of it.
const MESSAGE_BYTES: usize = 1 << 20;
/// Largest headers: ours have a few hundred bytes.
const HEADER_BYTES: u32 = 16 * 1024;
/// Most calls under way on one connection of an agent, which makes one after the other.
const CALLS_PER_CONNECTION: u32 = 16;
/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Serves agents until `closing`, then until the calls under way have been answered. `background` holds
/// connections, `tasks` what they asked for.
///
/// # Errors
/// If the transport fails.
pub async fn serve_agents(
    plane: Arc<Plane>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    background: TaskTracker,
    tasks: TaskTracker,
    closing: CancellationToken,
) -> Result<(), Error> {
    let connections = listen::accept(listener, tls, &background, closing.clone());
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(CALLS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_BYTES)
        .add_service(
            ControlPlaneServer::new(AgentsApi { plane, tasks })
                .max_decoding_message_size(MESSAGE_BYTES),
        )
        .serve_with_incoming_shutdown(connections, closing.cancelled_owned())
        .await
}

/// Serves operators until `closing`; `tasks` holds the commands that they gave.
///
/// # Errors
/// If the transport fails.
pub async fn serve_operators(
    plane: Arc<Plane>,
    commander: Commander,
    listener: UnixListener,
    tasks: TaskTracker,
    closing: CancellationToken,
) -> Result<(), Error> {
    let api = AdminApi { plane, commander, tasks };
    Server::builder()
        .add_service(AdminServer::new(api).max_decoding_message_size(MESSAGE_BYTES))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), closing.cancelled_owned())
        .await
}
