//! The VPN comes, moves and goes; certificates change while they are in use.

use std::net::SocketAddr;
use std::time::Duration;

use ghost_e2e::certs::Certs;
use ghost_e2e::client;
use ghost_e2e::ctl::Ctl;
use ghost_e2e::home::Home;
use ghost_e2e::lab::Lab;
use ghost_e2e::nets::{Nets, Place};
use ghost_e2e::tailscaled::Tailscaled;
use ghost_e2e::wait::eventually;
use ghost_proto::agentpb::ListVMsRequest;

use crate::stage::Stage;

/// Longest until the agent has followed: it looks every ten seconds, at certificates twice before it
/// complains.
const FOLLOWS: Duration = Duration::from_secs(30);

/// Fault: the VPN needs a login, comes up, gives the host another address, falls silent and is switched
/// off; a neighbour in the owner's LAN knocks at every address. Promise: 6, 10. Result: the agent is
/// ready throughout, listens at the VPN's present address and nowhere else, and serves who comes from
/// the VPN; silence undoes nothing.
#[tokio::test]
async fn the_agent_is_reached_through_the_vpn_only_wherever_it_is() {
    let (lab, nets) = (Lab::start().await.unwrap(), Nets::make().unwrap());
    let home = Home::in_lab(&lab).await.unwrap().at(nets.host());
    let socket = home.path().join("tailscaled.sock");
    let home = home.with("GRPC__LISTEN_ADDR", "tailscale:9090");
    let home = home.with("VPN__SOCKET", socket.display().to_string());
    let vpn = Tailscaled::listen(&socket).unwrap();
    let agent = home.start().await.unwrap();
    agent.until("waiting for an address in the VPN", FOLLOWS).await.unwrap();
    let local = Ctl::over_socket(&home.socket());
    assert_eq!(local.run(["vm", "list"]).await.unwrap().code, Some(0), "ready on the socket");
    assert_eq!(knock(nets.in_vpn(), "100.64.0.7", &home.certs).await, Some(7));

    vpn.says("Running", &["fd7a:115c:a1e0::7", "100.64.0.7"]);
    agent.until(r#""address":"100.64.0.7:9090""#, FOLLOWS).await.unwrap();
    assert_eq!(knock(nets.in_vpn(), "100.64.0.7", &home.certs).await, Some(0));
    assert_eq!(knock(nets.in_lan(), "192.0.2.7", &home.certs).await, Some(7), "the owner's LAN");
    nets.in_lan().ip(&["route", "add", "100.64.0.7", "via", "192.0.2.7"]).unwrap();
    let routed = knock(nets.in_lan(), "100.64.0.7", &home.certs).await;
    assert!(!matches!(routed, Some(0)), "the VPN's address, routed by the LAN");
    agent.until("192.0.2.1", FOLLOWS).await.unwrap();
    agent.until("is not in the VPN, and this port is for the VPN only", FOLLOWS).await.unwrap();

    nets.host().ip(&["address", "add", "100.64.0.8/10", "dev", "vpn0"]).unwrap();
    vpn.says("Running", &["100.64.0.8"]);
    agent.until(r#""address":"100.64.0.8:9090""#, FOLLOWS).await.unwrap();
    assert_eq!(knock(nets.in_vpn(), "100.64.0.8", &home.certs).await, Some(0));
    assert_eq!(knock(nets.in_vpn(), "100.64.0.7", &home.certs).await, Some(7), "the former");

    drop(vpn);
    agent.until("cannot see what the VPN is like", FOLLOWS).await.unwrap();
    assert_eq!(knock(nets.in_vpn(), "100.64.0.8", &home.certs).await, Some(0), "silence");
    let vpn = Tailscaled::listen(&socket).unwrap();
    vpn.says("Stopped", &["100.64.0.8"]);
    eventually("the end of listening", FOLLOWS, async || {
        let refused = knock(nets.in_vpn(), "100.64.0.8", &home.certs).await == Some(7);
        Ok(refused.then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(local.run(["vm", "list"]).await.unwrap().code, Some(0), "still ready");
    agent.stop().await.unwrap();
}

/// How `agentctl vm list` ends from there: 0 served, 7 not reached.
async fn knock(from: &Place, address: &str, certs: &Certs) -> Option<i32> {
    let address: SocketAddr = format!("{address}:9090").parse().unwrap();
    let ctl = Ctl::over_tls(address, certs).unwrap().expecting("localhost").at(from);
    ctl.run(["vm", "list"]).await.unwrap().code
}

/// Fault: an agent with a control plane starts before it has certificates. Promise: 6, 10. Result: it is
/// ready on its unix socket, listens nowhere else, and opens its port when the certificates come.
#[tokio::test]
async fn certificates_come_after_the_agent() {
    let lab = Lab::start().await.unwrap();
    let home = Home::in_lab(&lab).await.unwrap();
    let home = home.with("AGENT__API_URL", "https://127.0.0.1:1");
    let (certs, aside) = (home.path().join("certs"), home.path().join("aside"));
    std::fs::rename(&certs, &aside).unwrap();
    let agent = home.start().await.unwrap();
    let local = Ctl::over_socket(&home.socket());
    assert_eq!(local.run(["vm", "list"]).await.unwrap().code, Some(0));
    assert!(agent.address().is_err(), "it listens without certificates");
    agent.until("as soon as there are certificates", FOLLOWS).await.unwrap();
    std::fs::rename(&aside, &certs).unwrap();
    agent.until(r#""address":"127.0.0.1:"#, FOLLOWS).await.unwrap();
    let mut api = home.api(&agent).await.unwrap();
    api.list_v_ms(ListVMsRequest::default()).await.unwrap();
    agent.stop().await.unwrap();
}

/// Fault: while a client is connected the agent's certificate is replaced without its key, and then
/// everything by another authority's. Promise: 6, 10. Result: the half pair is refused with one warning
/// and the former stays in force; the whole is taken without a restart, new connections are proven by
/// it, and the connection from before goes on.
#[tokio::test]
async fn certificates_are_replaced_while_they_are_in_use() {
    let mut stage = Stage::with_blank_vms().await;
    let address = stage.agent.address().unwrap();
    let newer = Certs::init(&stage.home.path().join("newer")).await.unwrap();
    let put = |name: &str| {
        let (from, to) = (stage.home.path().join("newer"), stage.home.path().join("certs"));
        std::fs::copy(from.join(name), to.join("incoming")).unwrap();
        std::fs::rename(to.join("incoming"), to.join(name)).unwrap();
    };
    let former = stage.home.certs.clone();

    put("agent.crt");
    let complaint = stage.agent.until("the former stay in force", FOLLOWS).await.unwrap();
    assert!(complaint.contains("does not belong to"), "{complaint}");
    client::operator(address, &former).await.unwrap();
    put("agent.key");
    put("ca.crt");
    stage.agent.until("new certificates are in force", FOLLOWS).await.unwrap();
    let api = eventually("a connection with the new certificates", FOLLOWS, async || {
        Ok(client::operator(address, &newer).await.ok())
    });
    let mut api = api.await.unwrap();
    api.list_v_ms(ListVMsRequest::default()).await.unwrap();
    let old = Ctl::over_tls_as(address, &newer, &former.operator()).unwrap();
    assert_eq!(old.run(["vm", "list"]).await.unwrap().code, Some(9), "the former operator");
    stage.api.list_v_ms(ListVMsRequest::default()).await.unwrap();
    let complaints = stage.agent.log();
    let complaints = complaints.iter().filter(|line| line.contains("the former stay in force"));
    assert_eq!(complaints.count(), 1);
    stage.stop().await;
}
