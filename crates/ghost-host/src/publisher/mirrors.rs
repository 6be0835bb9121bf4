//! The owner's mirrors: other servers that hold what a publisher's server holds.
//!
//! Invariant: a URL is rewritten by at most one mirror, the one with the longest prefix, and only
//! at a border between two segments of its path. What is proven stays the same: a mirror serves the
//! list and its signature too.

use url::Url;

/// Why a mirror can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// One of its sides is no URL.
    #[error("'{text}' is no URL ({source}); write it as https://HOST/PATH")]
    NoUrl {
        /// What was written.
        text: String,
        /// What the parser said.
        #[source]
        source: url::ParseError,
    },
    /// A scheme that nothing is downloaded by.
    #[error("'{text}': allowed are {allowed}")]
    Scheme {
        /// What was written.
        text: String,
        /// What may be written.
        allowed: &'static str,
    },
    /// More than a prefix.
    #[error("'{text}' has a {part}; a prefix has only scheme, host, port and path")]
    NoPrefix {
        /// What was written, without what is secret.
        text: String,
        /// What it must not have.
        part: &'static str,
    },
    /// Which of two mirrors is meant?
    #[error("'{prefix}' has two mirrors; name one")]
    Twice {
        /// The publisher's prefix.
        prefix: String,
    },
}

/// One rule: what begins with `from` is fetched from `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    from: Url,
    to: Url,
}

impl Mirror {
    /// Reads both prefixes; a slash at their ends means nothing.
    ///
    /// # Errors
    /// If one is no `https://` or `http://` URL (the mirror may also be `file://`), or has a query,
    /// a fragment, a user or a password.
    pub fn new(from: &str, to: &str) -> Result<Self, MirrorError> {
        Ok(Self {
            from: prefix(from, &["https", "http"], "https://… and http://…")?,
            to: prefix(to, &["https", "http", "file"], "https://…, http://… and file:///…")?,
        })
    }

    /// What of `url` comes after the prefix: nothing, or a text that begins with `/`.
    fn rest<'a>(&self, url: &'a Url) -> Option<&'a str> {
        let server = |url: &Url| {
            (
                url.scheme().to_owned(),
                url.host_str().map(str::to_owned),
                url.port_or_known_default(),
            )
        };
        if server(&self.from) != server(url) {
            return None;
        }
        let rest = url.path().strip_prefix(path(&self.from))?;
        (rest.is_empty() || rest.starts_with('/')).then_some(rest)
    }

    fn rewrite(&self, url: &Url, rest: &str) -> Url {
        let mut rewritten = self.to.clone();
        rewritten.set_path(&format!("{}{rest}", path(&self.to)));
        rewritten.set_query(url.query());
        rewritten
    }
}

/// The path without the slash at its end; `url` has it in the one normal form.
fn path(url: &Url) -> &str {
    url.path().trim_end_matches('/')
}

fn prefix(text: &str, schemes: &[&str], allowed: &'static str) -> Result<Url, MirrorError> {
    let url =
        Url::parse(text).map_err(|source| MirrorError::NoUrl { text: text.to_owned(), source })?;
    if !url.username().is_empty() || url.password().is_some() {
        let text = url.host_str().unwrap_or_default().to_owned();
        return Err(MirrorError::NoPrefix { text, part: "user or password" });
    }
    let text = text.to_owned();
    if !schemes.contains(&url.scheme()) {
        Err(MirrorError::Scheme { text, allowed })
    } else if url.query().is_some() {
        Err(MirrorError::NoPrefix { text, part: "query" })
    } else if url.fragment().is_some() {
        Err(MirrorError::NoPrefix { text, part: "fragment" })
    } else {
        Ok(url)
    }
}

/// All of the owner's mirrors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors(Vec<Mirror>);

impl Mirrors {
    /// Takes mirrors in any order.
    ///
    /// # Errors
    /// If two are for the same prefix.
    pub fn new(mirrors: Vec<Mirror>) -> Result<Self, MirrorError> {
        let same =
            |a: &Mirror, b: &Mirror| a.rest(&b.from).is_some() && path(&a.from) == path(&b.from);
        for (n, mirror) in mirrors.iter().enumerate() {
            if mirrors.iter().take(n).any(|former| same(former, mirror)) {
                return Err(MirrorError::Twice { prefix: mirror.from.to_string() });
            }
        }
        Ok(Self(mirrors))
    }

    /// Where `url` is fetched from: rewritten by the mirror with the longest prefix, or itself.
    #[must_use]
    pub fn rewrite(&self, url: &Url) -> Url {
        self.0
            .iter()
            .filter_map(|mirror| Some((mirror, mirror.rest(url)?)))
            .min_by_key(|(_, rest)| rest.len())
            .map_or_else(|| url.clone(), |(mirror, rest)| mirror.rewrite(url, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(rules: &[(&str, &str)]) -> Mirrors {
        Mirrors::new(rules.iter().map(|(from, to)| Mirror::new(from, to).unwrap()).collect())
            .unwrap()
    }

    fn rewritten(rules: &[(&str, &str)], url: &str) -> String {
        mirrors(rules).rewrite(&Url::parse(url).unwrap()).to_string()
    }

    #[test]
    fn a_url_below_the_prefix_is_rewritten_and_others_stay() {
        let rules = [("https://cloud.debian.org/images/", "http://mirror.lan:8080/debian")];
        for (url, expected) in [
            (
                "https://cloud.debian.org/images/cloud/a.qcow2",
                "http://mirror.lan:8080/debian/cloud/a.qcow2",
            ),
            ("https://cloud.debian.org/images", "http://mirror.lan:8080/debian"),
            ("https://cloud.debian.org/images/a?b=c", "http://mirror.lan:8080/debian/a?b=c"),
            ("https://cloud.debian.org/other/a", "https://cloud.debian.org/other/a"),
            ("https://debian.org/images/a", "https://debian.org/images/a"),
        ] {
            assert_eq!(rewritten(&rules, url), expected, "{url}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_border_of_the_path() {
        let rules = [("https://a.example/images", "https://b.example/x")];
        let beside = "https://a.example/images-old/a";
        assert_eq!(rewritten(&rules, beside), beside);
        let host = [("https://a.example", "https://b.example")];
        let other = "https://a.example.evil.example/a";
        assert_eq!(rewritten(&host, other), other);
    }

    #[test]
    fn the_longest_prefix_wins_in_any_order() {
        let mut rules = [
            ("https://a.example/", "https://all.example/"),
            ("https://a.example/x/y", "https://deep.example/"),
            ("https://a.example/x", "https://x.example/z"),
        ];
        for _ in 0..rules.len() {
            rules.rotate_left(1);
            assert_eq!(rewritten(&rules, "https://a.example/x/y/f"), "https://deep.example/f");
            assert_eq!(rewritten(&rules, "https://a.example/x/f"), "https://x.example/z/f");
            assert_eq!(rewritten(&rules, "https://a.example/f"), "https://all.example/f");
        }
    }

    #[test]
    fn scheme_and_host_have_no_case_and_the_usual_port_may_be_written() {
        let rules = [("HTTPS://A.Example:443/x", "https://b.example")];
        assert_eq!(rewritten(&rules, "https://a.example/x/f"), "https://b.example/f");
        for other in ["http://a.example/x/f", "https://a.example:444/x/f", "https://a.example/X/f"]
        {
            assert_eq!(rewritten(&rules, other), other);
        }
    }

    #[test]
    fn a_path_cannot_climb_out_of_the_mirror() {
        let rules = [("https://a.example/x", "https://b.example/public")];
        for url in ["https://a.example/x/../secret", "https://a.example/x/%2e%2e/secret"] {
            assert_eq!(rewritten(&rules, url), "https://a.example/secret", "{url}");
        }
    }

    #[test]
    fn a_mirror_may_be_a_folder_of_this_host() {
        let rules = [("https://a.example/x/", "file:///srv/images/")];
        assert_eq!(rewritten(&rules, "https://a.example/x/y/f"), "file:///srv/images/y/f");
    }

    #[test]
    fn a_rewritten_url_is_not_rewritten_again() {
        let rules = [
            ("https://a.example", "https://b.example"),
            ("https://b.example", "https://c.example"),
        ];
        assert_eq!(rewritten(&rules, "https://a.example/f"), "https://b.example/f");
    }

    #[test]
    fn what_is_no_prefix_is_refused_and_no_password_is_shown() {
        for (from, to, expected) in [
            ("a.example", "https://b", "'a.example' is no URL (relative URL without a base)"),
            ("https://a", "ftp://b", "'ftp://b': allowed are https://…, http://… and file:///…"),
            ("file:///a", "https://b", "'file:///a': allowed are https://… and http://…"),
            ("https://a/?x", "https://b", "'https://a/?x' has a query;"),
            ("https://a", "https://b/#x", "'https://b/#x' has a fragment;"),
            ("https://a", "https://u:geheim@b/", "'b' has a user or password;"),
        ] {
            let text = Mirror::new(from, to).unwrap_err().to_string();
            assert!(text.starts_with(expected), "{text}");
            assert!(!text.contains("geheim"), "{text}");
        }
    }

    #[test]
    fn two_mirrors_of_one_prefix_are_refused() {
        let mirror = |from| Mirror::new(from, "https://b.example").unwrap();
        let twice = vec![mirror("https://a.example/x"), mirror("https://A.example:443/x/")];
        let text = Mirrors::new(twice).unwrap_err().to_string();
        assert_eq!(text, "'https://a.example/x/' has two mirrors; name one");
        let nested = vec![mirror("https://a.example/x"), mirror("https://a.example/x/y")];
        assert!(Mirrors::new(nested).is_ok());
    }
}
