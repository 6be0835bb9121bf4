//! One-time enrolment keys.

use std::time::Duration;

use clap::Subcommand;
use ghost_proto::admin::CreateTokenRequest;
use serde::Serialize;

use super::failure::Failure;
use super::{Context, dial, inputs, output};

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key; it is shown once.
    Create {
        /// How long it may be used, from 1m to 30d.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = inputs::parse_duration)]
        ttl: Duration,
        /// For an agent that is enrolled already and lost its certificate: its name or UUID.
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
    },
}

#[derive(Debug, Serialize)]
struct Made {
    key: String,
    expires_at: String,
}

/// Does it.
pub(super) async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    let Command::Create { ttl, agent } = command;
    let ttl_seconds = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
    let ask = CreateTokenRequest { ttl_seconds, agent_id: agent.unwrap_or_default() };
    let api = dial::dial(context).await?;
    let call = |mut client: dial::Client, ask| async move { client.create_token(ask).await };
    let made = api.call(ask, dial::LIMIT, call).await?;
    let made = Made { key: made.key, expires_at: output::time(made.expires_at) };
    // The key alone, so that a script can take it as it is.
    context.output.print(&made, |made| format!("{}\n", made.key))
}
