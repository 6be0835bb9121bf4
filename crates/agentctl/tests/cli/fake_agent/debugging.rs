//! What the agent sends for a debug bundle.

use std::pin::Pin;

use ghost_proto::agentpb::DebugFile;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Status};

use super::{State, error};

/// The agent's part of a bundle.
pub(crate) type Told = Pin<Box<dyn Stream<Item = Result<DebugFile, Status>> + Send>>;

/// What to send, and what was asked.
#[derive(Debug, Default)]
pub(crate) struct Debugging {
    pub(crate) pieces: Vec<DebugFile>,
    /// Sent again and again before the others.
    pub(crate) endless: Option<DebugFile>,
    pub(crate) last_word: LastWord,
    pub(crate) log_lines: Vec<i32>,
}

/// What comes behind the last piece.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) enum LastWord {
    #[default]
    Nothing,
    Failure,
    Silence,
}

pub(super) fn tell(state: &mut State, log_lines: i32) -> Told {
    let debugging = &mut state.debugging;
    debugging.log_lines.push(log_lines);
    let pieces = debugging.pieces.clone().into_iter().map(Ok);
    let endless = debugging.endless.clone().into_iter().cycle().map(Ok);
    let told = tokio_stream::iter(endless.chain(pieces));
    match debugging.last_word {
        LastWord::Nothing => Box::pin(told),
        LastWord::Failure => {
            let failure =
                error(Code::Unavailable, "HYPERVISOR_ERROR", "token=hunter2-Zq9 is wrong");
            Box::pin(told.chain(tokio_stream::once(Err(failure))))
        }
        LastWord::Silence => Box::pin(told.chain(tokio_stream::pending())),
    }
}
