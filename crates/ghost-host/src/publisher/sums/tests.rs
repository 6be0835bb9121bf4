use proptest::prelude::*;

use super::*;

use HashAlgorithm::{Sha256, Sha512};
use ListFormat::{Bsd, Gnu, Single};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn hex(list: &str, format: ListFormat, file: &str, algorithm: HashAlgorithm) -> String {
    find(list.as_bytes(), format, file, algorithm).unwrap().hex().to_owned()
}

fn refused(list: &str, format: ListFormat, file: &str) -> SumsError {
    find(list.as_bytes(), format, file, Sha256).unwrap_err()
}

#[test]
fn ubuntus_recorded_list_states_its_images() {
    let list = include_str!("../fixtures/ubuntu-24.04.SHA256SUMS");
    for (file, expected) in [
        (
            "ubuntu-24.04-server-cloudimg-amd64.img",
            "d1940f7d69d343355e183dff1e08a59852d32e7309baa7a4bad8365b11b005ac",
        ),
        (
            "ubuntu-24.04-server-cloudimg-arm64.img",
            "2eaec7286c49fdea713dddabcf5012cafa7097a658e916acb48f4bc5fdc8e419",
        ),
    ] {
        assert_eq!(hex(list, Gnu, file, Sha256), expected, "{file}");
    }
}

#[test]
fn fedoras_recorded_list_states_its_image() {
    let list = include_str!("../fixtures/fedora-44-aarch64.CHECKSUM");
    let found = hex(list, Bsd, "Fedora-Cloud-Base-Generic-44-1.7.aarch64.qcow2", Sha256);
    assert_eq!(found, "55c60a3b80d3616a08705afd0459e75fe9f03c54aba7a46e4002a41a72fa0d5b");
}

#[test]
fn the_lines_that_others_quote_of_rocky_state_its_image() {
    let list = include_str!("../fixtures/rocky-9.CHECKSUM");
    let found = hex(list, Bsd, "Rocky-9-GenericCloud-Base.latest.x86_64.qcow2", Sha256);
    assert_eq!(found, "92c206cc6f790c61583247eefe87890f8828420662c17cacf247cec78ab4eec8");
}

#[test]
fn the_lines_that_others_quote_of_almalinux_state_its_image() {
    let list = include_str!("../fixtures/almalinux-9.CHECKSUM");
    let found = hex(list, Gnu, "AlmaLinux-9-GenericCloud-latest.x86_64.qcow2", Sha256);
    assert_eq!(found, "5ff9c048859046f41db4a33b1f1a96675711288078aac66b47d0be023af270d1");
}

#[test]
fn the_line_that_others_quote_of_debian_states_its_image() {
    let list = include_str!("../fixtures/debian-12.SHA512SUMS");
    let found = hex(list, Gnu, "debian-12-generic-amd64.qcow2", Sha512);
    assert!(found.starts_with("4586d96ba3604c05") && found.len() == 128, "{found}");
}

#[test]
fn both_marks_of_gnu_and_a_dot_before_the_name_are_read() {
    let list = format!("# sums\n{A}  x\n{B} *y\r\n\n{}  ./z\n", A.to_uppercase());
    assert_eq!(hex(&list, Gnu, "x", Sha256), A);
    assert_eq!(hex(&list, Gnu, "y", Sha256), B);
    assert_eq!(hex(&list, Gnu, "z", Sha256), A);
}

#[test]
fn bsds_lines_of_other_algorithms_are_passed_over() {
    let list = format!("MD5 (x) = 00\nSHA512 (x) = {A}{B}\nSHA256 (x) = {A}\n");
    assert_eq!(hex(&list, Bsd, "x", Sha256), A);
    assert_eq!(hex(&list, Bsd, "x", Sha512), format!("{A}{B}"));
}

#[test]
fn a_list_for_one_file_is_a_hash_or_one_line() {
    for list in [
        format!("{A}\n"),
        A.to_owned(),
        format!("{A}  some-dated-name\n"),
        format!("# some-dated-name: 5 bytes\nSHA256 (some-dated-name) = {A}\n"),
    ] {
        assert_eq!(hex(&list, Single, "x", Sha256), A, "{list}");
    }
    let two = format!("{A}  x\n{B}  y\n");
    assert_eq!(refused(&two, Single, "x"), SumsError::Several { count: 2 });
}

#[test]
fn a_list_that_lacks_the_file_names_what_it_has() {
    let list: String = (0..7).map(|n| format!("{A}  file{n}\n")).collect();
    let text = refused(&list, Gnu, "file").to_string();
    let expected = "the list does not name 'file'; it names 'file0', 'file1', 'file2', 'file3', \
                    'file4' and 2 more";
    assert_eq!(text, expected);
}

#[test]
fn part_of_a_name_is_not_the_name() {
    let list = format!("{A}  x.qcow2.old\n{A}  old-x.qcow2\n{A}  dir/x.qcow2\n{A}  X.qcow2\n");
    assert!(matches!(refused(&list, Gnu, "x.qcow2"), SumsError::Lacks { .. }));
}

#[test]
fn two_hashes_of_one_file_are_refused_and_the_same_twice_is_not() {
    for (format, list) in [
        (Gnu, format!("{A}  x\n{B}  x\n")),
        (Gnu, format!("{A}  x\n{B} *./x\n")),
        (Bsd, format!("SHA256 (x) = {A}\nSHA256 (x) = {B}\n")),
    ] {
        assert_eq!(refused(&list, format, "x"), SumsError::Conflict { file: "x".into() });
    }
    assert_eq!(hex(&format!("{A}  x\n{A} *x\n"), Gnu, "x", Sha256), A);
}

#[test]
fn what_is_no_hash_is_refused() {
    let no_hash = SumsError::NoHash { file: "x".into(), algorithm: Sha256 };
    for hash in [&A[1..], &format!("{A}0"), &format!("{A}{B}")] {
        assert_eq!(refused(&format!("{hash}  x\n"), Gnu, "x"), no_hash, "{hash}");
        assert_eq!(refused(&format!("SHA256 (x) = {hash}\n"), Bsd, "x"), no_hash, "{hash}");
        assert_eq!(refused(hash, Single, "x"), no_hash, "{hash}");
    }
    let no_digits = format!("SHA256 (x) = {}\n", "g".repeat(64));
    assert_eq!(refused(&no_digits, Bsd, "x"), no_hash);
}

#[test]
fn an_error_page_is_not_taken_for_a_list() {
    let page = "<html><body>404 not found</body></html>\ngone  x\n";
    for format in [Gnu, Bsd, Single] {
        assert!(matches!(refused(page, format, "x"), SumsError::NoChecksums { .. }), "{format:?}");
        assert!(matches!(refused("", format, "x"), SumsError::NoChecksums { .. }), "{format:?}");
    }
    let text = refused(page, Bsd, "x").to_string();
    assert!(text.starts_with("no line of the list states a SHA256 as expected (SHA256 (FILE) = "));
}

#[test]
fn a_list_of_the_other_format_is_refused() {
    let gnu_list = format!("{A}  x\n");
    assert!(matches!(refused(&gnu_list, Bsd, "x"), SumsError::NoChecksums { .. }));
    let bsd_list = format!("SHA256 (x) = {A}\n");
    assert!(matches!(refused(&bsd_list, Gnu, "x"), SumsError::NoChecksums { .. }));
}

#[test]
fn a_list_that_is_too_large_or_no_text_is_refused() {
    let line = format!("{A}  x\n");
    let mut list = line.clone() + &"#".repeat(LARGEST_LIST - line.len());
    assert_eq!(hex(&list, Gnu, "x", Sha256), A);
    list.push('#');
    assert_eq!(refused(&list, Gnu, "x"), SumsError::TooLarge { size: LARGEST_LIST + 1 });
    let no_text = [line.as_bytes(), &[0xff]].concat();
    assert_eq!(find(&no_text, Gnu, "x", Sha256), Err(SumsError::NotText));
}

prop_compose! {
    fn entry()(file in "[a-zA-Z0-9._-]{1,20}", hash in "[0-9a-f]{64}", mark in "[ *]") -> (String, String, String) {
        (file, hash, mark)
    }
}

proptest! {
    #[test]
    fn whatever_is_listed_once_is_found(entries in prop::collection::vec(entry(), 1..20)) {
        let mut entries = entries;
        entries.sort();
        entries.dedup_by(|a, b| a.0 == b.0);
        let gnu_list: String = entries.iter().map(|(f, h, m)| format!("{h} {m}{f}\n")).collect();
        let bsd_list: String = entries.iter().map(|(f, h, _)| format!("SHA256 ({f}) = {h}\n")).collect();
        for (file, hash, _) in &entries {
            prop_assert_eq!(&hex(&gnu_list, Gnu, file, Sha256), hash);
            prop_assert_eq!(&hex(&bsd_list, Bsd, file, Sha256), hash);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_no_hash_is_made_up(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for format in [Gnu, Bsd, Single] {
            if let Ok(found) = find(&bytes, format, "x", Sha256) {
                let text = String::from_utf8_lossy(&bytes).to_lowercase();
                prop_assert!(text.contains(found.hex()));
            }
        }
    }

    #[test]
    fn no_text_around_hashes_makes_it_panic(text in "([0-9a-f]{60,68}|SHA256|[ *()=#\\\\./x\n]){0,30}") {
        for format in [Gnu, Bsd, Single] {
            if let Ok(found) = find(text.as_bytes(), format, "x", Sha256) {
                prop_assert!(text.contains(found.hex()));
            }
        }
    }
}
