//! The log's lines. Invariant: a line counts only with its checksum, so what a crash cut off, or a disk changed, is never
//! taken for something else.
//!
//! ```text
//! <first 8 hexadecimal digits of the SHA-256 of what follows> <JSON>\n
//! ```

use ghost_core::domain::VmId;
use ghost_core::domain::backlog::Content;
use ghost_core::domain::control::VmEvent;
use ghost_core::ports::LastTold;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Version of the layout.
const SCHEMA: u32 = 1;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// The first of each file.
    Began { schema: u32, last: u64, acknowledged: u64 },
    /// What was last told of a VM when the file was written anew.
    Told { vm: VmId, told: LastTold },
    /// What was pending then.
    Pending(VmEvent),
    /// A change since.
    Event(VmEvent),
    /// All up to that one were acknowledged since.
    Acknowledged(u64),
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes of it are whole; the rest is a line that was cut off.
    Whole { content: Content, length: u64 },
    /// What can be read; nothing that was told is certain.
    Damaged { content: Content },
}

/// The lines of a file that holds `content` and nothing else.
pub(super) fn snapshot(content: &Content) -> impl Iterator<Item = Line> + '_ {
    let Content { last, acknowledged, told, pending } = content;
    let began = Line::Began { schema: SCHEMA, last: *last, acknowledged: *acknowledged };
    let told = told.iter().map(|(vm, told)| Line::Told { vm: *vm, told: told.clone() });
    std::iter::once(began).chain(told).chain(pending.values().cloned().map(Line::Pending))
}

/// The text of a line.
pub(super) fn write(line: &Line, text: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let json = serde_json::to_vec(line)?;
    text.extend_from_slice(&checksum(&json));
    text.push(b' ');
    text.extend_from_slice(&json);
    text.push(b'\n');
    Ok(())
}

/// Reads a file.
pub(super) fn read(bytes: &[u8]) -> Read {
    let (mut content, mut length, mut began) = (Content::default(), 0, false);
    let (mut cut, mut damaged) = (false, false);
    for text in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = parse(text) else {
            cut = true;
            continue;
        };
        // A line behind one that can't be read: that one was not the last.
        damaged |= cut || began == matches!(line, Line::Began { .. });
        damaged |= matches!(line, Line::Began { schema, .. } if schema > SCHEMA);
        began = true;
        take(&mut content, line);
        length += text.len() as u64;
    }
    if damaged || !began {
        content.doubt();
        return Read::Damaged { content };
    }
    Read::Whole { content, length }
}

fn take(content: &mut Content, line: Line) {
    match line {
        Line::Began { schema: _, last, acknowledged } => {
            (content.last, content.acknowledged) = (last, acknowledged);
        }
        Line::Told { vm, told } => drop(content.told.insert(vm, told)),
        Line::Pending(event) => drop(content.pending.insert(event.sequence, event)),
        Line::Event(event) => content.append(event),
        Line::Acknowledged(up_to) => content.acknowledge(up_to),
    }
}

fn parse(text: &[u8]) -> Option<Line> {
    let (sum, rest) = text.split_at_checked(8)?;
    let json = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    if checksum(json) != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

fn checksum(json: &[u8]) -> [u8; 8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(json);
    let mut text = [0; 8];
    for (pair, byte) in text.chunks_exact_mut(2).zip(digest.iter()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}
