//! The agent's part. Invariant: whatever an agent sends, and however it names it, only so much is kept, and only so long is waited; what came
//! before it failed is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use ghost_proto::agentpb::{CollectDebugRequest, DebugFile};
use tokio::time::timeout;

use super::contents::FILE;
use crate::cli::Global;
use crate::connect::{self, Following};
use crate::errors::Failure;

/// Begin of the stream.
const BEGIN: Duration = Duration::from_secs(30);
/// All of it, unless `--timeout` says otherwise; each part has 6 s in the agent.
const LIMIT: Duration = Duration::from_secs(120);
/// More than an agent's own limits: 32 MiB, and a VM's two files.
const BYTES: usize = 40 << 20;
const FILES: usize = 4000;
const PIECES: usize = 50_000;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// By the name that the agent gave, which is not to be trusted.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Why it is not all.
    pub(super) missing: Vec<String>,
    bytes: usize,
    pieces: usize,
}

/// Collects it.
///
/// # Errors
/// Why the agent could not be asked.
pub(super) async fn collect(log_lines: i32, global: &Global) -> Result<Sent, Failure> {
    let agent = connect::connect(global).await?;
    let ask = CollectDebugRequest { log_lines };
    let mut stream = agent
        .open_operation(
            ask,
            BEGIN,
            |mut client, ask| async move { client.collect_debug(ask).await },
        )
        .await?;
    let mut sent = Sent::default();
    let limit = global.timeout.unwrap_or(LIMIT);
    match timeout(limit, sent.read(&mut stream)).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            sent.missing.push(format!("the agent's part is not whole: {}", failure.text()))
        }
        Err(_) => sent.missing.push(format!(
            "the agent's part is not whole: it took longer than {} s",
            limit.as_secs()
        )),
    }
    Ok(sent)
}

impl Sent {
    async fn read(&mut self, stream: &mut Following<DebugFile>) -> Result<(), Failure> {
        while let Some(piece) = stream.next_or_end().await? {
            if !self.take(piece) {
                self.missing.push(
                    "the agent sent more than a bundle holds; the rest is left out".to_owned(),
                );
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether there is room for more.
    fn take(&mut self, piece: DebugFile) -> bool {
        self.pieces += 1;
        let room = self.files.contains_key(&piece.name) || self.files.len() < FILES;
        self.bytes =
            self.bytes.saturating_add(piece.name.len()).saturating_add(piece.content.len());
        if !room || self.bytes > BYTES || self.pieces > PIECES {
            return false;
        }
        let file = self.files.entry(piece.name).or_default();
        if file.len() + piece.content.len() <= FILE + 1024 {
            file.extend(piece.content);
        } else if file.len() <= FILE {
            file.extend(b"\n[the rest is left out: the agent sent more than a file may have]\n");
            file.resize(file.len().max(FILE + 1), b'\n');
        }
        true
    }
}
