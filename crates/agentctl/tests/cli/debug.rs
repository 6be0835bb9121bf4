//! `debug bundle` against agents that are honest, hostile, silent and dead.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ghost_proto::agentpb::DebugFile;

use crate::fake_agent::{FakeAgent, LastWord};
use crate::run::{BINARY, Outcome, command, finish};

const SECRET: &str = "hunter2-Zq9";

fn piece(name: &str, content: impl Into<Vec<u8>>) -> DebugFile {
    DebugFile { name: name.to_owned(), content: content.into() }
}

fn agent(pieces: Vec<DebugFile>) -> FakeAgent {
    let agent = FakeAgent::on_socket();
    agent.state.lock().unwrap().debugging.pieces = pieces;
    agent
}

fn bundle(socket: &Path, args: &[&str]) -> Outcome {
    bundle_in(Path::new("/"), socket, args)
}

/// With programs that answer at once: what the host has of them is not the test's.
fn bundle_in(folder: &Path, socket: &Path, args: &[&str]) -> Outcome {
    let mut command = command(&["--socket", socket.to_str().unwrap(), "debug", "bundle"]);
    command.args(args).current_dir(folder);
    finish(command)
}

/// Name and text of each file below the bundle's folder.
fn unpack(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(
            (entry.header().entry_type(), entry.header().mode().unwrap()),
            (tar::EntryType::Regular, 0o600)
        );
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        assert!(!name.starts_with('/') && !name.split('/').any(|part| part == ".."), "{name}");
        let (folder, name) = name.split_once('/').unwrap();
        assert!(folder.starts_with("ghost-debug-"), "{folder}");
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert!(files.insert(name.to_owned(), text).is_none(), "{name} is there twice");
    }
    files
}

/// The files of a bundle of this agent.
fn files(agent: &FakeAgent) -> BTreeMap<String, String> {
    let path = agent.folder().join("bundle.tar.gz");
    let run = bundle(&agent.socket(), &["--file", path.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{run:?}");
    unpack(&std::fs::read(path).unwrap())
}

#[test]
fn a_bundle_is_one_private_file_that_says_what_it_is() {
    let agent = agent(vec![piece("agent/config.txt", "agent:\n"), piece("ledger/a.json", "{}\n")]);
    let run = bundle_in(agent.folder(), &agent.socket(), &["--log-lines", "77"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    let name = run.stdout.strip_prefix("wrote ").unwrap().split_once(": ").unwrap().0;
    assert!(name.starts_with("ghost-debug-") && name.ends_with("Z.tar.gz"), "{name}");
    assert!(run.stdout.contains("look through it before you send it"), "{run:?}");
    let path = agent.folder().join(name);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let files = unpack(&std::fs::read(path).unwrap());
    assert_eq!(
        (files["agent/config.txt"].as_str(), files["ledger/a.json"].as_str()),
        ("agent:\n", "{}\n")
    );
    assert!(
        files["README.txt"].contains("Not left out: ")
            && files["ctl/version.txt"].starts_with("agentctl 0.")
    );
    assert!(
        files["ctl/doctor.txt"].contains("ghost-agent")
            && !files["ctl/doctor.txt"].contains('\u{fffd}'),
        "no colours"
    );
    assert!(
        files["manifest.txt"].contains("        7 agent/config.txt\n"),
        "{}",
        files["manifest.txt"]
    );
    assert_eq!(agent.state.lock().unwrap().debugging.log_lines, [77]);
    let leftovers = std::fs::read_dir(agent.folder()).unwrap().count();
    assert_eq!(leftovers, 2, "the bundle and the socket");
}

#[test]
fn documents_have_its_name_and_size() {
    let agent = agent(vec![piece("agent/a", "x")]);
    let path = agent.folder().join("b.tar.gz");
    let run = bundle(&agent.socket(), &["--file", path.to_str().unwrap(), "-o", "json"]);
    let json = run.json();
    assert_eq!(
        (&json["file"], &json["bytes"]),
        (&path.to_str().unwrap().into(), &path.metadata().unwrap().len().into())
    );
    assert!(json["files"].as_u64().unwrap() >= 4 && json["missing"].is_array(), "{json}");
}

#[test]
fn no_secret_that_an_agent_lets_through_gets_into_the_file() {
    let key = format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n");
    let (first, second) = key.split_at(30);
    let agent = agent(vec![
        piece("agent/log.jsonl", first),
        piece("agent/config.txt", format!("api_url: https://me:{SECRET}@host/?sig={SECRET}\n")),
        piece("agent/log.jsonl", second),
        piece(
            "agent/vms.json",
            format!("{{\"user_data\":\"#cloud-config\\npassword: {SECRET}\"}}\n"),
        ),
        piece("agent/esc", "\u{1b}]0;owned\u{7}"),
        piece(&format!("agent/token={SECRET}"), "x"),
        piece("agent/mine", "the key is from-my-shell-1"),
    ]);
    agent.state.lock().unwrap().debugging.last_word = LastWord::Failure;
    let path = agent.folder().join("b.tar.gz");
    let mut command =
        command(&["--socket", agent.socket().to_str().unwrap(), "debug", "bundle", "--file"]);
    command.arg(&path).env("GHOST_API_KEY", "from-my-shell-1");
    let run = finish(command);
    let files = unpack(&std::fs::read(path).unwrap());
    let all = format!("{files:?}");
    for secret in [SECRET, "from-my-shell-1", "\\u{1b}", "\\u{7}"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
    assert_eq!(files["agent/log.jsonl"], "███\n");
    assert_eq!(files["agent/config.txt"], "api_url: https://███@host/?███\n");
    assert!(run.stdout.contains("missing: the agent's part is not whole: token=███\n"), "{run:?}");
}

#[test]
fn what_an_agent_calls_a_file_leads_nowhere() {
    let names = [
        "../../../etc/cron.d/x",
        "/etc/passwd",
        "README.txt",
        "ctl/version.txt",
        "agent/a",
        "agent/A",
        "agent/a/b",
        "",
        "agent/\n\u{202e}",
    ];
    let agent = agent(names.iter().map(|name| piece(name, format!("from {name:?}"))).collect());
    let files = files(&agent);
    assert!(
        files["README.txt"].starts_with("What Ghost Agent")
            && files["ctl/version.txt"].starts_with("agentctl")
    );
    let sent = files.values().filter(|text| text.starts_with("from ")).count();
    assert_eq!(sent, names.len(), "{:?}", files.keys());
    for name in files.keys() {
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)), "{name}");
        assert!(
            !files.keys().any(|other| other.starts_with(&format!("{name}/"))),
            "{name} is a folder too"
        );
    }
}

#[test]
fn an_agent_that_sends_without_end_is_cut_off() {
    let agent = agent(Vec::new());
    agent.state.lock().unwrap().debugging.endless = Some(piece("agent/big", vec![b'x'; 64 * 1024]));
    let files = files(&agent);
    assert!(files["agent/big"].len() <= (8 << 20) + 1024, "{}", files["agent/big"].len());
    assert!(
        files["README.txt"].contains("the agent sent more than a bundle holds"),
        "{}",
        files["README.txt"]
    );
}

#[test]
fn an_agent_that_falls_silent_costs_only_what_it_has_not_said() {
    let agent = agent(vec![piece("agent/a.txt", "said")]);
    agent.state.lock().unwrap().debugging.last_word = LastWord::Silence;
    let path = agent.folder().join("b.tar.gz");
    let run = bundle(&agent.socket(), &["--timeout", "2s", "--file", path.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.stdout.contains("missing: the agent's part is not whole: it took longer than 2 s"),
        "{run:?}"
    );
    assert_eq!(unpack(&std::fs::read(path).unwrap())["agent/a.txt"], "said");
}

#[test]
fn a_dead_agent_is_no_reason_to_have_no_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.tar.gz");
    let run = bundle(&folder.path().join("agent.sock"), &["--file", path.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.stdout.contains(
            "missing: agent, ledger, libvirt, host: the agent did not tell: there is no socket"
        ),
        "{run:?}"
    );
    let files = unpack(&std::fs::read(path).unwrap());
    assert!(
        files.contains_key("ctl/doctor.txt")
            && files["README.txt"].contains("- agent, ledger, libvirt, host: ")
    );
}

#[test]
fn a_configuration_that_a_start_would_refuse_is_in_it_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ghost-agent");
    std::fs::write(
        &program,
        format!("#!/bin/sh\necho \"$@\"\necho 'api_key: {SECRET}' >&2\nexit 78\n"),
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("b.tar.gz");
    let mut command =
        command(&["--socket", "/nonexistent", "debug", "bundle", "--file", path.to_str().unwrap()]);
    command.env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()));
    assert_eq!(finish(command).code, 0);
    let files = unpack(&std::fs::read(path).unwrap());
    let config = &files["ctl/check-config.txt"];
    assert!(config.ends_with("check-config --show\napi_key: ███\n"), "{config}");
}

#[test]
fn no_file_is_overwritten() {
    let agent = agent(Vec::new());
    let path = agent.folder().join("mine");
    std::fs::write(&path, "mine").unwrap();
    let link = agent.folder().join("link");
    std::os::unix::fs::symlink(agent.folder().join("nothing"), &link).unwrap();
    for path in [&path, &link] {
        let run = bundle(&agent.socket(), &["--file", path.to_str().unwrap()]);
        assert_eq!(run.code, 5, "{run:?}");
        assert!(run.stderr.contains("is there already; move it away"), "{run:?}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    assert!(agent.state.lock().unwrap().debugging.log_lines.is_empty(), "looked before it asked");
}

#[test]
fn standard_output_carries_the_bundle_and_nothing_else() {
    let agent = agent(vec![piece("agent/a.txt", "said")]);
    let mut command = std::process::Command::new(BINARY);
    command.args(["--socket", agent.socket().to_str().unwrap(), "debug", "bundle", "--file", "-"]);
    let output = command.output().unwrap();
    assert_eq!(unpack(&output.stdout)["agent/a.txt"], "said");
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("wrote standard output: "));
}

#[test]
fn a_folder_that_is_not_there_is_named_with_a_remedy() {
    let agent = agent(Vec::new());
    let run = bundle(&agent.socket(), &["--file", "/nonexistent/b.tar.gz"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.stderr.contains("cannot write /nonexistent/b.tar.gz")
            && run.stderr.contains("make its folder"),
        "{run:?}"
    );
}

/// `agentctl` in mounts of its own, with a disk of 16 KiB at the folder; `None` where nobody may mount.
fn on_a_small_disk(folder: &Path, args: &[&str]) -> Option<std::process::Output> {
    let with = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
            .arg(folder);
        command
    };
    let mount = "mount -t tmpfs -o size=16k none \"$1\"";
    if !with(mount).output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mut command = with(&format!(
        "{mount} && at=$1 && shift && {{ \"$@\"; code=$?; ls -A \"$at\"; exit $code; }}"
    ));
    Some(command.arg(BINARY).args(args).output().unwrap())
}

#[test]
fn a_disk_that_is_full_is_named_with_a_remedy_and_keeps_nothing_half() {
    let noise: Vec<u8> = (0_u32..200_000)
        .flat_map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761)).into_bytes())
        .collect();
    let agent = agent(noise.chunks(60_000).map(|part| piece("agent/noise", part)).collect());
    let folder: PathBuf = agent.folder().join("disk");
    std::fs::create_dir(&folder).unwrap();
    let (socket, file) = (agent.socket(), folder.join("b.tar.gz"));
    let args =
        ["--socket", socket.to_str().unwrap(), "debug", "bundle", "--file", file.to_str().unwrap()];
    let Some(output) = on_a_small_disk(&folder, &args) else { return };
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("No space left") && stderr.contains("free space there"), "{stderr}");
}
