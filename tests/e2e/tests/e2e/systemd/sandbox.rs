//! The unit's sandbox: in force, and in nobody's way.

use ghost_e2e::systemd_host::{SystemdHost, UNIT, field};

use super::{health, started};

/// The most that `systemd-analyze security` may say; 0 is locked up, 10 is open.
const EXPOSURE: f64 = 1.6;

#[tokio::test]
async fn systemd_finds_nothing_wrong_with_the_unit_and_little_that_is_open() {
    let host = SystemdHost::with_agent().await.unwrap();
    let verified = host.run(&["systemd-analyze", "verify", "ghost-agent.service"]).await.unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("ghost-agent"), "{said}");
    let found =
        host.shell("systemd-analyze security --no-pager ghost-agent.service").await.unwrap();
    let overall = found.lines().rfind(|line| line.contains("Overall exposure level")).unwrap();
    let level: f64 =
        overall.rsplit(": ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(level <= EXPOSURE, "{overall}");
}

#[tokio::test]
async fn the_agent_has_no_privilege_and_sees_and_writes_no_more_than_it_needs() {
    let host = started().await;
    let inside = "main=$(systemctl show --property=MainPID --value ghost-agent)\n";
    let status = host.shell(&format!("{inside}cat /proc/$main/status")).await.unwrap();
    let fields: Vec<_> = status.split_whitespace().collect();
    let has = |name: &str, value: &str| fields.windows(2).any(|pair| pair == [name, value]);
    for name in ["CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert!(has(name, "0000000000000000"), "{status}");
    }
    assert!(has("NoNewPrivs:", "1") && has("Seccomp:", "2"), "{status}");
    // As root in the agent's own view of the files: the mounts alone stand in the way.
    let in_view = |what: &str| format!("{inside}nsenter -t $main -m {what}");
    for denied in [
        "touch /usr/x",
        "touch /etc/x",
        "touch /srv/x",
        "touch /home/x",
        "touch /var/lib/x",
        "touch /sys/x",
    ] {
        let tried = host.run(&["bash", "-c", &in_view(denied)]).await.unwrap();
        assert!(!tried.status.success(), "{denied} was allowed");
    }
    let allowed = ["/var/lib/ghost", "/var/log/ghost", "/run/ghost", "/etc/ghost/certs", "/tmp"];
    for folder in allowed {
        let command = format!("touch {folder}/x");
        host.shell(&in_view(&command)).await.unwrap();
    }
    assert!(
        !host.run(&["test", "-e", "/tmp/x"]).await.unwrap().status.success(),
        "its /tmp is its own"
    );
}

#[tokio::test]
async fn in_its_sandbox_the_agent_keeps_files_takes_certificates_and_opens_its_log_anew() {
    let host = SystemdHost::with_agent().await.unwrap();
    host.setting("LOGGING__OUTPUT", "both").await.unwrap();
    host.shell(
        "agentctl certs init /etc/ghost/certs && chown -R ghost-agent:ghost /etc/ghost/certs",
    )
    .await
    .unwrap();
    assert!(host.start().await.unwrap());
    let health = health(&host).await;
    for check in ["ledger", "images", "log"] {
        assert_eq!(health["checks"][check]["status"], "up", "{health}");
    }
    let over_tls = "agentctl --addr 127.0.0.1:9090 --ca /etc/ghost/certs/ca.crt --cert /etc/ghost/certs/operator.crt \
        --key /etc/ghost/certs/operator.key -o json vm list";
    host.shell(over_tls).await.unwrap();
    // The file has a writer of its own: both may come later than the signal.
    let moved = "cd /var/log/ghost && until grep -q '\"ready\"' agent.log; do :; done\n\
        mv agent.log moved && systemctl kill -s HUP ghost-agent\n\
        until grep -qs 'told by SIGHUP' agent.log; do :; done; ! grep -q SIGHUP moved; stat -c '%U %G %a' agent.log";
    assert_eq!(host.shell(moved).await.unwrap().trim(), "ghost-agent ghost 640");
    assert_eq!(host.property("NRestarts").await.unwrap(), "0");
    let said = host.journal(&["-u", UNIT]).await.unwrap();
    let refused: Vec<_> = said
        .iter()
        .map(|entry| field(entry, "MESSAGE"))
        .filter(|line| line.to_lowercase().contains("not permitted"))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}
