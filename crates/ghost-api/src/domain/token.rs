//! One-time enrolment keys. Invariant: only the hash of a secret is kept, and a key is good for one agent
//! and one key pair, once; [`admit`] is the only place that decides.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::agent::{AgentId, AgentRecord};

/// RFC 4648, in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// 256 bits in base32 without padding.
const SECRET_CHARS: usize = 52;

/// SHA-256 of something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digit =
            |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = digit(2 * at).ok_or("not 64 hexadecimal digits")?;
        }
        if text.len() == 64 { Ok(Self(bytes)) } else { Err("not 64 hexadecimal digits") }
    }
}

/// What makes a key worth something. Never printed but by [`Secret::key`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Of 256 random bits.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        let bit = |n: usize| random.get(n / 8).is_some_and(|byte| byte >> (7 - n % 8) & 1 == 1);
        let digit =
            |n: usize| (0..5).fold(0, |value, at| value << 1 | usize::from(bit(5 * n + at)));
        let chars = (0..SECRET_CHARS).map(|n| char::from(ALPHABET[digit(n) % ALPHABET.len()]));
        Self(chars.collect())
    }

    /// What an agent sent, if it can be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == SECRET_CHARS && text.bytes().all(|b| ALPHABET.contains(&b));
        fits.then(|| Self(text.to_owned()))
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(self.0.as_bytes())
    }

    /// The whole key as people pass it on; `ca` is the digest of the authority's certificate in DER.
    #[must_use]
    pub fn key(&self, ca: Hash) -> String {
        let mut key = String::with_capacity(126);
        // Writing to a text cannot fail.
        let _ = write!(key, "ghost-1-{}-{ca}", self.0);
        key
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// By whom.
    pub agent: AgentId,
    /// For which public key: the digest of its SubjectPublicKeyInfo.
    pub public_key: Hash,
    /// When.
    pub at: Timestamp,
}

/// A one-time key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Of its secret.
    pub hash: Hash,
    /// From when on it is good for nothing.
    pub expires_at: Timestamp,
    /// The agent that it was made for; nobody's who is enrolled already otherwise.
    pub made_for: Option<AgentId>,
    /// Whether it was used.
    pub used: Option<Used>,
}

/// Why a key opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// There is none of that hash, or it was made for another agent.
    #[error(
        "this enrolment key is not known here, or was made for another agent; make one with: ghost-api token create"
    )]
    Unknown,
    /// It did its work before.
    #[error("this enrolment key was used already; make another with: ghost-api token create")]
    Used,
    /// Its time is over.
    #[error("this enrolment key expired at {0}; make another with: ghost-api token create")]
    Expired(Timestamp),
    /// Somebody of that id is enrolled.
    #[error(
        "an agent {0} is enrolled already; if it lost its certificate make a key for it: ghost-api token create --agent {0}"
    )]
    AgentKnown(AgentId),
    /// That agent is barred.
    #[error("agent {0} was revoked; let it take a new id: revoked ones stay out")]
    AgentRevoked(AgentId),
}

/// What a key that opens does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// An agent that nobody knew.
    New,
    /// A known one that lost its key.
    Again,
    /// The answer to the same request got lost on its way.
    Repeated,
}

/// Who asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// The digest of the secret that was shown.
    pub secret: Hash,
    /// Who it says it is.
    pub agent: AgentId,
    /// What it is called.
    pub name: String,
    /// The digest of the public key that shall be certified.
    pub public_key: Hash,
    /// Now.
    pub at: Timestamp,
}

/// Whether the key lets the agent in. `agent` is the record of that id, if there is one.
///
/// # Errors
/// See [`KeyRefusal`].
pub fn admit(
    token: Option<&Token>,
    agent: Option<&AgentRecord>,
    who: &Applicant,
) -> Result<Admission, KeyRefusal> {
    let token = token.ok_or(KeyRefusal::Unknown)?;
    let expired = who.at >= token.expires_at;
    if let Some(used) = &token.used {
        // Whoever repeats it has the private key that was certified: nothing is given away.
        let same = used.agent == who.agent && used.public_key == who.public_key;
        let barred = agent.is_none_or(|agent| agent.revoked_at.is_some());
        return if same && !expired && !barred {
            Ok(Admission::Repeated)
        } else {
            Err(KeyRefusal::Used)
        };
    }
    if expired {
        return Err(KeyRefusal::Expired(token.expires_at));
    }
    if token.made_for.is_some_and(|id| id != who.agent) {
        return Err(KeyRefusal::Unknown);
    }
    match agent {
        None => Ok(Admission::New),
        Some(agent) if agent.revoked_at.is_some() => Err(KeyRefusal::AgentRevoked(who.agent)),
        Some(_) if token.made_for.is_some() => Ok(Admission::Again),
        Some(_) => Err(KeyRefusal::AgentKnown(who.agent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55";
    const OTHER: &str = "1b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn token() -> Token {
        Token { hash: Hash::of(b"s"), expires_at: at(100), made_for: None, used: None }
    }

    fn who(second: i64) -> Applicant {
        Applicant {
            secret: Hash::of(b"s"),
            agent: ID.parse().unwrap(),
            name: "pc-1".to_owned(),
            public_key: Hash::of(b"k"),
            at: at(second),
        }
    }

    fn known() -> AgentRecord {
        AgentRecord::enrolled(ID.parse().unwrap(), "pc-1", at(0))
    }

    #[test]
    fn a_secret_is_base32_of_all_its_bits() {
        // Test vector of RFC 4648: "foobar" is MZXW6YTBOI.
        let mut random = [0; 32];
        random[..6].copy_from_slice(b"foobar");
        let secret = Secret::new(random);
        assert!(secret.0.starts_with("mzxw6ytboi") && secret.0.len() == 52, "{}", secret.0);
        assert_eq!(Secret::parse(&secret.0), Some(secret.clone()));
        let (mut last, mut first) = ([0; 32], [0; 32]);
        (last[31], first[0]) = (1, 128);
        assert_ne!(Secret::new(last), Secret::new([0; 32]));
        assert_ne!(Secret::new(first), Secret::new([0; 32]));
        let key = secret.key(Hash([0xab; 32]));
        assert_eq!(key, format!("ghost-1-{}-{}", secret.0, "ab".repeat(32)));
        assert!(!format!("{secret:?}").contains("mzxw"));
    }

    #[test]
    fn what_cannot_be_a_secret_is_none() {
        for wrong in ["", "a", &"a".repeat(51), &"a".repeat(53), &"A".repeat(52), &"1".repeat(52)] {
            assert_eq!(Secret::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_lets_a_new_agent_in_until_it_expires() {
        assert_eq!(admit(Some(&token()), None, &who(99)), Ok(Admission::New));
        assert_eq!(admit(Some(&token()), None, &who(100)), Err(KeyRefusal::Expired(at(100))));
        assert_eq!(admit(None, None, &who(1)), Err(KeyRefusal::Unknown));
    }

    #[test]
    fn a_used_key_answers_only_the_same_request_again() {
        let used = Used { agent: who(1).agent, public_key: who(1).public_key, at: at(1) };
        let used = Token { used: Some(used), ..token() };
        assert_eq!(admit(Some(&used), Some(&known()), &who(2)), Ok(Admission::Repeated));
        assert_eq!(admit(Some(&used), Some(&known()), &who(100)), Err(KeyRefusal::Used));
        let thief = Applicant { public_key: Hash::of(b"other"), ..who(2) };
        assert_eq!(admit(Some(&used), Some(&known()), &thief), Err(KeyRefusal::Used));
        let other = Applicant { agent: OTHER.parse().unwrap(), ..who(2) };
        assert_eq!(admit(Some(&used), None, &other), Err(KeyRefusal::Used));
        let barred = AgentRecord { revoked_at: Some(at(1)), ..known() };
        assert_eq!(admit(Some(&used), Some(&barred), &who(2)), Err(KeyRefusal::Used));
    }

    #[test]
    fn a_known_agent_needs_a_key_made_for_it_and_a_revoked_one_has_none() {
        let id = who(1).agent;
        assert_eq!(admit(Some(&token()), Some(&known()), &who(1)), Err(KeyRefusal::AgentKnown(id)));
        let for_it = Token { made_for: Some(id), ..token() };
        assert_eq!(admit(Some(&for_it), Some(&known()), &who(1)), Ok(Admission::Again));
        let barred = AgentRecord { revoked_at: Some(at(1)), ..known() };
        assert_eq!(admit(Some(&for_it), Some(&barred), &who(1)), Err(KeyRefusal::AgentRevoked(id)));
        let other = Applicant { agent: OTHER.parse().unwrap(), ..who(1) };
        assert_eq!(admit(Some(&for_it), None, &other), Err(KeyRefusal::Unknown));
    }

    #[test]
    fn a_hash_is_read_back_as_it_was_written() {
        let hash = Hash::of(b"x");
        let text = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<Hash>(&text).unwrap(), hash);
        assert!(serde_json::from_str::<Hash>("\"ab\"").is_err());
        assert!(serde_json::from_str::<Hash>(&format!("\"{hash}0\"")).is_err());
    }
}
