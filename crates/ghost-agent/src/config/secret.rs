//! Invariant: the enrolment secret is never printed; only [`ApiKey::expose`] gives it away.

use std::fmt;

/// The enrolment secret, `GHOST_API_KEY`: 1 to 4096 visible ASCII characters.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// The name of its environment variable.
    pub const VARIABLE: &'static str = "GHOST_API_KEY";

    /// The secret itself, for the request that enrols the agent and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads the variable; an empty one is none.
    pub(crate) fn read(text: &str) -> Result<Option<Self>, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() <= 4096 && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Some(Self(text.to_owned())))
        } else {
            Err("must be 1 to 4096 visible ASCII characters; copy the key again from the Ghost API")
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}
