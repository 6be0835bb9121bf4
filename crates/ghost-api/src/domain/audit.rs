//! Who changed what. Invariant: records count up from 1 without gaps, and each holds the digest of the
//! one before it as it is stored: one that was changed, removed or put in shows.
//!
//! The last records can be cut off unseen; who must notice that keeps the newest digest elsewhere.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::text::cut;
use super::token::Hash;

/// Longest detail, in bytes.
const DETAIL: usize = 2048;
/// Stands before the first record.
const NOTHING: Hash = Hash([0; 32]);

/// A change that is about to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub who: String,
    /// What was done, such as "token created".
    pub what: &'static str,
    /// To what, and how it ended.
    pub detail: String,
}

/// A change on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// From 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub who: String,
    /// What was done.
    pub what: String,
    /// To what, and how it ended.
    pub detail: String,
    /// Of the record before this one, as it is stored.
    pub former: Hash,
}

impl AuditRecord {
    /// The record of `change` behind the stored one.
    #[must_use]
    pub fn behind(last: Option<(u64, &[u8])>, change: Change) -> Self {
        let (number, former) =
            last.map_or((1, NOTHING), |(number, stored)| (number + 1, Hash::of(stored)));
        Self {
            number,
            at: change.at,
            who: change.who,
            what: change.what.to_owned(),
            detail: cut(&change.detail, DETAIL),
            former,
        }
    }
}

/// Walks along the stored records, and says where the chain is broken.
#[derive(Debug)]
pub struct Walk {
    number: u64,
    former: Hash,
}

impl Default for Walk {
    fn default() -> Self {
        Self { number: 1, former: NOTHING }
    }
}

impl Walk {
    /// The next record in order, as it is stored.
    ///
    /// # Errors
    /// The number that should have come there.
    pub fn step(&mut self, stored: &[u8]) -> Result<(), u64> {
        let record: Option<AuditRecord> = serde_json::from_slice(stored).ok();
        match record {
            Some(record) if record.number == self.number && record.former == self.former => {
                self.number += 1;
                self.former = Hash::of(stored);
                Ok(())
            }
            Some(_) | None => Err(self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u64) -> Vec<Vec<u8>> {
        let mut stored: Vec<Vec<u8>> = Vec::new();
        for number in 1..=length {
            let change = Change {
                at: Timestamp::UNIX_EPOCH,
                who: "uid 0".to_owned(),
                what: "agent revoked",
                detail: number.to_string(),
            };
            let last = stored.last().map(|last| (number - 1, last.as_slice()));
            stored.push(serde_json::to_vec(&AuditRecord::behind(last, change)).unwrap());
        }
        stored
    }

    fn broken_at(stored: &[Vec<u8>]) -> Option<u64> {
        let mut walk = Walk::default();
        stored.iter().find_map(|record| walk.step(record).err())
    }

    #[test]
    fn a_record_that_was_changed_removed_or_put_in_shows() {
        let whole = chain(5);
        assert_eq!(broken_at(&whole), None);
        let mut changed = whole.clone();
        changed[1] = String::from_utf8(changed[1].clone())
            .unwrap()
            .replace("\"detail\":\"2\"", "\"detail\":\"9\"")
            .into_bytes();
        assert_ne!(changed, whole);
        assert_eq!(broken_at(&changed), Some(3));
        let mut removed = whole.clone();
        removed.remove(2);
        assert_eq!(broken_at(&removed), Some(3));
        let mut doubled = whole.clone();
        doubled.insert(2, whole[1].clone());
        assert_eq!(broken_at(&doubled), Some(3));
        assert_eq!(broken_at(&[b"garbage".to_vec()]), Some(1));
    }
}
