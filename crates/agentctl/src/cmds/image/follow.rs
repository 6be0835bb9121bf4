//! A stream of [`ImageProgress`], from its begin to its end. Invariant: every template's outcome is told
//! when it is known; whoever leaves early is told that the agent goes on.

use std::time::Duration;

use ghost_proto::agentpb::ImageProgress;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::teller::Teller;
use super::{FETCH_LIMIT, words};
use crate::cli::Global;
use crate::connect::Following;
use crate::errors::{Exit, Failure, from_status};
use crate::interrupt::or_interrupted;
use crate::output::Reader;

/// Eight steps a second look alive and cost nothing.
const TICK: Duration = Duration::from_millis(120);
const GOES_ON: &str = "see agentctl image list";

/// An outcome as it is told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The digest that "updated" took the place of, if it is known.
    pub(super) from: Option<String>,
    /// For people; ends with a line feed unless there is nothing to say.
    pub(super) line: String,
}

/// How following ended.
#[derive(Debug)]
pub(super) enum Followed {
    /// With the last word of the agent; all that is not under way any more, in its order.
    ToTheEnd(Vec<ImageProgress>),
    /// Nobody reads standard output any more.
    Unread,
}

/// Tells the stream, each outcome as `tell` puts it.
///
/// # Errors
/// The agent's; 1 on Ctrl-C; 8 after `--timeout`.
pub(super) async fn follow(
    stream: &mut Following<ImageProgress>,
    global: &Global,
    tell: impl Fn(&ImageProgress) -> Told,
) -> Result<Followed, Failure> {
    let limit = global.timeout.unwrap_or(FETCH_LIMIT);
    let work = async {
        match timeout(limit, to_the_end(stream, Teller::new(global.output), tell)).await {
            Ok(Err(failure)) if failure.may_pass() => {
                Err(failure.also(&format!("the agent may go on fetching: {GOES_ON}")))
            }
            Ok(outcome) => outcome,
            Err(_) => Err(from_status::timed_out(limit).remedy(format!(
                "the agent goes on fetching; {GOES_ON}, or give it longer with --timeout"
            ))),
        }
    };
    let left = || {
        Err(Failure::new(Exit::Failed, "interrupted; the agent goes on fetching").remedy(GOES_ON))
    };
    or_interrupted(work, left).await
}

async fn to_the_end(
    stream: &mut Following<ImageProgress>,
    mut teller: Teller,
    tell: impl Fn(&ImageProgress) -> Told,
) -> Result<Followed, Failure> {
    let mut outcomes = Vec::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            next = stream.next_or_end() => next?,
            _ = ticks.tick() => {
                teller.tick();
                continue;
            }
        };
        let reader = match next {
            None => return Ok(Followed::ToTheEnd(outcomes)),
            Some(progress) if words::is_under_way(&progress) => teller.under_way(progress)?,
            Some(outcome) => {
                let Told { from, line } = tell(&outcome);
                let reader = teller.outcome(&outcome, from.as_deref(), &line)?;
                outcomes.push(outcome);
                reader
            }
        };
        match reader {
            Reader::There => {}
            Reader::Gone => return Ok(Followed::Unread),
        }
    }
}
