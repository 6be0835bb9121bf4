//! The last lines, for a bug report. Invariant: at most [`RING_BYTES`] and [`RING_LINES`], of which none is cut.

use std::collections::VecDeque;

/// Most bytes that are kept, of the agent's memory.
const RING_BYTES: usize = 1 << 20;
/// Most lines that are kept.
const RING_LINES: usize = 10_000;

/// The last lines; it takes memory as they come.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Each ends with a line feed and has no other.
    bytes: VecDeque<u8>,
    lines: usize,
}

impl Ring {
    /// Keeps `line`, which ends with a line feed, in the place of the oldest.
    pub(super) fn push(&mut self, line: &str) {
        if line.len() > RING_BYTES {
            return;
        }
        while self.bytes.len() + line.len() > RING_BYTES || self.lines >= RING_LINES {
            let end = self.bytes.iter().position(|byte| *byte == b'\n');
            self.bytes.drain(..end.map_or(self.bytes.len(), |end| end + 1));
            self.lines = self.lines.saturating_sub(1);
        }
        self.bytes.extend(line.as_bytes());
        self.lines += 1;
    }

    /// The last `most` lines, the oldest first, without their line feeds.
    pub(super) fn last(&self, most: usize) -> Vec<String> {
        let (first, second) = self.bytes.as_slices();
        let all = [first, second].concat();
        let all = String::from_utf8_lossy(&all);
        all.lines().skip(self.lines.saturating_sub(most)).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_whole_within_the_bytes_and_the_lines() {
        let mut ring = Ring::default();
        for n in 0..RING_LINES + 5 {
            ring.push(&format!("{{\"n\":{n}}}\n"));
        }
        assert_eq!(ring.last(2), ["{\"n\":10003}", "{\"n\":10004}"]);
        assert_eq!((ring.last(usize::MAX).len(), ring.lines), (RING_LINES, RING_LINES));
        let long = format!("{}\n", "x".repeat(RING_BYTES / 3));
        (0..5).for_each(|_| ring.push(&long));
        assert!(ring.bytes.len() <= RING_BYTES);
        assert!(ring.last(2).iter().all(|line| line.len() == RING_BYTES / 3));
        ring.push(&"x".repeat(RING_BYTES + 1));
        assert_eq!(ring.last(1)[0].len(), RING_BYTES / 3);
    }
}
