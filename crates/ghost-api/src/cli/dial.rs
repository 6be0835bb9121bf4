//! The operators' socket. Invariant: every failure says how to get a server that answers.

use std::io;
use std::time::Duration;

use ghost_proto::admin::admin_client::AdminClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status};
use tower::service_fn;

use super::Context;
use super::failure::{Exit, Failure};
use super::identified::Identified;

/// A server on the same host that does not accept within this time hangs.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// What is answered from the server's memory or disk.
pub(super) const LIMIT: Duration = Duration::from_secs(25);
/// Largest answer: ten thousand events at their limits.
const ANSWER_BYTES: usize = 32 << 20;
/// An agent's error carries the guest's last console lines in its trailers; hyper's default is 16 KiB.
const HEADER_BYTES: u32 = 256 * 1024;

/// A connected server.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    identified: Identified,
}

/// What calls it.
pub(super) type Client = AdminClient<Channel>;

/// Connects.
///
/// # Errors
/// Exit 7 if nobody answers, 9 if the socket may not be opened.
pub(super) async fn dial(context: &Context) -> Result<Api, Failure> {
    let path = context.socket.clone();
    let silent = || {
        let message =
            format!("{} does not answer; is the server stopped? look at its log", path.display());
        Failure::new(Exit::Unavailable, message)
    };
    let stream = match timeout(CONNECT_LIMIT, UnixStream::connect(&path)).await {
        Ok(connected) => connected.map_err(|error| refused(context, &error))?,
        Err(_) => return Err(silent()),
    };
    let mut stream = Some(TokioIo::new(stream));
    let once = service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::other("the server hung up")) }
    });
    let channel = Endpoint::from_static("http://admin.ghost")
        .http2_max_header_list_size(HEADER_BYTES)
        .connect_with_connector(once)
        .await;
    let channel = channel.map_err(|_| silent())?;
    let client = AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES);
    Ok(Api { client, identified: context.identified.clone() })
}

fn refused(context: &Context, error: &io::Error) -> Failure {
    let (socket, dir) = (context.socket.display(), context.dir.display());
    let start = format!("start the server: ghost-api serve --dir {dir}");
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::Unavailable, format!("no server has a socket {socket}; {start}"))
        }
        io::ErrorKind::ConnectionRefused => {
            Failure::new(Exit::Unavailable, format!("nobody listens on {socket}; {start}"))
        }
        io::ErrorKind::PermissionDenied => Failure::new(
            Exit::NotPermitted,
            format!("you may not open {socket}; become the server's user, or use sudo"),
        ),
        _ => {
            Failure::new(Exit::Unavailable, format!("cannot connect to {socket}: {error}; {start}"))
        }
    }
}

impl Api {
    /// Sends `message` by `rpc`, and waits for `limit` at most.
    ///
    /// # Errors
    /// What the server answered, or exit 8 when the time is over.
    pub(super) async fn call<M, A, F: Future<Output = Result<Response<A>, Status>>>(
        self,
        message: M,
        limit: Duration,
        rpc: impl FnOnce(Client, Request<M>) -> F,
    ) -> Result<A, Failure> {
        let mut request = Request::new(message);
        self.identified.mark(request.metadata_mut());
        let failure = match timeout(limit, rpc(self.client, request)).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => Failure::of(&status),
            Err(_) => Failure::new(
                Exit::TimedOut,
                format!("no answer in {} s; look at the log of ghost-api serve", limit.as_secs()),
            ),
        };
        Err(failure.of_request(&self.identified.request_id))
    }
}
