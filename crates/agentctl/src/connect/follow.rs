//! Streams of the agent. Invariant: only their begin has a deadline; that the agent's host is still
//! there, the connection's pings show.

use std::time::Duration;

use ghost_proto::agentpb::agent_service_client::AgentServiceClient;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::{Agent, age};
use crate::errors::{Exit, Failure, from_status};

/// An open stream of `A`.
#[derive(Debug)]
pub(crate) struct Following<A> {
    agent: Agent,
    stream: Streaming<A>,
    limit: Duration,
    /// Of what the agent knows, in seconds, while libvirt does not answer it.
    pub(crate) age: Option<u64>,
}

impl Agent {
    /// Opens a stream by `rpc`; it must begin within `--timeout` or else `default`.
    ///
    /// # Errors
    /// As [`Agent::call`].
    pub(crate) async fn open<M, A, F>(
        &self,
        message: M,
        default: Duration,
        rpc: impl FnOnce(AgentServiceClient<Channel>, tonic::Request<M>) -> F,
    ) -> Result<Following<A>, Failure>
    where
        F: Future<Output = Result<Response<Streaming<A>>, Status>>,
    {
        let limit = self.timeout.unwrap_or(default);
        match timeout(limit, rpc(self.client.clone(), tonic::Request::new(message))).await {
            Ok(Ok(response)) => {
                let age = age(response.metadata());
                Ok(Following { agent: self.clone(), stream: response.into_inner(), limit, age })
            }
            Ok(Err(status)) => Err(self.failure(&status, limit)),
            Err(_) => Err(from_status::timed_out(limit)),
        }
    }
}

impl<A> Following<A> {
    /// The next message.
    ///
    /// # Errors
    /// Why the agent ended the stream; 7 when it did so without a word, or the connection broke.
    pub(crate) async fn next(&mut self) -> Result<A, Failure> {
        self.next_or_end().await?.ok_or_else(|| self.hung_up())
    }

    /// The next message of a stream that has an end; `None` behind the last one. Nothing is lost when it
    /// is dropped half-way.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(crate) async fn next_or_end(&mut self) -> Result<Option<A>, Failure> {
        let message = self.stream.message().await;
        message.map_err(|status| self.agent.failure(&status, self.limit))
    }

    /// The agent ended the stream and has not said all.
    pub(crate) fn hung_up(&self) -> Failure {
        Failure::new(Exit::Unavailable, format!("{} hung up", self.agent.target))
    }
}
