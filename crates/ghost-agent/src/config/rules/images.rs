//! Where images come from. Invariant: a prefix is a folder, so that it can't fit half a host's name, and
//! no secret hides in it.

use url::Url;

use super::{Raw, Rule, Scalar, Shape, Style, quoted};

/// Prefixes of URLs and what takes their place, `FROM=TO`; none is allowed.
///
/// What is refused for a user or a password is not shown.
pub(in crate::config) fn mirrors() -> Rule<Vec<(Url, Url)>> {
    const MOST: usize = 64;
    let parse = |raw: &Raw| {
        let entries: Vec<&str> = match raw {
            Raw::Many(items) => items.iter().map(|item| item.text.as_str()).collect(),
            Raw::One(Scalar { text, style: Style::Flat }) => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
            }
            Raw::One(Scalar { style: Style::Plain | Style::Quoted, .. }) => {
                return Err("is one value, where a list is expected; write it in [ ]".to_owned());
            }
        };
        let mirrors = entries.into_iter().map(mirror).collect::<Result<Vec<_>, _>>()?;
        if mirrors.len() > MOST {
            return Err(format!("has {} entries", mirrors.len()));
        }
        let twice = mirrors
            .iter()
            .enumerate()
            .find(|(at, (from, _))| mirrors.iter().take(*at).any(|(former, _)| former == from));
        match twice {
            Some((_, (from, _))) => Err(format!("has {} twice", quoted(from.as_str()))),
            None => Ok(mirrors),
        }
    };
    Rule {
        allowed: format!(
            "a list of at most {MOST} FROM=TO, each an http:// or https:// URL that ends with /, TO also file://"
        )
        .into(),
        shape: Shape::Many,
        parse: Box::new(parse),
    }
}

fn mirror(text: &str) -> Result<(Url, Url), String> {
    let Some((from, to)) = text.split_once('=') else {
        return Err("has an entry without =; write FROM=TO".to_owned());
    };
    let (from, to) = (prefix("FROM", from)?, prefix("TO", to)?);
    if from.scheme() == "file" {
        return Err(format!("{} is a file, which needs no mirror", quoted(from.as_str())));
    }
    Ok((from, to))
}

fn prefix(side: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("{side} is not a URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "{side} contains a user or a password, which do not belong into a file"
        ));
    }
    let shown = || quoted(url.as_str());
    let is_local = url.scheme() == "file" && url.to_file_path().is_ok();
    if !matches!(url.scheme(), "http" | "https") && !is_local {
        return Err(format!(
            "{} is neither http:// nor https:// nor a file:// of this host",
            shown()
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{} contains ? or #", shown()));
    }
    if !url.path().ends_with('/') {
        return Err(format!("{} does not end with /, so it could fit half a name", shown()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(items: &[&str]) -> Result<Vec<(String, String)>, String> {
        let scalar = |text: &&str| Scalar { text: (*text).to_owned(), style: Style::Quoted };
        let raw = Raw::Many(items.iter().map(scalar).collect());
        let read = mirrors().parse(&raw)?;
        Ok(read.into_iter().map(|(from, to)| (from.into(), to.into())).collect())
    }

    fn pair(from: &str, to: &str) -> (String, String) {
        (from.to_owned(), to.to_owned())
    }

    #[test]
    fn prefixes_are_read_in_their_order() {
        assert_eq!(listed(&[]), Ok(vec![]));
        let read = listed(&[
            "https://cloud-images.ubuntu.com/=https://mirror.example/ubuntu-cloud/",
            "https://cloud.debian.org = file:///srv/mirror/",
        ]);
        let expected = [
            pair("https://cloud-images.ubuntu.com/", "https://mirror.example/ubuntu-cloud/"),
            pair("https://cloud.debian.org/", "file:///srv/mirror/"),
        ];
        assert_eq!(read.as_deref(), Ok(&expected[..]));
    }

    #[test]
    fn in_the_environment_they_are_separated_by_commas() {
        let flat = Raw::One(Scalar::flat("http://a/=http://b/, http://c/=http://d/,"));
        assert_eq!(mirrors().parse(&flat).map(|read| read.len()), Ok(2));
        assert_eq!(mirrors().parse(&Raw::One(Scalar::flat(""))), Ok(vec![]));
    }

    #[test]
    fn what_is_no_pair_of_prefixes_is_refused() {
        for (entry, why) in [
            ("https://a/", "without ="),
            ("=https://a/", "FROM is not a URL"),
            ("https://a/=", "TO is not a URL"),
            ("https://a/=b", "TO is not a URL"),
            ("ftp://a/=https://b/", "neither http:// nor"),
            ("https://a/=file://host/srv/", "neither http:// nor"),
            ("file:///srv/=https://b/", "needs no mirror"),
            ("https://a/x=https://b/", "does not end with /"),
            ("https://a/=https://b/x", "does not end with /"),
            ("https://a/=https://b/?x=/", "contains ? or #"),
            ("https://a/=https://b/#/", "contains ? or #"),
            ("https://a/=https://b/=https://c/x", "does not end with /"),
        ] {
            let error = listed(&[entry]).unwrap_err();
            assert!(error.contains(why), "{entry}: {error}");
        }
        let twice = listed(&["https://a/=https://b/", "https://A/=https://c/"]).unwrap_err();
        assert_eq!(twice, "has \"https://a/\" twice");
        let many: Vec<String> = (0..65).map(|n| format!("https://a{n}/=https://b/")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(listed(&many).unwrap_err(), "has 65 entries");
    }

    #[test]
    fn a_password_is_refused_and_not_shown() {
        for entry in ["https://u:hunter2@a/=https://b/", "https://a/=https://u:hunter2@b/"] {
            let error = listed(&[entry]).unwrap_err();
            assert!(
                error.contains("a user or a password") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
