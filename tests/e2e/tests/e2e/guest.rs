//! What a guest gets, what it keeps, and what it can't reach.

use ghost_e2e::agent::Home;
use ghost_e2e::client::{self, mini};
use ghost_e2e::console::Console;
use ghost_proto::agentpb::{CreateVmRequest, DeleteVmRequest, StartVmRequest, StopVmRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExamp me@home";

/// What ghost-mini's small web server answers.
async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect((address, 80)).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_guest_is_configured_keeps_its_data_and_cannot_reach_its_neighbour() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let mut other = api.clone();
    let request = CreateVmRequest {
        ssh_authorized_keys: vec![KEY.to_owned()],
        user_data: "#!/bin/sh\necho made by $(hostname) > /www/made\n".to_owned(),
        metadata: [("owner/team".to_owned(), "a <b> & 'c' \"d\" ]]>".to_owned())].into(),
        ..mini("e2e-guest")
    };
    let (guest, neighbour) =
        tokio::join!(api.create_vm(request), other.create_vm(mini("e2e-neighbour")));
    let (guest, neighbour) = (guest.unwrap().into_inner(), neighbour.unwrap().into_inner());

    let console = Console::open(&guest.vm_id).await.unwrap();
    let env = console.ask("env", "env").await.unwrap();
    assert!(env.contains("hostname=e2e-guest") && env.contains(&guest.ip_address), "{env}");
    assert!(env.contains("cpus=1"), "{env}");
    assert_eq!(console.ask("disk", "disk").await.unwrap(), "disk 10737418240");
    assert!(get(&guest.ip_address, "/made").await.contains("made by e2e-guest"));

    let address = &neighbour.ip_address;
    assert!(get(address, "/index.html").await.contains("e2e-neighbour"), "the host reaches it");
    let tcp = console.ask(&format!("probe tcp {address} 80"), "probe tcp").await.unwrap();
    assert!(tcp.ends_with("filtered"), "a guest reached its neighbour: {tcp}");
    let ping = console.ask(&format!("probe ping {address}"), "probe ping").await.unwrap();
    assert!(ping.ends_with("silent"), "a guest reached its neighbour: {ping}");

    console.ask("note remember-me", "noted").await.unwrap();
    let vm_id = || guest.vm_id.clone();
    api.stop_vm(StopVmRequest { vm_id: vm_id(), force: false }).await.unwrap();
    api.start_vm(StartVmRequest { vm_id: vm_id() }).await.unwrap();
    let console = Console::open(&guest.vm_id).await.unwrap();
    assert_eq!(console.ask("noted", "noted").await.unwrap(), "noted remember-me");

    for vm_id in [vm_id(), neighbour.vm_id] {
        api.delete_vm(DeleteVmRequest { vm_id }).await.unwrap();
    }
    agent.stop().await.unwrap();
}

/// Fault: no answer from DHCP. Promise: 1, 10. Result: everything is undone, and the error has the guest's last
/// lines on its console.
#[tokio::test]
async fn a_guest_that_takes_no_address_is_undone_and_its_console_is_in_the_error() {
    use tonic_types::StatusExt as _;
    let home = Home::new().await.unwrap().with("VM__ADDRESS_TIMEOUT", "15s");
    let agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let silent = CreateVmRequest {
        user_data: "#!/bin/sh\n# ghost-mini: no-dhcp\n".to_owned(),
        ..mini("e2e-silent")
    };
    let failed = api.create_vm(silent).await.unwrap_err();
    assert_eq!(failed.code(), tonic::Code::DeadlineExceeded);
    assert!(failed.message().contains("took no address within 15 s"), "{failed}");
    let info = failed.get_details_error_info().unwrap();
    assert_eq!(info.reason, "NETWORK_ERROR");
    assert!(info.metadata["console"].contains("ghost-mini: dhcp skipped"), "{:?}", info.metadata);
    agent.stop().await.unwrap();
}
