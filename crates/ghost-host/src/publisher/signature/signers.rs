//! Which keys may sign for a pinned key, and when.
//!
//! Invariant: a subkey signs only if the pinned key bound it for signing and it agreed, and neither
//! took that back; a key is valid as long as its newest own signature says.

use std::fmt;

use jiff::Timestamp;
use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::packet::{PublicKey, PublicSubkey, Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, Tag};

/// From when to when a key is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    from: Timestamp,
    until: Option<Timestamp>,
}

impl Lifetime {
    /// Whether a signature may be of that moment.
    #[must_use]
    pub fn contains(self, moment: Timestamp) -> bool {
        self.from <= moment && self.until.is_none_or(|until| moment < until)
    }

    fn within(self, other: Self) -> Self {
        let until = [self.until, other.until].into_iter().flatten().min();
        Self { from: self.from.max(other.from), until }
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            None => write!(f, "from {}", self.from),
            Some(until) => write!(f, "from {} to {until}", self.from),
        }
    }
}

/// A key that may have signed a list.
pub(super) enum Signer<'a> {
    /// The pinned key itself.
    Primary { key: &'a PublicKey, lifetime: Lifetime },
    /// One that it bound.
    Subkey { key: &'a PublicSubkey, lifetime: Lifetime },
}

impl Signer<'_> {
    pub(super) fn lifetime(&self) -> Lifetime {
        match self {
            Self::Primary { lifetime, .. } | Self::Subkey { lifetime, .. } => *lifetime,
        }
    }
}

/// The keys that may sign for `key`.
pub(super) fn of(key: &SignedPublicKey) -> Vec<Signer<'_>> {
    let own = newest(own_signatures(key));
    let whole = lifetime(&key.primary_key, own);
    let primary = own
        .is_none_or(may_sign)
        .then_some(Signer::Primary { key: &key.primary_key, lifetime: whole });
    let subkeys = key.public_subkeys.iter().filter_map(|subkey| {
        let binding = binding(key, subkey)?;
        let lifetime = lifetime(&subkey.key, Some(binding)).within(whole);
        Some(Signer::Subkey { key: &subkey.key, lifetime })
    });
    primary.into_iter().chain(subkeys).collect()
}

/// What the key says of itself: over its names, or over itself.
fn own_signatures(key: &SignedPublicKey) -> impl Iterator<Item = &Signature> {
    let primary = &key.primary_key;
    let over_names = key.details.users.iter().flat_map(move |user| {
        user.signatures.iter().filter(move |signature| {
            signature.is_certification()
                && signature.typ() != Some(SignatureType::CertRevocation)
                && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        })
    });
    let over_itself = key.details.direct_signatures.iter();
    over_names.chain(over_itself.filter(move |signature| signature.verify_key(primary).is_ok()))
}

/// The newest binding of a subkey for signing, unless there is a revocation, good or not.
fn binding<'a>(key: &SignedPublicKey, subkey: &'a SignedPublicSubKey) -> Option<&'a Signature> {
    let of_type = |typ| move |signature: &&Signature| signature.typ() == Some(typ);
    if subkey.signatures.iter().any(|s| of_type(SignatureType::SubkeyRevocation)(&s)) {
        return None;
    }
    let bindings = subkey.signatures.iter().filter(of_type(SignatureType::SubkeyBinding));
    newest(bindings.filter(|s| s.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok()))
        .filter(|binding| binding.key_flags().sign() && agreed(key, subkey, binding))
}

/// Without the subkey's own word, anybody's key could be claimed as one's subkey.
fn agreed(key: &SignedPublicKey, subkey: &SignedPublicSubKey, binding: &Signature) -> bool {
    binding
        .embedded_signature()
        .is_some_and(|word| word.verify_primary_key_binding(&subkey.key, &key.primary_key).is_ok())
}

fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Option<&'a Signature> {
    signatures.max_by_key(|signature| signature.created().map(|at| at.as_secs()))
}

/// A key whose signatures name no use may be used for everything.
fn may_sign(own: &Signature) -> bool {
    let names_uses = own.config().is_some_and(|config| {
        config.hashed_subpackets().any(|part| matches!(part.data, SubpacketData::KeyFlags(_)))
    });
    !names_uses || own.key_flags().sign()
}

fn lifetime(key: &impl KeyDetails, word: Option<&Signature>) -> Lifetime {
    let created = i64::from(key.created_at().as_secs());
    let after = word.and_then(Signature::key_expiration_time).map_or(0, |after| after.as_secs());
    let until = (after > 0).then(|| moment(created + i64::from(after)));
    Lifetime { from: moment(created), until }
}

/// OpenPGP's seconds, which always fit.
pub(super) fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
