//! A host that is not as it should be: each fault has its own words, and changes nothing.

use std::path::Path;

use ghost_e2e::agent::{Agent, Home, Image};
use ghost_e2e::certs::Validity;
use ghost_e2e::client::{self, mini};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Runs an agent that is not to start, and gives its exit code and its words.
async fn refuses_to_start(home: &Home) -> (Option<i32>, String) {
    let output = home.command().unwrap().output().await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Lets a create fail, and gives the answer; nothing may be left.
async fn create_fails(home: &Home) -> Status {
    let agent: Agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let failed = api.create_vm(mini("e2e-host")).await.unwrap_err();
    home.ensure_nothing_left().await.unwrap();
    agent.stop().await.unwrap();
    failed
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

#[tokio::test]
async fn a_missing_network_is_named_with_its_remedy() {
    let failed =
        create_fails(&Home::new().await.unwrap().with("LIBVIRT__NETWORK", "no-such-net")).await;
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::Unavailable, "NETWORK_ERROR"));
    assert!(
        failed.message().contains("no-such-net") && failed.message().contains("virsh net-"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_missing_pool_is_named_with_its_remedy() {
    let failed =
        create_fails(&Home::new().await.unwrap().with("LIBVIRT__STORAGE_POOL", "no-such-pool"))
            .await;
    assert_eq!(reason(&failed), "HYPERVISOR_ERROR");
    assert!(
        failed.message().contains("no-such-pool") && failed.message().contains("virsh pool-"),
        "{failed}"
    );
}

/// Fault: no libvirtd when the agent starts. Promise: 7, 10. Result: it is ready, and a create says what to do.
#[tokio::test]
async fn without_libvirtd_the_agent_starts_and_says_what_to_do() {
    let uri = "qemu:///system?socket=/nonexistent/libvirt-sock";
    let failed = create_fails(&Home::new().await.unwrap().with("LIBVIRT__URI", uri)).await;
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::Unavailable, "HYPERVISOR_ERROR"));
    assert!(failed.message().contains("libvirtd"), "{failed}");
    assert!(failed.get_details_retry_info().is_some());
}

#[tokio::test]
async fn without_permission_on_libvirts_socket_the_group_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new().await.unwrap();
    let socket = home.path().join("libvirt-sock");
    let _forbidden = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let home = home.with("LIBVIRT__URI", format!("qemu:///system?socket={}", socket.display()));
    let home = home.unprivileged().unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o000)).unwrap();
    let failed = create_fails(&home).await;
    assert_eq!((failed.code(), reason(&failed).as_str()), (Code::Unavailable, "HYPERVISOR_ERROR"));
    assert!(failed.message().contains("usermod -aG libvirt"), "{failed}");
}

#[tokio::test]
async fn an_image_larger_than_the_disk_is_the_callers_mistake() {
    let home = Home::new().await.unwrap();
    let image = home.path().join("large.qcow2");
    let made = tokio::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&image)
        .arg("11G")
        .status()
        .await
        .unwrap();
    assert!(made.success());
    let home = home.with_image(&Image { template: "mini", path: image, user: "root" }).unwrap();
    let failed = create_fails(&home).await;
    assert_eq!(
        (failed.code(), reason(&failed).as_str()),
        (Code::InvalidArgument, "VALIDATION_ERROR")
    );
    assert!(failed.message().contains("disk_gb: must be at least 11"), "{failed}");
}

#[tokio::test]
async fn an_image_with_another_checksum_is_not_used() {
    let home = Home::new().await.unwrap();
    let text = std::fs::read_to_string(home.path().join("catalog.yaml")).unwrap();
    let at = text.find("sha256:").unwrap() + "sha256:".len();
    let wrong = format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..]);
    std::fs::write(home.path().join("catalog.yaml"), wrong).unwrap();
    let failed = create_fails(&home).await;
    assert!(
        failed.message().contains("checksum") || failed.message().contains("SHA-256"),
        "{failed}"
    );
    let images = home.path().join("images");
    for folder in [images.clone(), images.join("parts"), images.join("quarantine")] {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let files: Vec<_> =
            entries.filter(|e| e.metadata().unwrap().len() > 0 && e.path().is_file()).collect();
        assert!(files.is_empty(), "{files:?}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new().await.unwrap().with("GRPC__LISTEN_ADDR", &address);
    let (code, said) = refuses_to_start(&home).await;
    assert_eq!(code, Some(1));
    assert!(said.contains(&address) && said.contains("ss -ltnp"), "{said}");
}

#[tokio::test]
async fn missing_mismatching_and_expired_certificates_are_told_apart() {
    let home = Home::new().await.unwrap();
    let other = home.certs.issue("spiffe://ghost/agent/e2e", Validity::Now).unwrap();
    let expired = home.certs.issue("spiffe://ghost/agent/e2e", Validity::Past).unwrap();
    let text = |path: &Path| path.display().to_string();

    let missing = Home::new().await.unwrap().with("GRPC__TLS_KEY", "/nonexistent/agent.key");
    let (code, said) = refuses_to_start(&missing).await;
    assert_eq!(code, Some(78));
    assert!(said.contains("/nonexistent/agent.key") && said.contains("certs init"), "{said}");

    let home = home.with("GRPC__TLS_KEY", text(&other.key));
    let (code, said) = refuses_to_start(&home).await;
    assert_eq!(code, Some(78));
    assert!(said.contains("does not belong to"), "{said}");

    let home =
        home.with("GRPC__TLS_CERT", text(&expired.cert)).with("GRPC__TLS_KEY", text(&expired.key));
    let (code, said) = refuses_to_start(&home).await;
    assert_eq!(code, Some(78));
    assert!(said.contains("valid from") && said.contains("renew"), "{said}");
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_78_and_names_every_problem() {
    let home =
        Home::new().await.unwrap().with("VM__STOP_TIMEOUT", "soon").with("LOGGING__LEVEL", "loud");
    let (code, said) = refuses_to_start(&home).await;
    assert_eq!(code, Some(78));
    assert!(
        said.contains("GHOST_VM__STOP_TIMEOUT") && said.contains("GHOST_LOGGING__LEVEL"),
        "{said}"
    );
}

#[tokio::test]
async fn a_second_agent_on_the_same_state_is_refused() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let (code, said) = refuses_to_start(&home).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("another"), "{said}");
    agent.stop().await.unwrap();
}
