use proptest::prelude::*;

use super::*;

const SECRET: &str = "hunter2-Zq9";

fn scrub(text: &str) -> String {
    Scrubber::default().scrub(text).0
}

#[test]
fn a_secret_is_taken_out_of_every_document_that_may_hold_one() {
    for text in [
        "url: https://user:SECRET@host:8443/path",
        "url: https://user:SEC/RET@SECRET@host",
        "https://host/path?sig=SECRET&x=1",
        "https://host/#access_token=SECRET",
        "qemu+ssh://u:SECRET@host/system, or so",
        "curl root:SECRET@10.0.0.1",
        "Authorization: Basic SECRET",
        "authorization: bearer SECRET\n",
        "got Bearer SECRET from him",
        "{\"header\":\"Bearer SECRET\",\"level\":\"info\"}",
        "GHOST_API_KEY=SECRET",
        "export GHOST_API_KEY='SECRET'",
        "password: SECRET",
        "db_pass=SECRET",
        "SSHPASS=SECRET ssh host",
        "auth=SECRET",
        "jwt: SECRET",
        "session_id=SECRET",
        "connection_string=\"Server=db;Uid=SECRET\"",
        "password: correct horse SECRET",
        "password: \"a\\\"SECRET\" # mine",
        "password: 'it''s SECRET'",
        "db_password=\"x\"SECRET",
        "passwords: [a, \"]\", SECRET]",
        "password: |\n  one\n  SECRET\nnext: x",
        "password:\n\n  SECRET",
        "chpasswd:\n- root:SECRET\n- b:SECRET",
        "  - secret: >-\n      a\n      SECRET\n",
        "{\"a\":{\"apiKey\":\"SECRET\"},\"b\":1}",
        "{\"message\":\"login with password=SECRET failed\",\"level\":\"info\"}",
        "{\"message\":\"{\\\"token\\\":\\\"SECRET\\\"}\"}",
        "{\"token\":{\"a\":[\"SECRET\"]}}",
        "<password>SECRET</password>",
        "<ghost:secret>SECRET</ghost:secret>",
        "<graphics type='vnc' passwd='SECRET'/>",
        "tool --password SECRET --verbose",
        "tool --api-key=SECRET",
        "headers[\"Cookie\"] = SECRET",
        "root $6$salt$SECRETSECRET x",
        "tskey-auth-SECRET",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n-----END OPENSSH PRIVATE KEY-----",
        "{\"m\":\"-----BEGIN RSA PRIVATE KEY-----\\nSECRET\\n-----END RSA PRIVATE KEY-----\"}",
        "{\"m\":\"-----BEGIN PRIVATE KEY-----\"}\n{\"m\":\"SECRET\"}\n{\"m\":\"-----END PRIVATE KEY-----\"}",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nSECRET",
        "SECRET\n-----END EC PRIVATE KEY-----\nafter",
        "-----BEGIN PRIVATE KEY",
        "user_data: |\n  #!/bin/sh\n  echo SECRET",
        "#cloud-config\nusers:\n- name: SECRET\n",
        "{\"x\":\"#cloud-config\\nusers: [SECRET]\",\"y\":\"z\"}",
        "{\"error\":\"no lease\",\"facts\":\"vm_id=1, console=login SECRET\\nmore SECRET\"}",
    ] {
        let text = text.replace("SECRET", SECRET);
        let clean = scrub(&text);
        assert!(!clean.contains(SECRET) && clean.contains(MARK), "{text}\n{clean}");
    }
}

#[test]
fn what_is_needed_to_understand_a_fault_stays() {
    for text in [
        "grpc:\n  tls_key: /etc/ghost/certs/agent.key  # default\n",
        "libvirt:\n  uri: \"qemu:///system\"\n",
        "allowed_clients: [\"spiffe://ghost/operator\"]\n",
        "api_url: https://api.example.org:8443/v1\n",
        "{\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"level\":\"info\",\"request_id\":\"abc\",\"took\":\"1ms\"}\n",
        "ghost_agent::grpc::token::parse failed at 12:30:01\n",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@home\n",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "1 2 3: eth0 mtu 1500\n<console type='pty'><target/></console> x <",
        "unix:///run/ghost/agent.sock and git@github.com:org/repo\n",
    ] {
        assert_eq!(scrub(text), text);
    }
}

#[test]
fn what_stands_beside_a_secret_stays() {
    let line = format!("{{\"a\":\"b\",\"token\":\"{SECRET}\",\"c\":\"d\"}}\nnext: 1\n");
    assert_eq!(
        scrub(&line),
        format!("{{\"a\":\"b\",\"token\":\"{MARK}\",\"c\":\"d\"}}\nnext: 1\n")
    );
    let url = scrub(&format!("from https://me:{SECRET}@host/x?sig={SECRET} came\n"));
    assert_eq!(url, format!("from https://{MARK}@host/x?{MARK} came\n"));
    let list = scrub(&format!("- password: {SECRET}\n- name: x\n"));
    assert_eq!(list, format!("- password: {MARK}\n- name: x\n"));
}

#[test]
fn a_secret_that_is_known_is_found_in_every_spelling() {
    let secret = "a\"b\\c<d>&'e/f+g";
    let scrubber = Scrubber::knowing([secret, "abc"]);
    for spelled in [
        secret.to_owned(),
        "a\\\"b\\\\c<d>&'e/f+g".to_owned(),
        "a&quot;b\\c&lt;d&gt;&amp;&apos;e/f+g".to_owned(),
        "a%22b%5Cc%3Cd%3E%26%27e%2Ff%2Bg".to_owned(),
    ] {
        assert_eq!(scrubber.scrub(&format!("x{spelled}y abc")).0, format!("x{MARK}y abc"));
    }
    assert!(!format!("{scrubber:?}").contains("a\""));
}

#[test]
fn a_text_commands_no_terminal() {
    assert_eq!(scrub("a\u{1b}[2Jb\rc\r\nd\u{202e}e\u{9b}\u{7}\tf"), "a�[2Jb�c\nd�e��\tf");
}

#[test]
fn a_long_text_is_cut_at_lines_and_says_so() {
    let text = Scrubber::default().scrub("one\ntwo\nthree\n");
    assert_eq!(text.clone().beginning(9).0, "one\ntwo\n[7 further bytes are left out]\n");
    assert_eq!(text.clone().end(9).0, "[8 bytes before this are left out]\nthree\n");
    assert_eq!((text.clone().end(14), text.clone().beginning(14)), (text.clone(), text));
}

#[test]
fn a_megabyte_of_traps_takes_no_time() {
    let began = std::time::Instant::now();
    for trap in [
        "a://",
        "token=",
        "@a:",
        "-----BEGIN PRIVATE KEY-----",
        "password: |\n",
        "\"secret\":[",
        "{ token='",
    ] {
        scrub(&trap.repeat(200_000 / trap.len()));
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Texts that are likely to hold what the detectors look for.
fn soup() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("password".to_owned()),
        Just("token".to_owned()),
        Just("://".to_owned()),
        Just("@".to_owned()),
        Just(":".to_owned()),
        Just("=".to_owned()),
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\\".to_owned()),
        Just("{".to_owned()),
        Just("[".to_owned()),
        Just("}".to_owned()),
        Just("\n".to_owned()),
        Just("  ".to_owned()),
        Just("-----BEGIN PRIVATE KEY-----".to_owned()),
        Just("-----END PRIVATE KEY-----".to_owned()),
        Just("bearer ".to_owned()),
        Just("#cloud-config".to_owned()),
        Just("<secret>".to_owned()),
        Just("<".to_owned()),
        Just("$6$".to_owned()),
        Just("|".to_owned()),
        Just("--".to_owned()),
        Just("?".to_owned()),
        Just(MARK.to_owned()),
        Just("\u{1b}".to_owned()),
        "[a-zA-Z0-9é]{1,12}",
    ];
    proptest::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

/// How a secret may be written, around it.
fn written() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop_oneof![
        Just((" https://me:", "@host/")),
        Just(("\npassword: ", "\n")),
        Just(("\nGHOST_API_KEY=", "\n")),
        Just(("\n{\"password\":\"", "\"}\n")),
        Just(("\nAuthorization: Bearer ", "\n")),
        Just(("\n-----BEGIN PRIVATE KEY-----\n", "\n-----END PRIVATE KEY-----\n")),
        Just(("\nuser_data: |\n  ", "\n")),
        Just(("\n#cloud-config\nx: ", "\n")),
    ]
}

proptest! {
    #[test]
    fn scrubbing_twice_is_scrubbing_once(text in soup()) {
        let once = scrub(&text);
        prop_assert_eq!(scrub(&once), once);
    }

    #[test]
    fn a_known_secret_never_survives(before in soup(), secret in "[!-~]{4,24}", after in soup()) {
        let clean = Scrubber::knowing([secret.as_str()]).scrub(&format!("{before}{secret}{after}{secret}"));
        prop_assert!(!clean.0.contains(&secret), "{}", clean);
    }

    #[test]
    fn what_looks_like_a_secret_never_survives(
        before in soup(), (open, close) in written(), secret in "[A-Za-z0-9]{16,24}", after in soup(),
    ) {
        let clean = scrub(&format!("{before}{open}{secret}{close}{after}"));
        prop_assert!(!clean.contains(&secret), "{}", clean);
    }

    #[test]
    fn cutting_keeps_within_the_size(text in "[a-zé\n]{0,200}", most in 0_usize..200) {
        let text = Scrubber::default().scrub(&text);
        prop_assert!(text.clone().end(most).0.len() <= most + 64);
        prop_assert!(text.beginning(most).0.len() <= most + 64);
    }
}

#[test]
fn no_text_takes_longer_than_its_length_allows() {
    const LENGTH: usize = 1 << 20;
    let seeds = [
        ("", "$1$$"),
        ("", "/eyJ"),
        ("", "bearer"),
        ("", "bearer:"),
        ("{", "#cloud-config"),
        ("{", "password=x\","),
        ("", "password>"),
        ("", "password: [\n"),
        ("", "a:b@c"),
        ("", "://?@"),
    ];
    for (begin, seed) in seeds {
        let (done, waited) = std::sync::mpsc::channel();
        let text = begin.to_owned() + &seed.repeat(LENGTH / seed.len());
        std::thread::spawn(move || done.send(Scrubber::default().scrub(&text).as_str().len()));
        let length = waited.recv_timeout(std::time::Duration::from_secs(20));
        assert!(length.is_ok(), "{begin}{seed}… is not done within 20 s");
    }
}
