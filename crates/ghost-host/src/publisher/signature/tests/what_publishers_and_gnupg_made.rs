use super::*;

const KEY: &str = include_str!("../../fixtures/gpg/key.asc");
const GPG_LIST: &[u8] = include_bytes!("../../fixtures/gpg/list");
const JUNE: i64 = 1_748_736_000;

fn gnupg(armored: &str) -> PinnedKey {
    PinnedKey::new("gnupg", include_str!("../../fixtures/gpg/fingerprint").trim(), armored).unwrap()
}

fn built_in(name: &str) -> PinnedKey {
    PinnedKey::built_in(name.parse().unwrap()).unwrap()
}

fn november() -> Timestamp {
    "2026-11-23T00:00:00Z".parse().unwrap()
}

#[test]
fn ubuntus_recorded_list_is_proven_by_ubuntus_key() {
    let list = include_bytes!("../../fixtures/ubuntu-24.04.SHA256SUMS");
    let signature = include_bytes!("../../fixtures/ubuntu-24.04.SHA256SUMS.gpg");
    detached(&built_in("ubuntu-cloud-images"), signature, list, november()).unwrap();
    let other = detached(&built_in("rocky-9"), signature, list, november()).unwrap_err();
    let expected = "the list is signed by D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81, not by \
                    'rocky-9' (21CB256AE16FC54C6E652949702D426D350D275D); if the publisher has \
                    a new key, update the agent";
    assert_eq!(other.to_string(), expected);
    for n in [0, list.len() / 2, list.len() - 1] {
        let mut altered = list.to_vec();
        altered[n] ^= 1;
        let error = detached(&built_in("ubuntu-cloud-images"), signature, &altered, november());
        assert!(matches!(error, Err(SignatureError::Altered { .. })), "{n}: {error:?}");
    }
}

#[test]
fn fedoras_recorded_list_is_proven_by_fedoras_key_and_states_its_image() {
    let text = include_bytes!("../../fixtures/fedora-44-aarch64.CHECKSUM");
    let (proven, _) = clearsigned(&built_in("fedora-44"), text, november()).unwrap();
    let file = "Fedora-Cloud-Base-Generic-44-1.7.aarch64.qcow2";
    let found = sums::find(
        proven.as_bytes(),
        ListFormat::Bsd,
        file,
        ghost_core::domain::HashAlgorithm::Sha256,
    )
    .unwrap();
    let expected = "55c60a3b80d3616a08705afd0459e75fe9f03c54aba7a46e4002a41a72fa0d5b";
    assert_eq!(found.hex(), expected);
    let altered = String::from_utf8_lossy(text).replace(expected, &"0".repeat(64));
    let error = clearsigned(&built_in("fedora-44"), altered.as_bytes(), november());
    assert!(matches!(error, Err(SignatureError::Altered { .. })), "{error:?}");
}

#[test]
fn gnupgs_signatures_are_good_armored_and_binary_by_the_key_and_its_subkey() {
    for signature in [
        include_bytes!("../../fixtures/gpg/list.sig").as_slice(),
        include_bytes!("../../fixtures/gpg/list.asc"),
        include_bytes!("../../fixtures/gpg/list.subkey.asc"),
    ] {
        detached(&gnupg(KEY), signature, GPG_LIST, at(JUNE)).unwrap();
    }
}

#[test]
fn gnupgs_clearsigned_text_comes_out_without_its_escapes() {
    let text = include_bytes!("../../fixtures/gpg/list.clear");
    let (proven, _) = clearsigned(&gnupg(KEY), text, at(JUNE)).unwrap();
    let expected = String::from_utf8_lossy(GPG_LIST).into_owned()
        + "- a line that begins with a dash\n-----BEGIN SOMETHING-----";
    assert_eq!(proven, expected);
}

#[test]
fn signatures_with_md5_and_sha1_are_refused() {
    for (signature, hash) in [
        (include_bytes!("../../fixtures/gpg/list.md5.asc").as_slice(), HashAlgorithm::Md5),
        (include_bytes!("../../fixtures/gpg/list.sha1.asc"), HashAlgorithm::Sha1),
    ] {
        let error = detached(&gnupg(KEY), signature, GPG_LIST, at(JUNE)).unwrap_err();
        assert!(matches!(&error, SignatureError::WeakHash { hash: h } if *h == hash), "{error}");
    }
}

#[test]
fn a_signature_made_after_its_key_expired_is_refused_whatever_the_clock_says() {
    let expired = gnupg(include_str!("../../fixtures/gpg/key.expired.asc"));
    for now in [JUNE, JUNE + 100_000_000] {
        for signature in [
            include_bytes!("../../fixtures/gpg/list.sig").as_slice(),
            include_bytes!("../../fixtures/gpg/list.subkey.asc"),
        ] {
            let error = detached(&expired, signature, GPG_LIST, at(now)).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the signature is of 2025-06-01T00:00:00Z, when its key was not valid (from \
                 2025-01-01T00:00:00Z to 2025-02-01T00:00:00Z)"
            );
        }
    }
}

#[test]
fn a_signature_that_expires_is_good_until_then() {
    let signature = include_bytes!("../../fixtures/gpg/list.expiring.asc");
    let day = |text: &str| text.parse::<Timestamp>().unwrap();
    detached(&gnupg(KEY), signature, GPG_LIST, day("2025-07-31T23:59:59Z")).unwrap();
    let late = detached(&gnupg(KEY), signature, GPG_LIST, day("2025-08-01T00:00:00Z"));
    assert!(matches!(late, Err(SignatureError::Expired { .. })), "{late:?}");
}

#[test]
fn no_damage_of_a_signature_makes_another_list_good() {
    let key = gnupg(KEY);
    let signature = include_bytes!("../../fixtures/gpg/list.sig");
    for n in (0..signature.len()).step_by(3) {
        for bit in [0x01, 0x80] {
            let mut damaged = signature.to_vec();
            damaged[n] ^= bit;
            assert!(detached(&key, &damaged, b"another list", at(JUNE)).is_err(), "{n}");
        }
    }
}
