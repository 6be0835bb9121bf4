//! Streams of the agent. Invariant: only their begin has a deadline; that the agent's host is still
//! there, the connection's pings show.

use std::time::Duration;

use ghost_proto::agentpb::agent_service_client::AgentServiceClient;
use ghost_proto::agentpb::operations_service_client::OperationsServiceClient;
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
        self.opened(default, rpc(self.client.clone(), self.request(message))).await
    }

    /// As [`Self::open`], of what an operator asks the agent about itself.
    ///
    /// # Errors
    /// As [`Agent::call`].
    pub(crate) async fn open_operation<M, A, F>(
        &self,
        message: M,
        default: Duration,
        rpc: impl FnOnce(OperationsServiceClient<Channel>, tonic::Request<M>) -> F,
    ) -> Result<Following<A>, Failure>
    where
        F: Future<Output = Result<Response<Streaming<A>>, Status>>,
    {
        self.opened(default, rpc(self.operations.clone(), self.request(message))).await
    }

    async fn opened<A>(
        &self,
        default: Duration,
        opening: impl Future<Output = Result<Response<Streaming<A>>, Status>>,
    ) -> Result<Following<A>, Failure> {
        let limit = self.timeout.unwrap_or(default);
        match timeout(limit, opening).await {
            Ok(Ok(response)) => {
                let age = age(response.metadata());
                Ok(Following { agent: self.clone(), stream: response.into_inner(), limit, age })
            }
            Ok(Err(status)) => Err(self.failure(&status, limit)),
            Err(_) => Err(self.named(from_status::timed_out(limit))),
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
