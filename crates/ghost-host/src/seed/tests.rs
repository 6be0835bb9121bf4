use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::process::{Command, Stdio};

use ghost_core::domain::validation::Violations;
use ghost_core::domain::{Metadata, SshKey, UserData, VmId};
use hadris_iso::read::IsoImage;
use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAM me@home";

fn spec() -> SeedSpec {
    SeedSpec {
        id: "6f1c2a34-5b6d-4e7f-8091-a2b3c4d5e6f7".parse().unwrap(),
        name: "web-1".parse().unwrap(),
        default_user: "debian".to_owned(),
        ssh_keys: vec![KEY.parse().unwrap()],
        user_data: None,
        metadata: Metadata::default(),
    }
}

fn with_user_data(text: &str) -> SeedSpec {
    SeedSpec { user_data: Some(text.parse().unwrap()), ..spec() }
}

/// The files that a Linux guest sees.
fn files(spec: &SeedSpec) -> BTreeMap<String, String> {
    let image = IsoImage::open(Cursor::new(NoCloudSeed.build(spec).unwrap())).unwrap();
    let entries = image.root_dir().iter(&image).entries().collect::<Vec<_>>();
    let mut files = BTreeMap::new();
    for entry in entries.into_iter().map(Result::unwrap).filter(|entry| !entry.is_special()) {
        let content = String::from_utf8(image.read_file(&entry).unwrap()).unwrap();
        files.insert(entry.display_name().into_owned(), content);
    }
    files
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Type and decoded text of all parts that aren't archives themselves, in order.
fn parts(archive: &str) -> Vec<(String, String)> {
    let message = MessageParser::default().parse(archive.as_bytes()).unwrap();
    message
        .parts
        .iter()
        .filter(|part| !part.is_multipart())
        .map(|part| {
            let kind = part.content_type().unwrap();
            let kind = format!("{}/{}", kind.c_type, kind.c_subtype.as_deref().unwrap());
            (kind, String::from_utf8(part.contents().to_vec()).unwrap())
        })
        .collect()
}

#[test]
fn a_guest_finds_exactly_the_three_files_by_their_exact_names() {
    let names: Vec<String> = files(&spec()).into_keys().collect();
    assert_eq!(names, ["meta-data", "network-config", "user-data"]);
}

#[test]
fn blkid_finds_the_label_that_cloud_init_looks_for() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&NoCloudSeed.build(&spec()).unwrap()).unwrap();
    let blkid = ["/usr/sbin/blkid", "/sbin/blkid", "/usr/bin/blkid"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .expect("blkid is part of util-linux, which every Linux has");
    let found = Command::new(blkid)
        .args(["-p", "-o", "export"])
        .arg(file.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(found.stdout).unwrap();
    assert!(text.lines().any(|line| line == "LABEL=cidata"), "{text}");
    assert!(text.lines().any(|line| line == "TYPE=iso9660"), "{text}");
}

#[test]
fn the_same_input_gives_the_same_bytes_and_no_date_of_today() {
    let first = NoCloudSeed.build(&spec()).unwrap();
    assert_eq!(first, NoCloudSeed.build(&spec()).unwrap());
    // ECMA-119, 8.4.26.1 and 9.1.5; the year, month, day and hour of any moment this test may run at.
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let volume_date = now.strftime("%Y%m%d%H").to_string().into_bytes();
    let record_date: Vec<u8> =
        [now.year() - 1900, now.month().into(), now.day().into(), now.hour().into()]
            .map(|part| u8::try_from(part).unwrap())
            .into();
    for date in [volume_date, record_date] {
        assert!(!first.windows(date.len()).any(|window| window == date), "{date:?}");
    }
}

#[test]
fn meta_data_names_the_guest_and_carries_its_labels() {
    let labels = [("team/a".to_owned(), "x: \"y\"\\ {}".to_owned())];
    let metadata = Metadata::parse(labels, &mut Violations::default());
    let spec = SeedSpec { metadata, ..spec() };
    let meta_data = json(&files(&spec)["meta-data"]);
    let expected = serde_json::json!({
        "instance-id": spec.id, "local-hostname": "web-1", "ghost": { "labels": { "team/a": "x: \"y\"\\ {}" } }
    });
    assert_eq!(meta_data, expected);
}

#[test]
fn the_network_card_is_matched_by_the_address_that_dhcp_knows() {
    let network = json(&files(&spec())["network-config"]);
    let card = &network["ethernets"]["eth0"];
    assert_eq!(network["version"], 2);
    assert_eq!(card["match"]["macaddress"], "52:54:00:d5:e6:f7");
    assert_eq!((&card["dhcp4"], &card["dhcp-identifier"]), (&true.into(), &"mac".into()));
}

#[test]
fn without_user_data_the_agents_cloud_config_stands_alone() {
    let user_data = &files(&spec())["user-data"];
    let config = json(user_data.strip_prefix("#cloud-config\n").unwrap());
    assert_eq!(config["ssh_authorized_keys"], serde_json::json!([KEY]));
    assert_eq!(config["hostname"], "web-1");
    assert_eq!(config["system_info"]["default_user"]["name"], "debian");
    assert_eq!(config["growpart"]["devices"], serde_json::json!(["/"]));
}

#[test]
fn a_script_stands_readable_before_the_agents_part() {
    let script = "#!/bin/sh\necho 'hello: world'\n";
    let user_data = &files(&with_user_data(script))["user-data"];
    assert!(
        user_data.starts_with("Content-Type: multipart/mixed; boundary=\"ghost-"),
        "{user_data}"
    );
    assert!(user_data.contains(&format!("\n\n{script}\n--ghost-")), "{user_data}");
    let parts = parts(user_data);
    assert_eq!(parts[0], ("text/x-shellscript".to_owned(), script.to_owned()));
    assert_eq!(parts[1].0, "text/cloud-config");
    assert!(parts[1].1.contains(KEY));
    assert_eq!(parts.len(), 2);
}

#[test]
fn the_agents_part_says_how_it_is_merged_and_the_callers_does_not() {
    let user_data = &files(&with_user_data("#cloud-config\nhostname: mine\n"))["user-data"];
    let message = MessageParser::default().parse(user_data.as_bytes()).unwrap();
    let merge =
        |part: u32| message.parts[part as usize].headers.iter().find(|h| h.name() == "Merge-Type");
    assert!(merge(1).is_none());
    assert_eq!(merge(2).unwrap().value().as_text(), Some(user_data::MERGE));
}

#[test]
fn a_script_that_is_not_plain_ascii_survives_too() {
    for script in ["#!/bin/sh\necho grüße €\n", "#!/bin/sh\r\necho\r", "#!/bin/sh\n\u{b}"] {
        let parts = parts(&files(&with_user_data(script))["user-data"]);
        assert_eq!(parts[0], ("text/x-shellscript".to_owned(), script.to_owned()));
    }
}

#[test]
fn a_callers_archive_is_nested_whole() {
    let archive = "Content-Type: multipart/mixed; boundary=\"b\"\nMIME-Version: 1.0\n\n--b\nContent-Type: \
                   text/x-shellscript\n\n#!/bin/sh\ntrue\n--b\nContent-Type: text/cloud-config\n\n\
                   #cloud-config\n{}\n--b--\n";
    let user_data = &files(&with_user_data(archive))["user-data"];
    assert!(user_data.contains(archive));
    let kinds: Vec<String> = parts(user_data).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["text/x-shellscript", "text/cloud-config", "text/cloud-config"]);
}

#[test]
fn a_boundary_in_the_callers_text_ends_nothing() {
    let id = spec().id;
    let script = format!("#!/bin/sh\n--ghost-{id}--\n--ghost-{id}-1\n");
    let parts = parts(&files(&with_user_data(&script))["user-data"]);
    assert_eq!((parts.len(), &parts[0].1), (2, &script));
}

#[test]
fn a_key_whose_comment_looks_like_mime_does_not_turn_the_config_into_an_archive_of_nothing() {
    let key: SshKey = format!("{KEY} MIME-Version: 1.0").parse().unwrap();
    let user_data = &files(&SeedSpec { ssh_keys: vec![key], ..spec() })["user-data"];
    let parts = parts(user_data);
    assert_eq!((parts.len(), parts[0].0.as_str()), (1, "text/cloud-config"));
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("[a-z0-9._/-]{1,63}", "\\PC{0,80}", 0..8)
}

fn user_data() -> impl Strategy<Value = String> {
    let body = prop_oneof![any::<String>(), "[ -~\\n\\r\\t]{0,200}", "(\n|--|ghost-|é){0,30}"];
    (prop_oneof![Just("#!/bin/sh\n"), Just("#cloud-config\n")], body)
        .prop_map(|(first, body)| format!("{first}{body}"))
}

proptest! {
    #[test]
    fn whatever_core_accepts_reaches_the_guest_unaltered(
        labels in labels(), text in user_data(), comment in "\\PC{0,40}", id in any::<[u8; 16]>()
    ) {
        let mut wrong = Violations::default();
        let metadata = Metadata::parse(labels.clone(), &mut wrong);
        prop_assume!(wrong.finish(Some(())).is_ok());
        let (Ok(text), Ok(key)) = (text.parse::<UserData>(), format!("{KEY}{comment}").parse::<SshKey>())
        else { return Ok(()) };
        let id = VmId::from(uuid::Uuid::from_bytes(id));
        let spec = SeedSpec { id, ssh_keys: vec![key.clone()], user_data: Some(text.clone()), metadata, ..spec() };

        let files = files(&spec);
        let meta_data = json(&files["meta-data"]);
        let seen: BTreeMap<String, String> = serde_json::from_value(meta_data["ghost"]["labels"].clone()).unwrap();
        prop_assert_eq!(seen, labels);
        prop_assert_eq!(&meta_data["instance-id"], &Value::String(id.to_string()));

        let parts = parts(&files["user-data"]);
        prop_assert_eq!(parts.len(), 2);
        prop_assert_eq!(&parts[0], &(text.part_type().unwrap().to_owned(), text.as_str().to_owned()));
        let config = json(parts[1].1.strip_prefix("#cloud-config\n").unwrap());
        prop_assert_eq!(&config["ssh_authorized_keys"][0], key.as_str());
    }
}
