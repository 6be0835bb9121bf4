//! The main job, and several of it at once.

use std::collections::BTreeSet;

use ghost_e2e::agent::Home;
use ghost_e2e::host::answers;

#[tokio::test]
async fn a_vm_lives_from_create_to_delete_and_leaves_nothing() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();

    let created = ctl.create("e2e-life").await.unwrap();
    let address = created["ip_address"].as_str().unwrap().to_owned();
    assert_eq!(created["status"], "running");
    assert!(answers(&address).await.unwrap(), "{address} does not answer");

    let status = ctl.json(&["vm", "status", "e2e-life"]).await.unwrap();
    assert_eq!(
        (&status["status"], &status["ip_address"]),
        (&created["status"], &created["ip_address"])
    );
    assert_eq!(
        (status["vcpu"].as_i64(), status["ram_gb"].as_i64(), status["disk_gb"].as_i64()),
        (Some(1), Some(1), Some(10))
    );
    let list = ctl.json(&["vm", "list"]).await.unwrap();
    assert!(list.to_string().contains("e2e-life"), "{list}");

    // The agent goes and comes back; the guest does not notice.
    agent.stop().await.unwrap();
    assert!(answers(&address).await.unwrap(), "the guest died with the agent");
    let agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();
    let status = ctl.json(&["vm", "status", "e2e-life"]).await.unwrap();
    assert_eq!((&status["status"], &status["vm_id"]), (&created["status"], &created["vm_id"]));
    assert!(status["uptime_seconds"].as_i64().unwrap() > 0, "{status}");

    let stopped = ctl.json(&["vm", "stop", "e2e-life"]).await.unwrap();
    assert_eq!(stopped["status"], "stopped");
    assert_eq!(
        stopped["error"].as_str().unwrap_or_default(),
        "",
        "the guest was not asked but cut off"
    );
    let status = ctl.json(&["vm", "status", "e2e-life"]).await.unwrap();
    assert_eq!(
        (&status["status"], status["uptime_seconds"].as_i64()),
        (&"stopped".into(), Some(0))
    );

    let started = ctl.json(&["vm", "start", "e2e-life"]).await.unwrap();
    assert_eq!(started["status"], "running");
    assert_eq!(started["error"].as_str().unwrap_or_default(), "", "its address was not confirmed");
    let status = ctl.json(&["vm", "status", "e2e-life"]).await.unwrap();
    assert_eq!(status["ip_address"].as_str(), Some(address.as_str()));
    assert!(answers(&address).await.unwrap(), "{address} does not answer after a restart");

    ctl.json(&["vm", "delete", "e2e-life", "--yes"]).await.unwrap();
    home.ensure_nothing_left().await.unwrap();
    assert_eq!(ctl.run(["vm", "status", "e2e-life"]).await.unwrap().code, Some(3));
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn five_creates_at_once_give_five_vms_at_five_addresses() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();

    let mut creates = tokio::task::JoinSet::new();
    for i in 0..5 {
        let ctl = ctl.clone();
        creates.spawn(async move { ctl.create(&format!("e2e-five-{i}")).await });
    }
    let created: Vec<_> = creates.join_all().await.into_iter().map(Result::unwrap).collect();
    let addresses: BTreeSet<&str> =
        created.iter().filter_map(|vm| vm["ip_address"].as_str()).collect();
    assert_eq!(addresses.len(), 5, "{created:?}");
    for address in addresses {
        assert!(answers(address).await.unwrap(), "{address} does not answer");
    }

    let names: Vec<String> = (0..5).map(|i| format!("e2e-five-{i}")).collect();
    let mut args = vec!["vm", "delete", "--yes"];
    args.extend(names.iter().map(String::as_str));
    let deleted = ctl.run(args).await.unwrap();
    assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
    agent.stop().await.unwrap();
}
