//! Where an answer sends us. Invariant: never from https to http, never to where we were, and the
//! url's user and password only to the host that they were meant for.

use reqwest::header::{HeaderMap, LOCATION};
use url::Url;

use super::shown;

/// Redirects that are followed.
pub(super) const MOST: usize = 10;

/// Why a redirect is not followed; the text goes on after the url.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectTrouble {
    /// To a url that was asked already.
    #[error("redirects in a loop, again to {to}")]
    Loop {
        /// That url.
        to: String,
    },
    /// One after the other.
    #[error("redirects more than {MOST} times, lastly to {to}")]
    TooMany {
        /// The first that was not asked.
        to: String,
    },
    /// From https to http.
    #[error("redirects to {to}, which is not encrypted")]
    Unencrypted {
        /// The url that was not asked.
        to: String,
    },
    /// To something that is not http.
    #[error("redirects to {to}, which is neither http nor https")]
    OtherScheme {
        /// The url that was not asked.
        to: String,
    },
    /// Without a url that can be read.
    #[error("redirects without saying where to")]
    Nowhere,
}

/// The way from the first url to the present one.
#[derive(Debug)]
pub(super) struct Way {
    asked: Vec<Url>,
    present: Url,
}

impl Way {
    pub(super) fn new(url: &Url) -> Self {
        Self { asked: Vec::new(), present: url.clone() }
    }

    pub(super) fn present(&self) -> &Url {
        &self.present
    }

    /// Goes on to where the answer of the present url points.
    pub(super) fn follow(&mut self, headers: &HeaderMap) -> Result<(), RedirectTrouble> {
        let next = self.next(headers).ok_or(RedirectTrouble::Nowhere)?;
        let to = shown(&next);
        if !matches!(next.scheme(), "http" | "https") {
            return Err(RedirectTrouble::OtherScheme { to });
        }
        if self.present.scheme() == "https" && next.scheme() == "http" {
            return Err(RedirectTrouble::Unencrypted { to });
        }
        self.asked.push(std::mem::replace(&mut self.present, next));
        if self.asked.contains(&self.present) {
            return Err(RedirectTrouble::Loop { to });
        }
        if self.asked.len() > MOST {
            return Err(RedirectTrouble::TooMany { to });
        }
        Ok(())
    }

    fn next(&self, headers: &HeaderMap) -> Option<Url> {
        let location = headers.get(LOCATION)?.to_str().ok()?;
        let mut next = self.present.join(location).ok()?;
        let ours = self.present.username() != "" || self.present.password().is_some();
        let theirs = next.username() != "" || next.password().is_some();
        next.set_fragment(None);
        if is_same_host(&self.present, &next) && ours && !theirs {
            next.set_username(self.present.username()).ok()?;
            next.set_password(self.present.password()).ok()?;
        }
        Some(next)
    }
}

/// The same server, or its encrypted self on the usual port.
fn is_same_host(from: &Url, to: &Url) -> bool {
    let is_upgrade = from.scheme() == "http" && from.port().is_none() && to.port().is_none();
    from.host() == to.host()
        && (from.port_or_known_default() == to.port_or_known_default() || is_upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(from: &str, location: &str) -> Result<Url, RedirectTrouble> {
        let mut way = Way::new(&from.parse().unwrap());
        let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
        way.follow(&headers).map(|()| way.present().clone())
    }

    #[test]
    fn the_password_goes_to_its_own_host_only() {
        let from = "https://me:secret@a.example/x";
        let to = |location| after(from, location).unwrap().to_string();
        assert_eq!(to("/y"), "https://me:secret@a.example/y");
        assert_eq!(to("https://a.example/y"), "https://me:secret@a.example/y");
        assert_eq!(to("https://b.example/y"), "https://b.example/y");
        assert_eq!(to("//b.example/y"), "https://b.example/y");
        assert_eq!(to("https://a.example:8443/y"), "https://a.example:8443/y");
        let upgraded = after("http://me:secret@a.example/x", "https://a.example/x").unwrap();
        assert_eq!(upgraded.as_str(), "https://me:secret@a.example/x");
    }

    #[test]
    fn encryption_is_never_given_up_nor_the_web_left() {
        let to = "http://a.example/x".to_owned();
        let plain = after("https://a.example/x", "http://a.example/x").unwrap_err();
        assert_eq!(plain, RedirectTrouble::Unencrypted { to });
        let file = after("http://a.example/x", "file:///etc/shadow").unwrap_err();
        assert_eq!(file, RedirectTrouble::OtherScheme { to: "file:///etc/shadow".to_owned() });
        assert_eq!(after("http://a.example/x", "http://").unwrap_err(), RedirectTrouble::Nowhere);
    }
}
