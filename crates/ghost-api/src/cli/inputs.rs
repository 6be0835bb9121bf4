//! Invariant: what the operator's words and files become is bounded and readable.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use super::failure::Failure;

/// Far more than any key; keeps `--ssh-key /dev/zero` from filling the memory.
const MAX_KEY_FILE: u64 = 256 * 1024;

/// A whole number with `s`, `m`, `h` or `d`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wanted = || "give a whole number with s, m, h or d, such as 30m or 1h".to_owned();
    let unit = text.chars().next_back().ok_or_else(wanted)?;
    let each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wanted()),
    };
    let digits = text.strip_suffix(unit).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wanted());
    }
    let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(each));
    seconds.map(Duration::from_secs).ok_or_else(wanted)
}

/// A number of GiB: `4`, `4G`, `4GB` or `4GiB`.
pub(super) fn parse_gib(text: &str) -> Result<i32, String> {
    let number = ["GiB", "GB", "G"].iter().find_map(|unit| text.strip_suffix(unit)).unwrap_or(text);
    number.parse().map_err(|_| "give a whole number of GiB, such as 4".to_owned())
}

/// The OpenSSH public keys in a file, one a line.
///
/// # Errors
/// Exit 2 for a file that can't be read, holds no key, or is a private key.
pub(super) fn ssh_keys(path: &Path) -> Result<Vec<String>, Failure> {
    let wrong = |why: String| {
        Failure::usage(format!(
            "--ssh-key {}: {why}; give a public key file such as ~/.ssh/id_ed25519.pub",
            path.display()
        ))
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(MAX_KEY_FILE).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.contains("PRIVATE KEY") {
        return Err(wrong("is a private key, keep it".to_owned()));
    }
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<String> = lines.map(str::to_owned).collect();
    if keys.is_empty() {
        return Err(wrong("holds no key".to_owned()));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_nothing_else() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "1",
            "h",
            "1.5h",
            "-1h",
            "+1h",
            "1 h",
            "1w",
            "1ä",
            "99999999999999999999d",
            "300000000000000000d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_private_key_never_leaves_this_host() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        std::fs::write(&path, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        assert!(format!("{:?}", ssh_keys(&path).unwrap_err()).contains("private key"));
        std::fs::write(&path, "# mine\nssh-ed25519 AAAA me\n").unwrap();
        assert_eq!(ssh_keys(&path).unwrap(), ["ssh-ed25519 AAAA me"]);
    }
}
