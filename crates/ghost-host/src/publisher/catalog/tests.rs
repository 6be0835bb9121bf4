use std::collections::BTreeSet;

use ghost_core::domain::{DigestList, Firmware, Gib, HashAlgorithm, ListFormat, Proof, Signature};

use super::super::{Compression, KeyName};
use super::*;

const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000042";

/// The owner's format of the versions before lists.
fn pinned(name: &str, arch: &str) -> String {
    format!(
        "- name: {name}\n  arch: {arch}\n  url: https://mirror.example/a.qcow2\n  checksum: {HASH}\n  \
         default_user: debian\n"
    )
}

fn listed(more: &str) -> String {
    format!(
        "- name: debian-12\n  arch: amd64\n  url: https://mirror.example/d/a.qcow2.xz?x\n  \
         default_user: debian\n  sums: https://mirror.example/d/SUMS\n  sums_format: bsd\n  \
         sums_algorithm: sha512\n{more}"
    )
}

fn problems(yaml: &str) -> Vec<(u64, String)> {
    parse(yaml).unwrap_err().into_iter().map(|p| (p.line, p.text)).collect()
}

fn checksums(source: &Template) -> &DigestList {
    match &source.proof {
        Proof::Listed(checksums) => checksums,
        Proof::Pinned(hash) => panic!("{} is pinned to {hash}", source.name),
    }
}

fn signature(more: &str) -> Signature {
    checksums(&parse(&listed(more)).unwrap()[0]).signature.clone()
}

#[test]
fn the_built_in_rows_have_every_distribution_for_both_architectures() {
    let rows = built_in().unwrap();
    let there: BTreeSet<(&str, &str)> =
        rows.iter().map(|row| (row.name.as_str(), row.arch.as_str())).collect();
    let names = [
        "ubuntu-22.04",
        "ubuntu-20.04",
        "debian-12",
        "debian-11",
        "centos-stream-9",
        "ubuntu-24.04",
        "debian-13",
        "fedora-44",
        "almalinux-9",
        "rocky-9",
        "alpine-3.24",
    ];
    let expected = names.iter().flat_map(|name| [(*name, "x86_64"), (*name, "aarch64")]);
    assert_eq!(there, expected.collect());
}

#[test]
fn a_built_in_row_comes_from_https_and_says_who_signs_it_or_why_nobody_does() {
    for row in built_in().unwrap() {
        let checksums = checksums(&row);
        assert_eq!((row.url.scheme(), checksums.url.scheme()), ("https", "https"), "{}", row.name);
        match &checksums.signature {
            Signature::Unsigned { reason } => {
                assert!(reason.contains("is known") || reason.contains("not pinned"), "{reason}");
            }
            Signature::Detached { url, .. } => {
                let list = checksums.url.as_str();
                assert!(url.as_str().strip_prefix(list).is_some_and(|e| e.starts_with('.')));
            }
            Signature::Clearsigned { .. } => assert_eq!(checksums.format, ListFormat::Bsd),
        }
    }
}

#[test]
fn a_built_in_row_names_its_architecture_in_its_image() {
    for row in built_in().unwrap() {
        let (url, other) = match row.arch {
            Arch::X86_64 => (row.url.path(), ["arm64", "aarch64"]),
            Arch::Aarch64 => (row.url.path(), ["amd64", "x86_64"]),
        };
        assert!(!other.iter().any(|arch| url.contains(arch)), "{}: {url}", row.name);
        assert_eq!(row.firmware, Firmware::of(row.arch), "{}", row.name);
        assert!(url.ends_with(&checksums(&row).file), "{}", row.name);
    }
}

#[test]
fn every_pinned_key_signs_a_built_in_row() {
    let rows = built_in().unwrap();
    let used: Vec<String> = rows
        .iter()
        .filter_map(|row| match &checksums(row).signature {
            Signature::Unsigned { .. } => None,
            Signature::Detached { key, .. } | Signature::Clearsigned { key } => {
                Some(key.to_string())
            }
        })
        .collect();
    for key in KeyName::all() {
        assert!(used.contains(&key.to_string()), "{key}");
    }
}

#[test]
fn rows_with_a_hash_of_their_own_are_valid_as_ever() {
    let sources = parse(&(pinned("debian-12", "amd64") + &pinned("debian-12", "arm64"))).unwrap();
    assert_eq!(sources.iter().map(|s| s.arch).collect::<Vec<_>>(), [Arch::X86_64, Arch::Aarch64]);
    assert_eq!(sources[0].proof, Proof::Pinned(HASH.parse().unwrap()));
    assert_eq!((sources[0].min_disk, sources[0].firmware), (None, Firmware::Bios));
    assert_eq!((sources[1].min_disk, sources[1].firmware), (None, Firmware::Uefi));
}

#[test]
fn a_row_with_a_list_finds_its_file_by_the_last_part_of_its_url() {
    let [source] =
        parse(&listed("  min_disk_gib: 7\n  firmware: uefi\n")).unwrap().try_into().unwrap();
    let checksums = checksums(&source);
    assert_eq!(checksums.url.as_str(), "https://mirror.example/d/SUMS");
    assert_eq!((checksums.format, checksums.algorithm), (ListFormat::Bsd, HashAlgorithm::Sha512));
    assert_eq!(checksums.file, "a.qcow2.xz");
    assert_eq!((source.min_disk.map(Gib::get), source.firmware), (Some(7), Firmware::Uefi));
    assert_eq!(Compression::of_url(&source.url), Compression::Xz);
    let named = &parse(&listed("  sums_file: other.qcow2\n")).unwrap()[0];
    assert_eq!(super::tests::checksums(named).file, "other.qcow2");
}

#[test]
fn a_list_is_signed_beside_or_within_or_not() {
    let key: KeyName = "rocky-9".parse().unwrap();
    assert_eq!(
        signature("  signed_by: rocky-9\n  signature: https://mirror.example/d/SUMS.asc\n"),
        Signature::Detached {
            url: "https://mirror.example/d/SUMS.asc".parse().unwrap(),
            key: key.to_string()
        }
    );
    assert_eq!(
        signature("  signed_by: rocky-9\n"),
        Signature::Clearsigned { key: key.to_string() }
    );
    let none = |reason: &str| Signature::Unsigned { reason: reason.to_owned() };
    assert_eq!(signature("  unsigned: nobody does\n"), none("nobody does"));
    assert_eq!(signature(""), none("the catalogue names no key"));
}

#[test]
fn all_problems_of_all_rows_are_named_with_their_lines() {
    let yaml = "- name: Debian\n  arch: riscv\n  url: ftp://x/a\n  checksum: abc\n  default_user: Root\n  \
                signed_by: rocky-9\n\
                - name: debian-12\n  size: 3\n\
                - name: debian-13\n  arch: arm64\n  url: https://x/a\n  default_user: a\n  sums: https://x/b\n  \
                sums_format: gna\n  firmware: bios\n  min_disk_gib: 0\n  signature: https://x/c\n";
    let begins = [
        (1, "name 'Debian': must be 1 to 63 of"),
        (2, "arch 'riscv': allowed: x86_64 (amd64), aarch64 (arm64)"),
        (3, "url 'ftp://x/a': allowed: file:///…"),
        (4, "checksum 'abc': must be a SHA256: 64 hexadecimal digits"),
        (5, "default_user 'Root': must be"),
        (6, "'signed_by' belongs to 'sums', not to 'checksum'"),
        (7, "'arch' is missing"),
        (7, "'url' is missing"),
        (7, "'default_user' is missing"),
        (7, "'checksum' or 'sums' is missing"),
        (8, "unknown key 'size'; allowed: name, arch,"),
        (9, "'sums_algorithm' is missing"),
        (14, "sums_format 'gna': allowed: gnu, bsd, single"),
        (16, "min_disk_gib '0': must be 1 to 16384 GiB"),
        (17, "'signature' needs 'signed_by'"),
    ];
    let found = problems(yaml);
    assert_eq!(found.len(), begins.len(), "{found:#?}");
    for ((line, text), (expected, begin)) in found.iter().zip(begins) {
        assert!(*line == expected && text.starts_with(begin), "{line}: {text}");
    }
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    for (yaml, expected) in [
        (listed(&format!("  checksum: {HASH}\n")), "'checksum' and 'sums'"),
        (listed("  signed_by: rocky-9\n  unsigned: because\n"), "'signed_by' and 'unsigned'"),
        (listed("  signed_by: debian\n"), "signed_by 'debian': no such key is pinned; there are"),
        (pinned("a", "arm64") + "  firmware: bios\n", "firmware 'bios': aarch64 boots from uefi"),
    ] {
        let found = problems(&yaml);
        assert!(found.len() == 1 && found[0].1.starts_with(expected), "{found:?}");
    }
}

#[test]
fn the_same_template_twice_is_refused() {
    let found = problems(&(pinned("debian-12", "amd64") + &pinned("debian-12", "x86_64")));
    let expected = "'debian-12' for x86_64 is already on line 1; names must differ for each arch";
    assert_eq!(found, [(6, expected.to_owned())]);
}

#[test]
fn what_is_no_list_of_entries_is_refused_with_its_line() {
    for (yaml, line) in
        [("name: x\n", 1), ("- name: [a]\n", 1), ("- a\n", 1), ("- name: x\n  name: y\n", 2)]
    {
        let found = problems(yaml);
        assert!(found.len() == 1 && found[0].0 == line && !found[0].1.contains('\n'), "{found:?}");
    }
    for empty in ["", "# nothing yet\n", "[]"] {
        assert_eq!(parse(empty), Ok(Vec::new()));
    }
}
