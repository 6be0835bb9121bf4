use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, DetachedSignature, KeyType, SecretKeyParamsBuilder,
    SignedSecretKey, SubkeyParamsBuilder, SubpacketConfig,
};
use pgp::packet::{Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{Duration, Password, SigningKey};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::super::sums;
use super::*;
use ghost_core::domain::ListFormat;

const LIST: &[u8] = b"0042  debian-12.qcow2\n";
const CREATED: i64 = 1_735_689_600;
const NOW: i64 = CREATED + 1000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn pgp_time(seconds: i64) -> pgp::types::Timestamp {
    pgp::types::Timestamp::from_secs(u32::try_from(seconds).unwrap())
}

/// A key that may sign, with a subkey that may too.
fn secret(seed: u64) -> SignedSecretKey {
    let subkey = SubkeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_sign(true)
        .created_at(pgp_time(CREATED))
        .build()
        .unwrap();
    SecretKeyParamsBuilder::default()
        .key_type(KeyType::Ed25519Legacy)
        .can_certify(true)
        .can_sign(true)
        .created_at(pgp_time(CREATED))
        .primary_user_id("Test <test@example.invalid>".into())
        .subkey(subkey)
        .build()
        .unwrap()
        .generate(StdRng::seed_from_u64(seed))
        .unwrap()
}

fn pinned(secret: &SignedSecretKey) -> PinnedKey {
    let public = secret.to_public_key();
    let armored = public.to_armored_string(ArmorOptions::default()).unwrap();
    PinnedKey::new("test", &format!("{:X}", public.fingerprint()), &armored).unwrap()
}

fn signed_with(key: &impl SigningKey, made: i64, more: Vec<Subpacket>, data: &[u8]) -> Vec<u8> {
    let mut hashed = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(pgp_time(made))).unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint())).unwrap(),
    ];
    hashed.extend(more);
    DetachedSignature::sign_binary_data_with_subpackets(
        StdRng::seed_from_u64(1),
        key,
        &Password::empty(),
        HashAlgorithm::Sha256,
        data,
        SubpacketConfig::UserDefined { hashed, unhashed: Vec::new() },
    )
    .unwrap()
    .to_bytes()
    .unwrap()
}

fn signed(secret: &SignedSecretKey) -> Vec<u8> {
    signed_with(&secret.primary_key, NOW, Vec::new(), LIST)
}

fn clear(secret: &SignedSecretKey, text: &str) -> String {
    let mut config = pgp::packet::SignatureConfig::from_key(
        StdRng::seed_from_u64(1),
        &secret.primary_key,
        SignatureType::Text,
    )
    .unwrap();
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(pgp_time(NOW))).unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(secret.fingerprint())).unwrap(),
    ];
    CleartextSignedMessage::new(text, config, &secret.primary_key, &Password::empty())
        .unwrap()
        .to_armored_string(ArmorOptions::default())
        .unwrap()
}

mod what_publishers_and_gnupg_made;

#[test]
fn the_key_and_its_signing_subkey_prove_a_list() {
    let secret = secret(1);
    let key = pinned(&secret);
    detached(&key, &signed(&secret), LIST, at(NOW)).unwrap();
    let subkey = &secret.secret_subkeys[0].key;
    detached(&key, &signed_with(subkey, NOW, Vec::new(), LIST), LIST, at(NOW)).unwrap();
}

#[test]
fn another_key_is_refused_even_if_it_claims_to_be_the_pinned_one() {
    let (mine, other) = (secret(1), secret(2));
    let error = detached(&pinned(&mine), &signed(&other), LIST, at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::OtherKey { .. }), "{error}");
    let claim = SubpacketData::IssuerFingerprint(mine.fingerprint());
    let forged = DetachedSignature::sign_binary_data_with_subpackets(
        StdRng::seed_from_u64(1),
        &other.primary_key,
        &Password::empty(),
        HashAlgorithm::Sha256,
        LIST,
        SubpacketConfig::UserDefined {
            hashed: vec![
                Subpacket::regular(SubpacketData::SignatureCreationTime(pgp_time(NOW))).unwrap(),
                Subpacket::regular(claim).unwrap(),
            ],
            unhashed: Vec::new(),
        },
    );
    let error =
        detached(&pinned(&mine), &forged.unwrap().to_bytes().unwrap(), LIST, at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::Altered { .. }), "{error}");
}

/// A binding of the subkey for signing, without the subkey's own word; or its revocation.
fn over_subkey(secret: &SignedSecretKey, typ: SignatureType) -> Signature {
    let public = secret.to_public_key();
    let mut flags = pgp::packet::KeyFlags::default();
    flags.set_sign(true);
    let hashed = [
        SubpacketData::KeyFlags(flags),
        SubpacketData::SignatureCreationTime(pgp_time(CREATED)),
        SubpacketData::IssuerFingerprint(secret.fingerprint()),
    ];
    let mut config = public.public_subkeys[0].signatures[0].config().unwrap().clone();
    config.typ = typ;
    config.hashed_subpackets =
        hashed.into_iter().map(|data| Subpacket::regular(data).unwrap()).collect();
    let primary = &secret.primary_key;
    let subkey = &public.public_subkeys[0].key;
    config.sign_subkey_binding(primary, primary.public_key(), &Password::empty(), subkey).unwrap()
}

fn repinned(public: &pgp::composed::SignedPublicKey) -> Result<PinnedKey, super::super::KeyError> {
    let armored = public.to_armored_string(ArmorOptions::default()).unwrap();
    PinnedKey::new("test", &format!("{:X}", public.fingerprint()), &armored)
}

#[test]
fn a_subkey_that_the_key_took_back_or_that_did_not_agree_signs_nothing() {
    let secret = secret(1);
    let signature = signed_with(&secret.secret_subkeys[0].key, NOW, Vec::new(), LIST);
    let good = secret.to_public_key();
    detached(&repinned(&good).unwrap(), &signature, LIST, at(NOW)).unwrap();

    let mut unagreed = good.clone();
    unagreed.public_subkeys[0].signatures =
        vec![over_subkey(&secret, SignatureType::SubkeyBinding)];
    let mut revoked = good;
    revoked.public_subkeys[0]
        .signatures
        .push(over_subkey(&secret, SignatureType::SubkeyRevocation));
    for public in [unagreed, revoked] {
        let error = detached(&repinned(&public).unwrap(), &signature, LIST, at(NOW)).unwrap_err();
        assert!(matches!(error, SignatureError::OtherKey { .. }), "{error}");
    }
}

/// What the key says of itself: valid for so many seconds, 0 for ever.
fn own_word(secret: &SignedSecretKey, made: i64, valid: u32) -> Signature {
    let public = secret.to_public_key();
    let user = &public.details.users[0];
    let hashed = [
        SubpacketData::SignatureCreationTime(pgp_time(made)),
        SubpacketData::IssuerFingerprint(secret.fingerprint()),
        SubpacketData::KeyExpirationTime(Duration::from_secs(valid)),
    ];
    let mut config = user.signatures[0].config().unwrap().clone();
    config.hashed_subpackets =
        hashed.into_iter().map(|data| Subpacket::regular(data).unwrap()).collect();
    let primary = &secret.primary_key;
    config
        .sign_certification(
            primary,
            primary.public_key(),
            &Password::empty(),
            pgp::types::Tag::UserId,
            &user.id,
        )
        .unwrap()
}

#[test]
fn the_newest_word_of_a_key_says_how_long_it_is_valid() {
    let secret = secret(1);
    let signature = signed(&secret);
    let (short, long) = (own_word(&secret, CREATED + 1, 10), own_word(&secret, CREATED + 2, 0));
    let mut public = secret.to_public_key();
    for words in [vec![short.clone(), long.clone()], vec![long, short]] {
        public.details.users[0].signatures = words;
        detached(&repinned(&public).unwrap(), &signature, LIST, at(NOW)).unwrap();
    }
    let (long, short) = (own_word(&secret, CREATED + 1, 0), own_word(&secret, CREATED + 2, 10));
    public.details.users[0].signatures = vec![short, long];
    let error = detached(&repinned(&public).unwrap(), &signature, LIST, at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::KeyExpired { .. }), "{error}");
}

#[test]
fn a_key_that_its_owner_revoked_cannot_be_pinned() {
    let secret = secret(1);
    let mut public = secret.to_public_key();
    let mut config =
        over_subkey(&secret, SignatureType::SubkeyRevocation).config().unwrap().clone();
    config.typ = SignatureType::KeyRevocation;
    let primary = &secret.primary_key;
    let revocation = config.sign_key(primary, &Password::empty(), primary.public_key()).unwrap();
    public.details.revocation_signatures = vec![revocation];
    let error = repinned(&public).unwrap_err();
    assert_eq!(error.to_string(), "the key 'test' has been revoked by its owner");
}

#[test]
fn an_altered_list_is_refused_wherever_it_was_altered() {
    let secret = secret(1);
    let (key, signature) = (pinned(&secret), signed(&secret));
    for n in 0..LIST.len() {
        let mut altered = LIST.to_vec();
        altered[n] ^= 0x20;
        let error = detached(&key, &signature, &altered, at(NOW)).unwrap_err();
        assert!(matches!(error, SignatureError::Altered { .. }), "{n}: {error}");
    }
    for other in [&b""[..], &LIST[1..], b"0042  debian-12.qcow2\n\n"] {
        assert!(detached(&key, &signature, other, at(NOW)).is_err());
    }
}

#[test]
fn one_good_signature_among_others_is_enough_and_none_is_not() {
    let (mine, other) = (secret(1), secret(2));
    let both = [signed(&other), signed(&mine)].concat();
    detached(&pinned(&mine), &both, LIST, at(NOW)).unwrap();
    detached(&pinned(&other), &both, LIST, at(NOW)).unwrap();
    let third = detached(&pinned(&secret(3)), &both, LIST, at(NOW)).unwrap_err();
    assert!(matches!(third, SignatureError::OtherKey { .. }), "{third}");
    let altered = detached(&pinned(&mine), &both, b"else", at(NOW)).unwrap_err();
    assert!(matches!(altered, SignatureError::Altered { .. }), "{altered}");
}

#[test]
fn it_is_said_when_a_list_was_signed_and_the_newest_good_signature_says_it() {
    let (mine, other) = (secret(1), secret(2));
    let by =
        |secret: &SignedSecretKey, made| signed_with(&secret.primary_key, made, Vec::new(), LIST);
    let key = pinned(&mine);
    let (old, new, foreign) = (by(&mine, NOW - 9), by(&mine, NOW - 2), by(&other, NOW - 1));
    assert_eq!(detached(&key, &old, LIST, at(NOW)).unwrap(), at(NOW - 9));
    for several in [[&old, &new, &foreign], [&foreign, &new, &old]] {
        let several: Vec<u8> = several.into_iter().flatten().copied().collect();
        assert_eq!(detached(&key, &several, LIST, at(NOW)).unwrap(), at(NOW - 2));
    }
    let text = clear(&mine, "a 1");
    assert_eq!(clearsigned(&key, text.as_bytes(), at(NOW + 50)).unwrap().1, at(NOW));
}

#[test]
fn a_signature_of_the_future_names_the_clock() {
    let secret = secret(1);
    let (key, signature) = (pinned(&secret), signed(&secret));
    detached(&key, &signature, LIST, at(NOW - AHEAD_SECONDS)).unwrap();
    let error = detached(&key, &signature, LIST, at(NOW - AHEAD_SECONDS - 1)).unwrap_err();
    assert!(error.to_string().ends_with("set this host's clock"), "{error}");
    assert!(matches!(error, SignatureError::Future { .. }), "{error}");
}

#[test]
fn a_signature_older_than_its_key_is_refused() {
    let secret = secret(1);
    let older = signed_with(&secret.primary_key, CREATED - 1, Vec::new(), LIST);
    let error = detached(&pinned(&secret), &older, LIST, at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::KeyExpired { .. }), "{error}");
}

#[test]
fn a_condition_that_is_not_understood_makes_a_signature_void_if_it_is_critical() {
    let secret = secret(1);
    let key = pinned(&secret);
    let data = || SubpacketData::Experimental(101, vec![1].into());
    let critical = vec![Subpacket::critical(data()).unwrap()];
    let signature = signed_with(&secret.primary_key, NOW, critical, LIST);
    let error = detached(&key, &signature, LIST, at(NOW)).unwrap_err();
    assert!(matches!(error, SignatureError::Unsupported { .. }), "{error}");
    let regular = vec![Subpacket::regular(data()).unwrap()];
    let signature = signed_with(&secret.primary_key, NOW, regular, LIST);
    detached(&key, &signature, LIST, at(NOW)).unwrap();
}

#[test]
fn a_signature_with_an_end_of_its_own_holds_until_then() {
    let secret = secret(1);
    let end = SubpacketData::SignatureExpirationTime(Duration::from_secs(10));
    let more = vec![Subpacket::regular(end).unwrap()];
    let signature = signed_with(&secret.primary_key, NOW, more, LIST);
    let key = pinned(&secret);
    detached(&key, &signature, LIST, at(NOW + 9)).unwrap();
    let error = detached(&key, &signature, LIST, at(NOW + 10)).unwrap_err();
    assert!(matches!(error, SignatureError::Expired { .. }), "{error}");
}

#[test]
fn what_is_no_signature_is_refused() {
    let key = pinned(&secret(1));
    let page = b"<html><body>404</body></html>".as_slice();
    let empty = b"-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n".as_slice();
    let public = include_bytes!("../keys/rocky-9.asc").as_slice();
    let cut = signed(&secret(1));
    for garbage in [page, empty, public, b"\x88", &[0xff; 300], &cut[..cut.len() - 3]] {
        let error = detached(&key, garbage, LIST, at(NOW)).unwrap_err();
        let right = matches!(error, SignatureError::Garbled { .. } | SignatureError::Missing);
        assert!(right, "{error:?}");
    }
    for nothing in [&b""[..], b"\n \n"] {
        let error = detached(&key, nothing, LIST, at(NOW)).unwrap_err();
        assert!(matches!(error, SignatureError::Missing), "{error:?}");
    }
    let large = vec![b'x'; LARGEST + 1];
    for error in [
        detached(&key, &large, LIST, at(NOW)).unwrap_err(),
        clearsigned(&key, &large, at(NOW)).unwrap_err(),
    ] {
        assert!(matches!(error, SignatureError::TooLarge { .. }), "{error:?}");
    }
}

#[test]
fn a_clearsigned_text_comes_out_as_it_was_signed() {
    let secret = secret(1);
    for text in ["a  b\n- c\n-----BEGIN\nFrom d", "one line", "a\n\n\nb"] {
        let signed = clear(&secret, text);
        assert_eq!(clearsigned(&pinned(&secret), signed.as_bytes(), at(NOW)).unwrap().0, text);
        let crlf = signed.replace('\n', "\r\n");
        assert_eq!(clearsigned(&pinned(&secret), crlf.as_bytes(), at(NOW)).unwrap().0, text);
    }
}

#[test]
fn blanks_at_a_line_end_are_not_signed_and_do_not_come_out() {
    let secret = secret(1);
    let padded = clear(&secret, "a 1\nb 2").replace("a 1\n", "a 1 \t\n");
    assert_eq!(clearsigned(&pinned(&secret), padded.as_bytes(), at(NOW)).unwrap().0, "a 1\nb 2");
}

#[test]
fn text_around_the_signed_part_is_refused() {
    let secret = secret(1);
    let (key, signed) = (pinned(&secret), clear(&secret, "SHA256 (a) = 1"));
    let around = |text: String| clearsigned(&key, text.as_bytes(), at(NOW)).unwrap_err();
    for text in [
        format!("SHA256 (b) = 2\n{signed}"),
        format!("{signed}SHA256 (b) = 2\n"),
        format!("SHA256 (b) = 2\n{signed}{signed}"),
    ] {
        let error = around(text);
        assert!(matches!(error, SignatureError::Outside), "{error:?}");
    }
    for text in [
        signed.clone() + &signed,
        signed.replacen("Hash: SHA256\n", "Hash: SHA256\nSHA256 (b) = 2\n", 1),
        signed.replacen("Hash: SHA256\n", "Hash: SHA256\nb: 2\n", 1),
        signed.replacen("\n-----BEGIN PGP SIG", "\n-----BEGIN X-----\n-----BEGIN PGP SIG", 1),
    ] {
        let error = around(text);
        assert!(matches!(error, SignatureError::Garbled { .. }), "{error:?}");
    }
    let kept = clearsigned(&key, format!("\n{signed}\n\n").as_bytes(), at(NOW)).unwrap();
    assert_eq!(kept.0, "SHA256 (a) = 1");
}

#[test]
fn an_altered_clearsigned_text_is_refused() {
    let secret = secret(1);
    let (key, signed) = (pinned(&secret), clear(&secret, "SHA256 (a) = 1\nx"));
    for (from, to) in [("= 1", "= 2"), ("\nx", "\nx\ny"), ("\nx", ""), ("SHA256 (", "SHA256  (")] {
        let altered = signed.replacen(from, to, 1);
        assert_ne!(altered, signed);
        let error = clearsigned(&key, altered.as_bytes(), at(NOW)).unwrap_err();
        assert!(matches!(error, SignatureError::Altered { .. }), "{from} {to}: {error:?}");
    }
    let other = clearsigned(&pinned(&self::secret(2)), signed.as_bytes(), at(NOW)).unwrap_err();
    assert!(matches!(other, SignatureError::OtherKey { .. }), "{other:?}");
}

#[test]
fn a_list_without_any_signature_is_refused() {
    let key = pinned(&secret(1));
    for text in ["SHA256 (a) = 1\n", "", "<html></html>"] {
        let error = clearsigned(&key, text.as_bytes(), at(NOW)).unwrap_err();
        assert!(matches!(error, SignatureError::Missing), "{error:?}");
    }
    let begun = format!("{BEGIN}\nHash: SHA256\n\nSHA256 (a) = 1\n");
    for text in [begun.as_bytes(), &[BEGIN.as_bytes(), END.as_bytes(), &[0xff]].concat()] {
        let error = clearsigned(&key, text, at(NOW)).unwrap_err();
        assert!(matches!(error, SignatureError::Garbled { .. }), "{error:?}");
    }
}
