//! OpenPGP signatures over lists of checksums.
//!
//! Invariant: a list is called proven only if a pinned key, or a subkey that it has bound for
//! signing, made a signature over exactly those bytes, with a hash of at least 256 bits, while that
//! key was valid. [`clearsigned`] hands out the signed text and nothing that stood around it.
//!
//! What a signature claims of itself (its issuer, its time) is believed only after it fits.

use std::fmt;

use jiff::Timestamp;
use pgp::composed::{CleartextSignedMessage, Deserializable, DetachedSignature};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SignatureVersion, SubpacketData};
use pgp::types::{KeyDetails, VerifyingKey};

use super::keys::PinnedKey;

mod signers;

use signers::{Lifetime, Signer};

/// The largest signature, or clearsigned list, that is read.
pub const LARGEST: usize = (1 << 20) + (1 << 16);
/// How many signatures of one list are looked at; publishers make one to three.
const MOST: usize = 16;
/// How far a publisher's clock may be ahead of ours.
const AHEAD_SECONDS: i64 = 24 * 60 * 60;

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const END: &str = "-----END PGP SIGNATURE-----";

/// Why a list is not proven.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// More bytes than any signature has.
    #[error(
        "the signature has {size} bytes, more than {LARGEST}: it is something else; check its URL"
    )]
    TooLarge {
        /// How many it has.
        size: usize,
    },
    /// There is none.
    #[error("there is no signature in the file; check its URL")]
    Missing,
    /// Something that is no signature.
    #[error("the signature cannot be read; check its URL")]
    Garbled {
        /// What the parser said; nothing where it was never asked.
        #[source]
        source: Option<Box<pgp::errors::Error>>,
    },
    /// Text before or after what is signed.
    #[error("text stands outside the signed part of the list; do not trust this server")]
    Outside,
    /// By somebody else.
    #[error(
        "the list is signed by {by}, not by {pinned}; if the publisher has a new key, update the agent"
    )]
    OtherKey {
        /// What the signature says of its maker.
        by: String,
        /// The key that was expected: its name and fingerprint.
        pinned: String,
    },
    /// By the right key, over another text.
    #[error(
        "the list does not fit its signature by {pinned}: it was altered, or the two are of different days; try again, or use another mirror"
    )]
    Altered {
        /// The key: its name and fingerprint.
        pinned: String,
    },
    /// With a hash that proves nothing.
    #[error("the signature uses {hash}, which proves nothing any more")]
    WeakHash {
        /// Which.
        hash: HashAlgorithm,
    },
    /// Of a kind that signs no lists, or with conditions that are not understood.
    #[error("the signature is of a kind that is not accepted ({why})")]
    Unsupported {
        /// What is odd.
        why: &'static str,
    },
    /// Made while its key was not valid.
    #[error("the signature is of {made}, when its key was not valid ({valid})")]
    KeyExpired {
        /// When it was made.
        made: Timestamp,
        /// When the key is valid.
        valid: Lifetime,
    },
    /// No longer meant to be valid.
    #[error(
        "the signature expired at {expired}; the list is old: use another mirror, or set this host's clock"
    )]
    Expired {
        /// When.
        expired: Timestamp,
    },
    /// Made later than now.
    #[error("the signature is of {made}, and it is {now}; set this host's clock")]
    Future {
        /// When it says that it was made.
        made: Timestamp,
        /// This host's time.
        now: Timestamp,
    },
}

/// Proves `signed` by a signature in a file of its own, armored or binary, and returns when it was made.
/// One good signature among several is enough; of several good ones the newest says when.
///
/// # Errors
/// See [`SignatureError`]; `signed` is then not to be used.
pub fn detached(
    key: &PinnedKey,
    signature: &[u8],
    signed: &[u8],
    now: Timestamp,
) -> Result<Timestamp, SignatureError> {
    if signature.len() > LARGEST {
        return Err(SignatureError::TooLarge { size: signature.len() });
    }
    if signature.trim_ascii().is_empty() {
        return Err(SignatureError::Missing);
    }
    let (read, _) = DetachedSignature::from_reader_many(signature).map_err(garbled)?;
    let signatures: Vec<Signature> = read
        .take(MOST)
        .map(|one| one.map(|detached| detached.signature))
        .collect::<Result<_, _>>()
        .map_err(garbled)?;
    any_of(key, &signatures, signed, now)
}

/// Proves a clearsigned text, and returns what is signed of it: with the dashes' escapes and the
/// blanks at line ends removed, and `\n` between its lines; and when it was signed, as [`detached`] does.
///
/// # Errors
/// See [`SignatureError`]; nothing of the text is then to be used.
pub fn clearsigned(
    key: &PinnedKey,
    text: &[u8],
    now: Timestamp,
) -> Result<(String, Timestamp), SignatureError> {
    if text.len() > LARGEST {
        return Err(SignatureError::TooLarge { size: text.len() });
    }
    let text = std::str::from_utf8(text).map_err(|_| SignatureError::Garbled { source: None })?;
    let (begins, ends) = (text.matches(BEGIN).count(), text.matches(END).count());
    let text = text.trim_ascii();
    match (begins, ends) {
        (0, _) => return Err(SignatureError::Missing),
        (_, 0) => return Err(SignatureError::Garbled { source: None }),
        (_, _) if text.starts_with(BEGIN) && text.ends_with(END) => {}
        (_, _) => return Err(SignatureError::Outside),
    }
    let (message, _) = CleartextSignedMessage::from_string(text).map_err(garbled)?;
    let signed = message.signed_text();
    let signatures = message.signatures().get(..MOST).unwrap_or(message.signatures());
    let made = any_of(key, signatures, signed.as_bytes(), now)?;
    Ok((signed.replace("\r\n", "\n"), made))
}

fn garbled(source: pgp::errors::Error) -> SignatureError {
    SignatureError::Garbled { source: Some(Box::new(source)) }
}

/// When the newest good signature was made; without one, what is wrong with the pinned key's own says
/// more than that there are others.
fn any_of(
    key: &PinnedKey,
    signatures: &[Signature],
    signed: &[u8],
    now: Timestamp,
) -> Result<Timestamp, SignatureError> {
    let (mut newest, mut why) = (None, SignatureError::Missing);
    for signature in signatures {
        match one(key, signature, signed, now) {
            Ok(made) => newest = newest.max(Some(made)),
            Err(error @ SignatureError::OtherKey { .. }) => {
                if matches!(why, SignatureError::Missing) {
                    why = error;
                }
            }
            Err(error) => why = error,
        }
    }
    newest.ok_or(why)
}

fn one(
    key: &PinnedKey,
    signature: &Signature,
    signed: &[u8],
    now: Timestamp,
) -> Result<Timestamp, SignatureError> {
    let pinned = || Named(key).to_string();
    let signers = signers::of(key.key());
    let Some(signer) = signers.iter().find(|signer| claims(signature, signer)) else {
        return Err(SignatureError::OtherKey { by: issuer(signature), pinned: pinned() });
    };
    acceptable(signature)?;
    let fits = match signer {
        Signer::Primary { key, .. } => fits(signature, *key, signed),
        Signer::Subkey { key, .. } => fits(signature, *key, signed),
    };
    if !fits {
        return Err(SignatureError::Altered { pinned: pinned() });
    }
    in_time(signature, signer.lifetime(), now)
}

fn fits(signature: &Signature, key: &impl VerifyingKey, signed: &[u8]) -> bool {
    signature.verify(key, signed).is_ok()
}

/// Whether the signature says that this key made it; it is then tried with this key alone.
fn claims(signature: &Signature, signer: &Signer<'_>) -> bool {
    let (fingerprint, id) = match signer {
        Signer::Primary { key, .. } => (key.fingerprint(), key.legacy_key_id()),
        Signer::Subkey { key, .. } => (key.fingerprint(), key.legacy_key_id()),
    };
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        signature.issuer_key_id().contains(&&id)
    } else {
        fingerprints.contains(&&fingerprint)
    }
}

fn issuer(signature: &Signature) -> String {
    let fingerprints = signature.issuer_fingerprint().into_iter().map(|f| format!("{f:X}"));
    let ids = signature.issuer_key_id().into_iter().map(|id| id.to_string().to_ascii_uppercase());
    fingerprints.chain(ids).next().unwrap_or_else(|| "an unnamed key".to_owned())
}

/// A critical part that is not understood makes a signature void (RFC 9580, 5.2.3.7).
fn acceptable(signature: &Signature) -> Result<(), SignatureError> {
    let unsupported = |why| Err(SignatureError::Unsupported { why });
    let Some(config) = signature.config() else {
        return unsupported("of an unknown version");
    };
    if !matches!(config.version(), SignatureVersion::V4 | SignatureVersion::V6) {
        return unsupported("of an old version");
    }
    if !matches!(config.typ(), SignatureType::Binary | SignatureType::Text) {
        return unsupported("not over a text");
    }
    let void = |data: &SubpacketData| {
        matches!(
            data,
            SubpacketData::Experimental(..) | SubpacketData::Other(..) | SubpacketData::Notation(_)
        )
    };
    if config.hashed_subpackets().any(|part| part.is_critical && void(&part.data)) {
        return unsupported("with a condition that is not understood");
    }
    match config.hash_alg {
        HashAlgorithm::Sha256
        | HashAlgorithm::Sha384
        | HashAlgorithm::Sha512
        | HashAlgorithm::Sha3_256
        | HashAlgorithm::Sha3_512 => Ok(()),
        hash => Err(SignatureError::WeakHash { hash }),
    }
}

/// When the signature was made, if that was in time.
fn in_time(
    signature: &Signature,
    valid: Lifetime,
    now: Timestamp,
) -> Result<Timestamp, SignatureError> {
    let Some(created) = signature.created() else {
        return Err(SignatureError::Unsupported { why: "without a time" });
    };
    let made = signers::moment(created.as_secs().into());
    if made.as_second() > now.as_second().saturating_add(AHEAD_SECONDS) {
        return Err(SignatureError::Future { made, now });
    }
    if !valid.contains(made) {
        return Err(SignatureError::KeyExpired { made, valid });
    }
    match signature.signature_expiration_time().map(|after| after.as_secs()) {
        None | Some(0) => Ok(made),
        Some(after) => {
            let expired = signers::moment(i64::from(created.as_secs()) + i64::from(after));
            if expired > now { Ok(made) } else { Err(SignatureError::Expired { expired }) }
        }
    }
}

struct Named<'a>(&'a PinnedKey);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' ({})", self.0.name(), self.0.fingerprint())
    }
}

#[cfg(test)]
mod tests;
