//! Publishers that fail on demand. A packed file is gzip's mark before the image.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ghost_core::domain::PublishedDigest;
use sha2::Sha512;
use tokio::sync::Semaphore;

use super::super::fetch::Told;
use super::super::origin::{Offer, Word};
use super::super::proven::ProvenFile;
use super::super::store::Unpacking;
use super::*;
use crate::publisher::Compression;

/// What the next fetch comes to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Fine,
    /// Half of the file comes.
    BreaksOff,
    Panics,
}

#[derive(Debug)]
pub(super) struct TestPublisher {
    offered: Mutex<BTreeMap<TemplateName, Vec<u8>>>,
    mood: Mutex<Mood>,
    word: Mutex<Word>,
    asked: AtomicUsize,
    fetched: AtomicUsize,
    /// Each fetch takes one of these.
    pub(super) gate: Semaphore,
}

impl Default for TestPublisher {
    fn default() -> Self {
        Self {
            offered: Mutex::default(),
            mood: Mutex::default(),
            word: Mutex::new(Word::Unsigned),
            asked: AtomicUsize::new(0),
            fetched: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        }
    }
}

/// As publishers of packed images do.
pub(super) fn packed(image: &[u8]) -> Vec<u8> {
    [b"\x1f\x8b", image].concat()
}

fn sha512(content: &[u8]) -> PublishedDigest {
    let hex: String = Sha512::digest(content).iter().map(|b| format!("{b:02x}")).collect();
    PublishedDigest::new(HashAlgorithm::Sha512, &hex).unwrap()
}

impl TestPublisher {
    /// Whose every fetch waits for a permit of [`Self::gate`].
    pub(super) fn gated() -> Self {
        Self { gate: Semaphore::new(0), ..Self::default() }
    }

    /// From now on that is what the template's url gives.
    pub(super) fn offer(&self, template: &Template, file: &[u8]) {
        self.offered.lock().unwrap().insert(template.name.clone(), file.to_vec());
    }

    /// From now on all lists are signed at that second since 1970.
    pub(super) fn sign(&self, second: i64) {
        let at = jiff::Timestamp::from_second(second).unwrap();
        *self.word.lock().unwrap() = Word::Signed(at);
    }

    pub(super) fn next_is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// How often a digest was asked for, and how many fetches began.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.asked.load(Ordering::SeqCst), self.fetched.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Origin for TestPublisher {
    async fn offer(&self, template: &Template) -> Result<Offer, ImageError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let digest = sha512(&self.offered.lock().unwrap()[&template.name]);
        Ok(Offer { digest, word: *self.word.lock().unwrap() })
    }

    async fn file(
        &self,
        template: &Template,
        digest: &PublishedDigest,
        parts: &Path,
        told: &(dyn Fn(Told) + Send + Sync),
    ) -> Result<ProvenFile, ImageError> {
        self.fetched.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        let file = self.offered.lock().unwrap()[&template.name].clone();
        let path = parts.join(digest.hex());
        let (shown, size) = (self.shown(template), Bytes(file.len() as u64));
        told(Told::Downloading { done: Bytes(file.len() as u64 / 2), total: Some(size) });
        let mood = std::mem::take(&mut *self.mood.lock().unwrap());
        match mood {
            Mood::Fine => fs::write(&path, &file).unwrap(),
            Mood::BreaksOff => {
                fs::write(&path, &file[..file.len() / 2]).unwrap();
                return Err(ImageError::Stalled { url: shown, received: 7, after: Duration::ZERO });
            }
            Mood::Panics => panic!("on demand"),
        }
        let got = [PublishedDigest::from(&super::sha256(&file)), sha512(&file)];
        assert!(got.contains(digest), "the test offers another file than it asks for");
        Ok(ProvenFile { path, sha256: super::sha256(&file), size, shown })
    }

    fn unpack(
        &self,
        packing: Compression,
        from: &mut dyn std::io::Read,
        to: &mut dyn std::io::Write,
        limit: Bytes,
        told: &mut dyn FnMut(Bytes),
    ) -> Result<(), Unpacking> {
        assert_eq!(packing, Compression::Gzip);
        let mut all = Vec::new();
        from.read_to_end(&mut all).map_err(Unpacking::Disk)?;
        told(Bytes(all.len() as u64));
        let image = all.strip_prefix(b"\x1f\x8b").unwrap();
        if image.ends_with(b"damaged") {
            return Err(Unpacking::Damaged("a checksum differs".to_owned()));
        }
        to.write_all(image).map_err(Unpacking::Disk)?;
        if image.len() as u64 > limit.0 { Err(Unpacking::TooLarge(limit)) } else { Ok(()) }
    }

    fn shown(&self, template: &Template) -> String {
        ghost_core::domain::shown_url(&template.url)
    }
}
