//! libvirt's messages in a stream of bytes. Invariant: each header is seen once, however the stream is cut.
//!
//! A message is its length, itself included, and a header, each number 4 bytes, big-endian: program,
//! version, procedure, type, serial, status (libvirt's `virnetprotocol.x`).

/// Length and header.
const HEAD: usize = 28;

/// What kind of message it is, as far as we care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A question.
    Call,
    /// The answer to a call, good or bad.
    Reply,
    /// Events and parts of a stream.
    Other,
}

/// The head of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) procedure: u32,
    pub(super) kind: Kind,
    /// Which reply belongs to which call.
    pub(super) serial: u32,
}

/// Where in the stream we are.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: Vec<u8>,
    /// Bytes of the message that are still to come behind its head.
    rest: usize,
}

impl Frames {
    /// Goes on with the next bytes of the stream.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Header)) {
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let taken = (HEAD - self.head.len()).min(bytes.len());
            self.head.extend(bytes.iter().take(taken));
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.head.len() == HEAD {
                let number = |n: usize| {
                    let bytes = self.head.get(n * 4..).and_then(|rest| rest.first_chunk());
                    bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
                };
                seen(Header { procedure: number(3), kind: Kind::of(number(4)), serial: number(5) });
                self.rest = usize::try_from(number(0)).unwrap_or(usize::MAX).saturating_sub(HEAD);
                self.head.clear();
            }
        }
    }
}

impl Kind {
    fn of(number: u32) -> Self {
        match number {
            0 => Self::Call,
            1 => Self::Reply,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(procedure: u32, kind: u32, serial: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEAD + body.len()).unwrap();
        let numbers = [length, 0x2000_8086, 1, procedure, kind, serial, 0];
        numbers.iter().flat_map(|n| n.to_be_bytes()).chain(body.iter().copied()).collect()
    }

    fn headers(chunks: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Header> {
        let (mut frames, mut all) = (Frames::default(), Vec::new());
        chunks.into_iter().for_each(|chunk| frames.feed(chunk.as_ref(), |header| all.push(header)));
        all
    }

    #[test]
    fn every_header_is_seen_however_the_stream_is_cut() {
        let stream =
            [message(93, 0, 7, b"<volume/>"), message(291, 1, 8, b""), message(350, 3, 9, b"x")]
                .concat();
        let expected = [
            Header { procedure: 93, kind: Kind::Call, serial: 7 },
            Header { procedure: 291, kind: Kind::Reply, serial: 8 },
            Header { procedure: 350, kind: Kind::Other, serial: 9 },
        ];
        for size in [1, 3, 28, 29, 1000] {
            assert_eq!(headers(stream.chunks(size)), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_header_that_is_not_whole_is_not_seen() {
        let stream = message(93, 0, 7, b"");
        assert_eq!(headers([&stream[..HEAD - 1]]), []);
    }
}
