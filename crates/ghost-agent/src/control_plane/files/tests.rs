use super::*;
use crate::control_plane::tests::authority::{Authority, NOW};

fn issued(authority: &Authority) -> Issued {
    let (cert, key) = authority.signs(vec![], NOW);
    Issued { key: key.serialize_pem(), chain: vec![cert] }
}

fn leftovers(files: &TlsFiles) -> usize {
    fs::read_dir(folder(&files.cert)).unwrap().count() - 3
}

/// Which pair is in its place.
fn key_of(files: &TlsFiles) -> String {
    assert!(fits(&files.key, &files.cert));
    fs::read_to_string(&files.key).unwrap()
}

type Step = fn(&TlsFiles, &Issued) -> io::Result<()>;

/// The steps of [`replace`], in their order.
const STEPS: [Step; 4] = [
    stage_key,
    stage_cert,
    |files, _| switch_key(files),
    |files, _| rename(&beside(&files.cert), &files.cert),
];

#[test]
fn a_crash_between_any_two_steps_leaves_one_whole_pair() {
    for (steps, expected) in [
        (0, Recovered::Nothing),
        (1, Recovered::Removed),
        (2, Recovered::Finished),
        (3, Recovered::Finished),
        (4, Recovered::Nothing),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let files = authority.equips(dir.path(), NOW);
        let (old, new) = (key_of(&files), issued(&authority));
        for step in &STEPS[..steps] {
            step(&files, &new).unwrap();
        }
        assert_eq!(recover(&files).unwrap(), expected, "after {steps} steps");
        let is_new = steps >= 2;
        assert_eq!(key_of(&files), if is_new { new.key } else { old }, "after {steps} steps");
        assert_eq!(leftovers(&files), 0);
        assert_eq!(recover(&files).unwrap(), Recovered::Nothing);
    }
}

#[test]
fn the_steps_are_those_of_a_replacement() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let authority = Authority::new();
    let new = issued(&authority);
    let [by_steps, at_once] = dirs.each_ref().map(|dir| authority.equips(dir.path(), NOW));
    STEPS.iter().for_each(|step| step(&by_steps, &new).unwrap());
    replace(&at_once, &new).unwrap();
    assert_eq!(fs::read(&by_steps.cert).unwrap(), fs::read(&at_once.cert).unwrap());
    assert_eq!((key_of(&by_steps), leftovers(&by_steps)), (key_of(&at_once), leftovers(&at_once)));
}

#[test]
fn what_was_cut_off_by_something_else_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let files = Authority::new().equips(dir.path(), NOW);
    let old = key_of(&files);
    fs::write(beside(&files.cert), "half a certifi").unwrap();
    assert_eq!(recover(&files).unwrap(), Recovered::Removed);
    assert_eq!((key_of(&files), leftovers(&files)), (old, 0));
}

#[test]
fn the_first_pair_needs_no_former_one() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.equips(dir.path(), NOW);
    fs::remove_file(&files.key).unwrap();
    fs::remove_file(&files.cert).unwrap();
    let new = issued(&authority);
    stage_key(&files, &new).unwrap();
    stage_cert(&files, &new).unwrap();
    assert_eq!(recover(&files).unwrap(), Recovered::Finished);
    assert_eq!(key_of(&files), new.key);
}

#[test]
fn pem_is_as_others_read_it() {
    let der = Authority::new().der();
    let text = pem("CERTIFICATE", &der);
    assert!(text.lines().all(|line| line.len() <= 64));
    assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).unwrap(), der);
}
