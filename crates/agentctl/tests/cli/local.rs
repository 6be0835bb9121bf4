//! Verbs that need no agent.

use crate::run::agentctl;

#[test]
fn help_mentions_every_verb_and_exit_code() {
    let help = agentctl(&["--help"]).stdout;
    for word in [
        "status",
        "vm",
        "image",
        "node",
        "top",
        "certs",
        "doctor",
        "debug",
        "completions",
        "man",
        "version",
        "--addr",
        "--socket",
    ] {
        assert!(help.contains(&format!("  {word}")), "{word} in {help}");
    }
    for code in 0..=9 {
        assert!(help.contains(&format!("\n  {code}  ")), "{code} in {help}");
    }
    let vm = agentctl(&["vm", "--help"]).stdout;
    for verb in ["create", "list", "watch", "status", "start", "stop", "delete"] {
        assert!(vm.contains(&format!("\n  {verb} ")), "{verb} in {vm}");
    }
    let image = agentctl(&["image", "--help"]).stdout;
    for verb in ["list", "pull", "update", "remove", "verify"] {
        assert!(image.contains(&format!("\n  {verb} ")), "{verb} in {image}");
    }
}

#[test]
fn the_version_names_commit_and_target() {
    for args in [["--version"].as_slice(), &["version"]] {
        let text = agentctl(args).stdout;
        assert!(text.starts_with("agentctl 0."), "{text}");
        assert!(text.contains("commit ") && text.contains("-linux-"), "{text}");
    }
    let json = agentctl(&["version", "-o", "json"]).json();
    assert!(!json["commit"].as_str().unwrap().is_empty());
}

#[test]
fn every_shell_completes_every_noun() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = agentctl(&["completions", shell]);
        assert_eq!(run.code, 0);
        assert!(run.stdout.contains("doctor") && run.stdout.contains("template"), "{shell}");
    }
    assert_eq!(agentctl(&["completions", "tcsh"]).code, 2);
}

#[test]
fn the_man_page_has_the_exit_codes_and_each_verb_a_page() {
    let page = agentctl(&["man"]).stdout;
    assert!(page.contains(".TH agentctl 1") && page.contains("Exit codes"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert_eq!(agentctl(&["man", pages.to_str().unwrap()]).code, 0);
    for page in [
        "agentctl.1",
        "agentctl-vm-create.1",
        "agentctl-image-pull.1",
        "agentctl-certs-init.1",
        "agentctl-doctor.1",
    ] {
        assert!(pages.join(page).metadata().unwrap().len() > 500, "{page}");
    }
    let run = agentctl(&["man", "/proc/no"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("/proc/no"), "{run:?}");
}

#[test]
fn doctor_reports_each_check_and_its_exit_code_follows() {
    let missing = "/no/such/agent.sock";
    let run = agentctl(&["--socket", missing, "doctor", "--json"]);
    let report = run.json();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 10);
    for finding in findings {
        let well = finding["verdict"] == "ok";
        assert_eq!(finding["remedy"].is_string(), !well, "{finding}");
    }
    let failed = findings.iter().any(|finding| finding["verdict"] == "failed");
    assert_eq!(report["fit"], !failed);
    assert_eq!(run.code, i32::from(failed));
    assert_eq!(findings[9]["check"], "ghost-agent");
    assert_eq!(findings[9]["verdict"], "warning");
    assert!(findings[9]["found"].as_str().unwrap().contains(missing));
}

#[test]
fn doctor_finds_a_pool_that_is_not_there_or_cannot_look() {
    let run = agentctl(&["doctor", "--json", "--pool", "no-such-pool"]);
    assert_ne!(run.json()["findings"][4]["verdict"], "ok", "{run:?}");
}
