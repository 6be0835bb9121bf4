//! One row. Invariant: each problem is noted with the line of the value that has it, or, for a value
//! that is missing, of the row.

use std::collections::BTreeMap;

use ghost_core::domain::{
    Arch, DigestList, Firmware, Gib, HashAlgorithm, Invalid, ListFormat, Proof, PublishedDigest,
    Signature, Template,
};
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde_saphyr::Spanned;
use url::Url;

use super::super::keys::KeyName;
use crate::catalog::Problem;

pub(super) const KEYS: [&str; 14] = [
    "name",
    "arch",
    "url",
    "default_user",
    "min_disk_gib",
    "firmware",
    "checksum",
    "sums",
    "sums_format",
    "sums_algorithm",
    "sums_file",
    "signed_by",
    "signature",
    "unsigned",
];

/// What only makes sense beside a list.
const OF_LISTS: [&str; 6] =
    ["sums_format", "sums_algorithm", "sums_file", "signed_by", "signature", "unsigned"];

/// A row as it is written.
pub(super) type Row = BTreeMap<String, Spanned<String>>;

/// Reads a row that begins on `line`, noting all of its problems.
pub(super) fn read(row: &Row, line: u64, problems: &mut Vec<Problem>) -> Option<Template> {
    Reader { row, line, problems }.source()
}

struct Reader<'a> {
    row: &'a Row,
    line: u64,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn source(mut self) -> Option<Template> {
        self.unknown_keys();
        let name = self.required("name", from_text);
        let arch = self.required("arch", arch);
        let url = self.required("url", location);
        let default_user = self.required("default_user", user_name);
        let min_disk = self.optional("min_disk_gib", gib);
        let firmware = self.optional("firmware", str::parse);
        let proof = self.proof(url.as_ref());
        let arch = arch?;
        Some(Template {
            name: name?,
            arch,
            url: url?,
            proof: proof?,
            default_user: default_user?,
            min_disk: min_disk?,
            firmware: self.bootable(arch, firmware?.unwrap_or(Firmware::of(arch)))?,
        })
    }

    fn unknown_keys(&mut self) {
        for (key, value) in self.row {
            if !KEYS.contains(&key.as_str()) {
                let (key, allowed) = (key.escape_debug(), KEYS.join(", "));
                let text = format!("unknown key '{key}'; allowed: {allowed}");
                self.problems.push(Problem { line: value.defined.line(), text });
            }
        }
    }

    fn bootable(&mut self, arch: Arch, firmware: Firmware) -> Option<Firmware> {
        match (arch, firmware) {
            (Arch::Aarch64, Firmware::Bios) => {
                self.note("firmware", "firmware 'bios': aarch64 boots from uefi only".to_owned())
            }
            (Arch::X86_64, Firmware::Bios) | (_, Firmware::Uefi) => Some(firmware),
        }
    }

    fn proof(&mut self, image: Option<&Url>) -> Option<Proof> {
        match (self.row.contains_key("checksum"), self.row.contains_key("sums")) {
            (true, true) => {
                let text = "'checksum' and 'sums': name the hash or the list of hashes, not both";
                self.note("sums", text.to_owned())
            }
            (false, false) => {
                let text = "'checksum' or 'sums' is missing: the image's hash, or the publisher's \
                            list of hashes";
                self.note("", text.to_owned())
            }
            (true, false) => self.pinned(),
            (false, true) => self.listed(image),
        }
    }

    fn pinned(&mut self) -> Option<Proof> {
        for key in OF_LISTS {
            if self.row.contains_key(key) {
                self.note::<()>(key, format!("'{key}' belongs to 'sums', not to 'checksum'"));
            }
        }
        let hash = self.required("checksum", str::parse::<PublishedDigest>)?;
        Some(Proof::Pinned(hash))
    }

    fn listed(&mut self, image: Option<&Url>) -> Option<Proof> {
        let url = self.required("sums", location);
        let format = self.required("sums_format", str::parse::<ListFormat>);
        let algorithm = self.required("sums_algorithm", str::parse::<HashAlgorithm>);
        let file = self.optional("sums_file", file_name);
        let signature = self.signature();
        let file = file?.or_else(|| {
            let last = image?.path_segments()?.next_back()?;
            Some(last.to_owned()).filter(|last| !last.is_empty())
        });
        Some(Proof::Listed(Box::new(DigestList {
            url: url?,
            format: format?,
            algorithm: algorithm?,
            file: file?,
            signature: signature?,
        })))
    }

    fn signature(&mut self) -> Option<Signature> {
        let url = self.optional("signature", location);
        let key = self.optional("signed_by", str::parse::<KeyName>);
        let reason = self.optional("unsigned", |text| Ok(text.to_owned()))?;
        match (url?, key?, reason) {
            (Some(url), Some(key), None) => Some(Signature::Detached { url, key: key.to_string() }),
            (None, Some(key), None) => Some(Signature::Clearsigned { key: key.to_string() }),
            (None, None, reason) => {
                let reason = reason.unwrap_or_else(|| "the catalogue names no key".to_owned());
                Some(Signature::Unsigned { reason })
            }
            (Some(_), None, _) => {
                self.note("signature", "'signature' needs 'signed_by', a pinned key".to_owned())
            }
            (_, Some(_), Some(_)) => {
                self.note("unsigned", "'signed_by' and 'unsigned' contradict each other".to_owned())
            }
        }
    }

    fn required<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        if self.row.contains_key(key) {
            self.optional(key, parse)?
        } else {
            self.note(key, format!("'{key}' is missing"))
        }
    }

    /// None: it is there, and wrong.
    #[expect(clippy::option_option, reason = "wrong and absent are two things, and wrong is noted")]
    fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<Option<T>> {
        let Some(value) = self.row.get(key) else { return Some(None) };
        match parse(&value.value) {
            Ok(parsed) => Some(Some(parsed)),
            Err(why) => self.note(key, format!("{key} '{}': {why}", value.value.escape_debug())),
        }
    }

    fn note<T>(&mut self, key: &str, text: String) -> Option<T> {
        let line = self.row.get(key).map_or(self.line, |value| value.defined.line());
        self.problems.push(Problem { line, text });
        None
    }
}

/// Through serde, which knows the aliases of [`Arch`].
fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, Invalid> {
    let read: Result<T, ValueError> = T::deserialize(StrDeserializer::new(text));
    read.map_err(|error| Invalid::new(error.to_string()))
}

fn arch(text: &str) -> Result<Arch, Invalid> {
    from_text(text).map_err(|_| Invalid::new("allowed: x86_64 (amd64), aarch64 (arm64)"))
}

fn location(text: &str) -> Result<Url, Invalid> {
    let allowed = "allowed: file:///…, http://…, https://…";
    let url = Url::parse(text).map_err(|error| Invalid::new(format!("{error}; {allowed}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        "file" if url.to_file_path().is_ok() => Ok(url),
        "file" => {
            Err(Invalid::new("must name a file of this host, such as file:///srv/images/a.qcow2"))
        }
        _ => Err(Invalid::new(allowed)),
    }
}

fn file_name(text: &str) -> Result<String, Invalid> {
    if text.is_empty() || text.contains(['\n', '\r', '\0']) {
        return Err(Invalid::new("must be the file's name in the list"));
    }
    Ok(text.to_owned())
}

/// The largest disk that a row may ask for is 16 TiB, more than any published image has.
fn gib(text: &str) -> Result<Gib, Invalid> {
    let number = text.parse().map_err(|_| Invalid::new("must be a whole number of GiB"))?;
    Gib::within(1..=16384, number)
}

/// What useradd takes (useradd(8), "CAVEATS").
fn user_name(text: &str) -> Result<String, Invalid> {
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
    if begins && text.len() <= 32 && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new(
            "must be 1 to 32 of a-z, 0-9, '_' and '-', beginning with a letter or '_'",
        ))
    }
}
