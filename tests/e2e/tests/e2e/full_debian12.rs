//! A real distribution with real cloud-init, systemd and sshd. Minutes long, so it runs with
//! `./dev test --full` only (nextest's profile `full`).

use std::path::Path;

use ghost_e2e::agent::{Home, Image};
use ghost_e2e::client::{self, mini};
use ghost_proto::agentpb::{CreateVmRequest, DeleteVmRequest, StartVmRequest, StopVmRequest};
use tokio::process::Command;

const USER_DATA: &str = "#cloud-config
write_files:
  - path: /etc/ghost-test
    content: made by the caller
ssh_authorized_keys:
  - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExamp caller
";

/// What a command says in the guest; ssh itself tries again until sshd is up.
async fn ssh(key: &Path, address: &str, command: &str) -> String {
    let options = [
        "-oBatchMode=yes",
        "-oStrictHostKeyChecking=no",
        "-oUserKnownHostsFile=/dev/null",
        "-oLogLevel=ERROR",
        "-oConnectTimeout=10",
        "-oConnectionAttempts=60",
    ];
    let mut ssh = Command::new("ssh");
    ssh.args(options).arg("-i").arg(key).arg(format!("debian@{address}")).arg(command);
    let output = ssh.kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn full_debian12_takes_name_keys_user_data_and_the_whole_disk_and_keeps_them() {
    let home = Home::new().await.unwrap().with_image(&Image::debian12().unwrap()).unwrap();
    let agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();

    let key = home.path().join("id");
    let keygen =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(keygen.await.unwrap().success());
    let request = CreateVmRequest {
        template: "debian12".to_owned(),
        ssh_authorized_keys: vec![std::fs::read_to_string(key.with_extension("pub")).unwrap()],
        user_data: USER_DATA.to_owned(),
        ..mini("e2e-debian")
    };
    let vm = api.create_vm(request).await.unwrap().into_inner();
    let run = |command: &'static str| ssh(&key, &vm.ip_address, command);

    assert!(run("cloud-init status --wait || true").await.contains("done"));
    assert_eq!(run("hostname").await, "e2e-debian");
    assert_eq!(run("cat /etc/ghost-test").await, "made by the caller");
    let keys = run("cat ~/.ssh/authorized_keys").await;
    assert!(keys.contains("caller") && keys.lines().count() >= 2, "{keys}");
    let gib: u64 = run("df --output=size -BG / | tail -n1 | tr -dc 0-9").await.parse().unwrap();
    assert!((9..=10).contains(&gib), "the root file system has {gib} GiB");
    assert!(run("sudo cloud-init query ds.meta_data.instance_id").await.contains(&vm.vm_id));

    run("echo kept > kept && sync").await;
    let vm_id = || vm.vm_id.clone();
    let stopped = api.stop_vm(StopVmRequest { vm_id: vm_id(), force: false }).await.unwrap();
    assert_eq!(stopped.into_inner().error, "");
    api.start_vm(StartVmRequest { vm_id: vm_id() }).await.unwrap();
    assert_eq!(run("cat kept").await, "kept");

    api.delete_vm(DeleteVmRequest { vm_id: vm_id() }).await.unwrap();
    agent.stop().await.unwrap();
}
