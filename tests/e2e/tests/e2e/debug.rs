//! A debug bundle of a real agent: what a bug report needs is in it, and what its owner planted is not.

use std::collections::BTreeMap;
use std::path::Path;

use ghost_e2e::agent::Home;
use ghost_e2e::client::{self, mini};
use ghost_e2e::ctl::Ctl;

/// Planted wherever a user can put something.
const SECRETS: [&str; 4] =
    ["enrol-4711-by-test", "label-4712-by-test", "userdata-4713-by-test", "query-4714-by-test"];

/// What a bundle of an agent that is well has, beside its VMs.
const FILES: [&str; 13] = [
    "README.txt",
    "manifest.txt",
    "agent/version.txt",
    "agent/config.txt",
    "agent/health.json",
    "agent/metrics.txt",
    "agent/log.jsonl",
    "agent/state.json",
    "agent/vms.json",
    "agent/images.json",
    "agent/certificates.txt",
    "libvirt/facts.txt",
    "host/meminfo.txt",
];

/// Makes a bundle in `home`; gives name and text of each file, and what agentctl said.
async fn bundle(ctl: &Ctl, home: &Home, name: &str) -> (BTreeMap<String, String>, String) {
    let (archive, into) = (home.path().join(format!("{name}.tar.gz")), home.path().join(name));
    let run = ctl.run(["debug", "bundle", "--file", archive.to_str().unwrap()]).await.unwrap();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    (unpack(&archive, &into).await, run.stdout)
}

async fn unpack(archive: &Path, into: &Path) -> BTreeMap<String, String> {
    std::fs::create_dir(into).unwrap();
    let mut tar = tokio::process::Command::new("tar");
    let tar = tar.arg("-xzf").arg(archive).arg("-C").arg(into).arg("--strip-components=1");
    assert!(tar.status().await.unwrap().success());
    let (mut folders, mut files) = (vec![into.to_owned()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(into).unwrap().display().to_string();
            files.insert(name, std::fs::read_to_string(path).unwrap());
        }
    }
    files
}

#[tokio::test]
async fn a_bundle_of_a_busy_agent_has_everything_but_its_secrets() {
    let [key, label, user_data, query] = SECRETS;
    let mirror = format!("https://a.invalid/=https://b.invalid/{query}@c.invalid/");
    let home = Home::new().await.unwrap().with_blank_vms().await.unwrap().leaves_vms();
    let home = home.with("API_KEY", key).with("IMAGES__MIRRORS", mirror);
    let agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let mut request = mini("e2e-debug");
    request.user_data = format!("#cloud-config\npassword: {user_data}\n");
    request.metadata.insert("mail".to_owned(), label.to_owned());
    let id = api.create_vm(request).await.unwrap().into_inner().vm_id;

    let (files, _) = bundle(&home.ctl(&agent).unwrap(), &home, "alive").await;
    for name in FILES {
        let there = files.get(name).is_some_and(|text| !text.trim().is_empty());
        assert!(there, "{name} in {:?}", files.keys());
    }
    assert_eq!(files["agent/errors.txt"], "nothing is missing\n");
    let record = &files[&format!("ledger/{id}.json")];
    assert!(record.contains(&format!("[{} bytes]", label.len())), "{record}");
    let domain = &files[&format!("libvirt/domains/{id}.xml")];
    assert!(domain.contains("<domain") && domain.contains("ghost:label"), "{domain}");
    assert!(files["agent/config.txt"].contains("███"), "{}", files["agent/config.txt"]);
    for (name, text) in &files {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {name}");
        }
        assert!(!text.contains("PRIVATE KEY") && !text.contains('\u{1b}'), "{name}");
    }
    agent.stop().await.unwrap();

    let (files, said) = bundle(&Ctl::over_socket(&home.socket()), &home, "dead").await;
    assert!(said.contains("missing: agent, ledger, libvirt, host"), "{said}");
    assert!(files.contains_key("ctl/doctor.txt"), "{:?}", files.keys());
}
