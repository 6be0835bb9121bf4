//! The commands with journalctl in the documentation, as they stand there.

use std::path::Path;

use ghost_e2e::systemd_host::SystemdHost;

const PAGES: [&str; 4] =
    ["operations.md", "runbook.md", "observability/logs.md", "observability/tracing.md"];

/// What finds nothing on a host without libvirt, VMs and trouble with them: it must be understood, no more.
const MAY_FIND_NOTHING: [&str; 5] = ["-u libvirtd", "can't set", "vm_id=", "VM_ID=", "-i event"];

/// Each line of code that begins with journalctl.
fn commands() -> Vec<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut found = Vec::new();
    for page in PAGES {
        let text = std::fs::read_to_string(docs.join(page)).unwrap();
        let mut code = false;
        for line in text.lines() {
            code ^= line.starts_with("```");
            if code && line.starts_with("journalctl") {
                found.push(line.to_owned());
            }
        }
    }
    found.push("journalctl --vacuum-size=500M".to_owned());
    found
}

#[tokio::test]
async fn each_documented_command_with_journalctl_works_and_finds_what_it_is_there_for() {
    let host = SystemdHost::with_agent().await.unwrap();
    host.setting("RATES__CLIENT_READS_PER_S", "1").await.unwrap();
    assert!(host.start().await.unwrap());
    // The runbook's own words, and the ids that the pages name.
    host.shell("agentctl log-level debug --for 10m").await.unwrap();
    let calls = "for id in 418821d3-4c8f-492d-80e7-cc5fd4994460 ticket-4711; do \
        agentctl --request-id $id vm create web-1 --template debian-12 || true; done\n\
        for n in $(seq 20); do agentctl vm list & done; wait";
    host.shell(calls).await.unwrap();
    host.entry(&["ERROR_CODE=RESOURCE_LIMIT_EXCEEDED"]).await.unwrap();
    let all = commands();
    assert!(all.len() > 20, "{all:#?}");
    for command in all {
        // What follows without end ends with its reader; an ellipsis stands for an id.
        let run =
            command.replace("-u ghost-agent -f", "-u ghost-agent -f | head -n 1").replace('…', "0");
        let output = host.run(&["bash", "-c", &run]).await.unwrap();
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let vacuum = command.contains("vacuum");
        assert!(complained.is_empty() || vacuum, "{command}: {complained}");
        let found = !said.trim().is_empty() && !said.contains("-- No entries --");
        if !vacuum && !MAY_FIND_NOTHING.iter().any(|part| command.contains(part)) {
            assert!(found && output.status.success(), "{command} found nothing: {output:?}");
        }
        assert!(output.status.code().is_some_and(|code| code < 2), "{command}: {output:?}");
    }
}
