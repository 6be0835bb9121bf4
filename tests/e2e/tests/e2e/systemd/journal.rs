//! What journald makes of the agent's lines.

use ghost_e2e::systemd_host::{Entry, SystemdHost, UNIT, field};
use serde_json::Value;

use super::started;

/// All that the agent sent itself, not systemd about it.
async fn of_the_agent(host: &SystemdHost) -> Vec<Entry> {
    host.journal(&["-u", UNIT, "-t", "ghost-agent"]).await.unwrap()
}

#[tokio::test]
async fn each_field_of_a_call_is_one_of_the_entry_and_its_id_finds_it() {
    let host = started().await;
    let create = "agentctl --request-id ticket-4711 vm create web-1 --template debian-12";
    let failed = host.run(&["bash", "-c", create]).await.unwrap();
    assert!(!failed.status.success(), "libvirt is away");
    let found = host.journal(&["REQUEST_ID=ticket-4711"]).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let entry = &found[0];
    for (name, value) in [
        // A warning: the host can't do it now.
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "ghost-agent"),
        ("TARGET", "ghost_agent::grpc::call"),
        ("REQUEST_ID", "ticket-4711"),
        ("RPC", "CreateVM"),
        ("ERROR_CODE", "HYPERVISOR_ERROR"),
        // journald's own word, which nobody can forge.
        ("_TRANSPORT", "journal"),
        ("_SYSTEMD_UNIT", "ghost-agent.service"),
        ("_EXE", "/usr/local/bin/ghost-agent"),
    ] {
        assert_eq!(field(entry, name), value, "{name} of {entry:?}");
    }
    let message = field(entry, "MESSAGE");
    assert!(message.starts_with("failed ") && !message.contains('{'), "{message}");
    assert!(field(entry, "ERROR").contains("start it with: systemctl start libvirtd"), "{entry:?}");
    assert!(field(entry, "CALLER").starts_with("uid 0, pid "), "{entry:?}");
    assert!(field(entry, "TOOK").ends_with('s'), "{entry:?}");
    assert!(field(entry, "CODE_FILE").ends_with("call.rs"), "{entry:?}");
    assert_eq!(host.journal(&["REQUEST_ID=ticket-4711", "-p", "warning"]).await.unwrap().len(), 1);
}

/// An image whose folder the agent may not write is a fault of its installation.
#[tokio::test]
async fn a_chain_of_causes_and_a_backtrace_keep_their_lines() {
    let host = SystemdHost::with_agent().await.unwrap();
    let image = "mkdir /srv/ghost && echo image >/srv/ghost/image && sum=$(sha256sum /srv/ghost/image | cut -d' ' -f1)\n\
        printf -- '- name: mini\\n  arch: %s\\n  url: file:///srv/ghost/image\\n  checksum: sha256:%s\\n  default_user: root\\n' \
        $(uname -m) $sum >/etc/ghost/catalog.yaml";
    host.shell(image).await.unwrap();
    host.setting("IMAGES__CATALOG", "/etc/ghost/catalog.yaml").await.unwrap();
    assert!(host.start().await.unwrap());
    host.shell("chown root: /var/lib/ghost/images/parts && chmod 555 /var/lib/ghost/images/parts")
        .await
        .unwrap();
    let pulled =
        host.run(&["agentctl", "--request-id", "lines", "image", "pull", "mini"]).await.unwrap();
    assert!(!pulled.status.success());
    let found = host.journal(&["REQUEST_ID=lines", "ERROR_CODE=INTERNAL_ERROR"]).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let chain: Vec<_> = field(&found[0], "ERROR_CHAIN").lines().collect();
    assert_eq!(chain.len(), 2, "{chain:?}");
    assert!(chain[0].starts_with("template mini: cannot open "), "{chain:?}");
    assert_eq!(chain[1], "Permission denied (os error 13)");
    let frames: Vec<_> = field(&found[0], "BACKTRACE").lines().collect();
    assert!(
        frames.len() > 5 && frames.iter().any(|frame| frame.contains("ghost_host::image_cache")),
        "{frames:?}"
    );
}

/// The file is written beside the journal, so each says what the other must have.
#[tokio::test]
async fn the_journal_has_each_line_once() {
    let host = SystemdHost::with_agent().await.unwrap();
    host.setting("LOGGING__OUTPUT", "both").await.unwrap();
    host.setting("LOGGING__LEVEL", "debug").await.unwrap();
    assert!(host.start().await.unwrap());
    let crowd =
        "for n in $(seq 40); do agentctl --request-id crowd-$n vm list >/dev/null & done; wait";
    host.shell(crowd).await.unwrap();
    host.shell("systemctl stop ghost-agent").await.unwrap();
    let file = host.shell("cat /var/log/ghost/agent.log").await.unwrap();
    let file: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let journal = of_the_agent(&host).await;
    assert!(journal.iter().all(|entry| field(entry, "_TRANSPORT") == "journal"), "{journal:?}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut written: Vec<_> = file
        .iter()
        .map(|line| (text(&line["request_id"]), text(&line["took"]), text(&line["message"])))
        .collect();
    let mut kept: Vec<_> = journal
        .iter()
        .map(|entry| {
            let of = |name| field(entry, name).to_owned();
            (of("REQUEST_ID"), of("TOOK"), of("MESSAGE"))
        })
        .collect();
    let calls = written.iter().filter(|(id, ..)| id.starts_with("crowd-")).count();
    assert!(calls >= 40, "{calls} lines of 40 calls");
    assert_eq!(written.len(), kept.len());
    // Each output has a queue of its own: lines of two threads may change places.
    written.sort();
    kept.sort();
    for ((id, took, message), (its_id, its_time, body)) in written.iter().zip(&kept) {
        assert!(
            body.starts_with(message.as_str()) && id == its_id && took == its_time,
            "{message} {id}: {body}"
        );
    }
}
