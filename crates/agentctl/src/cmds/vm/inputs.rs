//! Invariant: what the caller's files and words become is bounded and readable; whether it is
//! permitted, the agent decides, which reports every wrong field at once.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::errors::Failure;

/// The agent takes 64 KiB of user data (design, issue 2); more is not even read.
const MAX_USER_DATA: usize = 64 * 1024;
/// Far more than any key; keeps `--ssh-key /dev/zero` from filling the memory.
const MAX_KEY_FILE: usize = 256 * 1024;

/// A number of GiB: `4`, `4G`, `4GB` or `4GiB`.
pub(super) fn parse_gib(text: &str) -> Result<i32, String> {
    let number = ["GiB", "GB", "G"].iter().find_map(|unit| text.strip_suffix(unit)).unwrap_or(text);
    number.parse().map_err(|_| "give a whole number of GiB, such as 4".to_owned())
}

/// `key=value`; the value may hold further `=`.
pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("give KEY=VALUE".to_owned()),
    }
}

/// Pairs as a map.
///
/// # Errors
/// Exit 2 when a key comes twice.
pub(super) fn metadata(pairs: Vec<(String, String)>) -> Result<HashMap<String, String>, Failure> {
    let mut map = HashMap::with_capacity(pairs.len());
    for (key, value) in pairs {
        if map.contains_key(&key) {
            return Err(Failure::usage(format!("--metadata {key} is given twice"))
                .remedy("give each key once"));
        }
        map.insert(key, value);
    }
    Ok(map)
}

/// OpenSSH public keys, each one given literally or as a file of them.
///
/// # Errors
/// Exit 2 for a file that cannot be read, holds no key, or is a private key.
pub(super) fn ssh_keys(given: &[String]) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for each in given {
        if is_key(each) {
            keys.push(each.trim().to_owned());
        } else {
            keys.extend(keys_of_file(Path::new(each))?);
        }
    }
    Ok(keys)
}

fn is_key(line: &str) -> bool {
    line.split_whitespace().next().is_some_and(|word| {
        ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|kind| word.starts_with(kind))
    }) && line.split_whitespace().nth(1).is_some()
}

fn keys_of_file(path: &Path) -> Result<Vec<String>, Failure> {
    let shown = path.display();
    let remedy = "give a public key file such as ~/.ssh/id_ed25519.pub, or the key itself";
    let file = File::open(path)
        .map_err(|error| Failure::usage(format!("--ssh-key {shown}: {error}")).remedy(remedy))?;
    let text = read_text(file, MAX_KEY_FILE)
        .map_err(|why| Failure::usage(format!("--ssh-key {shown}: {why}")).remedy(remedy))?;
    if text.contains("PRIVATE KEY") {
        return Err(Failure::usage(format!("--ssh-key {shown} is a private key"))
            .remedy("keep it, and give its public half, the .pub file"));
    }
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = lines.map(str::to_owned).collect();
    if keys.is_empty() {
        return Err(Failure::usage(format!("--ssh-key {shown} holds no key")).remedy(remedy));
    }
    Ok(keys)
}

/// The user data in the file `source`, or on `stdin` when it is `-`.
///
/// # Errors
/// Exit 2 when it cannot be read, is not UTF-8 or is more than 64 KiB.
pub(super) fn user_data(source: &Path, stdin: impl Read) -> Result<String, Failure> {
    let shown = source.display();
    let text = if source.as_os_str() == "-" {
        read_text(stdin, MAX_USER_DATA)
    } else {
        File::open(source)
            .map_err(|error| error.to_string())
            .and_then(|file| read_text(file, MAX_USER_DATA))
    };
    text.map_err(|why| {
        Failure::usage(format!("--user-data {shown}: {why}"))
            .remedy("give cloud-config, a script or a multipart archive of at most 64 KiB")
    })
}

fn read_text(from: impl Read, limit: usize) -> Result<String, String> {
    let mut bytes = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    from.take(one_more).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > limit {
        return Err(format!("is more than {} KiB", limit / 1024));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrGz9 me@host";

    #[test]
    fn gibibytes_take_a_unit_and_nothing_else() {
        for text in ["4", "4G", "4GB", "4GiB"] {
            assert_eq!(parse_gib(text), Ok(4), "{text}");
        }
        for text in ["", "G", "4.5", "4M", "four", "99999999999", "4 G"] {
            assert!(parse_gib(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pair_is_split_at_its_first_equals_sign() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(parse_pair("=b").is_err() && parse_pair("ab").is_err());
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let pair = |value: &str| ("k".to_owned(), value.to_owned());
        assert!(metadata(vec![pair("1"), pair("2")]).unwrap_err().message.contains("twice"));
    }

    #[test]
    fn keys_come_literally_or_from_files() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "# mine\n\n{KEY}\nssh-rsa AAAAB3 you\n").unwrap();
        let keys = ssh_keys(&[KEY.to_owned(), file.path().display().to_string()]).unwrap();
        assert_eq!(keys, [KEY, KEY, "ssh-rsa AAAAB3 you"]);
    }

    #[test]
    fn a_private_key_never_leaves_this_host() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "-----BEGIN OPENSSH PRIVATE KEY-----\nxyz\n").unwrap();
        let failure = ssh_keys(&[file.path().display().to_string()]).unwrap_err();
        assert!(failure.message.contains("private key"), "{failure:?}");
    }

    #[test]
    fn user_data_is_bounded_text() {
        let dash = Path::new("-");
        assert_eq!(user_data(dash, &b"#cloud-config\n"[..]).unwrap(), "#cloud-config\n");
        assert!(user_data(dash, std::io::repeat(b'a')).unwrap_err().message.contains("64 KiB"));
        assert!(user_data(dash, &[0xff, 0xfe][..]).unwrap_err().message.contains("UTF-8"));
        assert!(
            user_data(Path::new("/no/such/file"), std::io::empty())
                .unwrap_err()
                .message
                .contains("/no/such/file")
        );
    }
}
