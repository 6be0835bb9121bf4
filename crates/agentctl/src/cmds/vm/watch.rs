//! Every VM, then every change. Invariant: between two lines nothing is missing, however often the
//! connection breaks: it goes on behind the last event that was printed.

mod board;

use std::time::Duration;

use ghost_proto::agentpb::{VmEvent, WatchVMsRequest};
use serde::Serialize;

use super::READ_LIMIT;
use super::status::Detail;
use crate::cli::Global;
use crate::connect;
use crate::errors::{Exit, Failure};
use crate::interrupt::until_interrupted;
use crate::output::{self, Format, Reader};
use board::Board;

/// An agent that restarts is back within a second.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Prints the VMs, then each change, until Ctrl-C.
pub(super) async fn run(global: &Global) -> Result<Exit, Failure> {
    until_interrupted(follow(global)).await
}

async fn follow(global: &Global) -> Result<Exit, Failure> {
    let mut watch = Watch::default();
    loop {
        let Err(failure) = watch.connected(global).await else { return Ok(Exit::Done) };
        // Who never saw the agent has more likely misspelt it than lost it.
        if !watch.begun() || !failure.may_pass() {
            return Err(failure);
        }
        let pause = watch.next_pause(&failure);
        output::remark(&format!(
            "{}; trying again in {:.1} s",
            failure.text(),
            pause.as_secs_f64()
        ));
        tokio::time::sleep(pause).await;
    }
}

/// What outlives a connection.
#[derive(Debug, Default)]
struct Watch {
    /// Of the last event behind which nothing is missing; empty before the first.
    token: String,
    /// Attempts since the last event.
    attempts: u32,
    board: Board,
}

impl Watch {
    fn begun(&self) -> bool {
        !self.token.is_empty()
    }

    fn next_pause(&mut self, failure: &Failure) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.attempts.min(10));
        self.attempts = self.attempts.saturating_add(1);
        doubled.max(failure.details.retry_after.unwrap_or_default()).min(LONGEST_PAUSE)
    }

    /// Follows one connection until nobody reads what it says.
    async fn connected(&mut self, global: &Global) -> Result<(), Failure> {
        let agent = connect::connect(global).await?;
        let ask = WatchVMsRequest { resume_token: self.token.clone() };
        let mut events = agent
            .open(ask, READ_LIMIT, |mut client, ask| async move { client.watch_v_ms(ask).await })
            .await?;
        connect::note_age(events.age);
        if self.begun() {
            output::remark(&format!("connected to {} again", agent.target()));
        }
        self.board.reconnected();
        loop {
            let event = events.next().await?;
            self.attempts = 0;
            let token = (event.kind != "state").then(|| event.resume_token.clone());
            if output::emit_more(&self.show(event, global.output)?)? == Reader::Gone {
                return Ok(());
            }
            // All states have the same token: behind the first of them the others would be missing.
            self.token =
                token.filter(|token| !token.is_empty()).unwrap_or_else(|| self.token.clone());
        }
    }

    fn show(&mut self, event: VmEvent, format: Format) -> Result<String, Failure> {
        let now = jiff::Zoned::now();
        if format == Format::Table {
            return Ok(self.board.take(event, &now.strftime("%F %T").to_string()));
        }
        Ok(format.line(&Line::new(event, &now))?.unwrap_or_default())
    }
}

/// An event as a document.
#[derive(Debug, Serialize)]
struct Line {
    /// When it was received, local time with its offset, RFC 3339.
    time: String,
    kind: String,
    resume_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vm: Option<Detail>,
    /// Of the command that caused it.
    #[serde(skip_serializing_if = "String::is_empty")]
    request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    traceparent: String,
}

impl Line {
    fn new(event: VmEvent, now: &jiff::Zoned) -> Self {
        Self {
            time: now.strftime("%FT%T%.3f%:z").to_string(),
            kind: event.kind,
            resume_token: event.resume_token,
            vm: event.vm.map(Detail::from),
            request_id: event.request_id,
            traceparent: event.traceparent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_heed_the_agents_wish() {
        let mut watch = Watch::default();
        let lost = Failure::new(Exit::Unavailable, "lost");
        let pauses: Vec<u128> = (0..9).map(|_| watch.next_pause(&lost).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
        watch.attempts = 0;
        let mut busy = lost;
        busy.details.retry_after = Some(Duration::from_secs(3));
        assert_eq!(watch.next_pause(&busy), Duration::from_secs(3));
        busy.details.retry_after = Some(Duration::from_secs(3600));
        assert_eq!(watch.next_pause(&busy), LONGEST_PAUSE);
    }
}
