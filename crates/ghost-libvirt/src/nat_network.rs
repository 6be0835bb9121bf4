//! Addresses, as static DHCP hosts of one of libvirt's networks.
//!
//! Invariant: no two VMs have one address: picks are made one at a time, and libvirt refuses a second
//! host with the same address, MAC or name. A host is ours if it has the VM's MAC **and** the
//! name `ghost-UUID`; no other is touched. The name also keeps VM names out of the network's DNS,
//! where each guest could read them all.

mod dhcp;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ghost_core::domain::{AppError, MacAddr, VmId, VmName};
use ghost_core::ports::{Lease, Network as NetworkPort, PortResult};
use jiff::Timestamp;
use tokio::sync::{Mutex, MutexGuard};

use crate::executor::{Effort, Executor};
use crate::failure::Failure;
use crate::sys::{Conn, DhcpLease, HostUpdate, Network, NetworkXml, Reach};
use crate::xml::Element;
use dhcp::{Dhcp, Recent};

/// Picks that others may spoil before we give up.
const ATTEMPTS: usize = 8;
/// How long one waits for one's turn. libvirt writes its firewall rules anew for each change of a running
/// network's hosts, which takes it about half a second.
const TURN: Duration = Duration::from_secs(600);

/// The network port.
#[derive(Debug)]
pub(crate) struct NatNetwork {
    calls: Arc<Executor>,
    network: Arc<str>,
    recent: Arc<std::sync::Mutex<Recent>>,
    one_at_a_time: Mutex<()>,
}

impl NatNetwork {
    pub(crate) fn new(calls: Arc<Executor>, network: Arc<str>) -> Self {
        Self { calls, network, recent: Arc::default(), one_at_a_time: Mutex::default() }
    }

    async fn turn(&self, what: &'static str) -> Result<MutexGuard<'_, ()>, Failure> {
        let turn = tokio::time::timeout(TURN, self.one_at_a_time.lock()).await;
        turn.map_err(|_elapsed| Failure::TimedOut { what, limit: TURN })
    }
}

/// The network.
pub(crate) fn find(conn: &Conn, name: &str) -> Result<Network, Failure> {
    match conn.network(name) {
        Err(error) if error.is_missing() => Err(Failure::NoNetwork(name.to_owned())),
        other => Ok(other?),
    }
}

/// The network, if it runs and hands out addresses.
pub(crate) fn ready(conn: &Conn, name: &str) -> Result<Network, Failure> {
    let network = find(conn, name)?;
    if !network.is_active()? {
        return Err(Failure::NetworkInactive(name.to_owned()));
    }
    Dhcp::parse(&network.xml(NetworkXml::Live)?, name)?;
    Ok(network)
}

fn host_name(id: VmId) -> String {
    format!("ghost-{id}")
}

fn host_xml(id: VmId, address: Ipv4Addr) -> Result<String, Failure> {
    Element::new("host")
        .attr("mac", MacAddr::of(id))
        .attr("name", host_name(id))
        .attr("ip", address)
        .render()
        .map_err(|e| Failure::Xml { what: "the new host", why: e.to_string() })
}

fn reserve(
    conn: &Conn,
    name: &str,
    id: VmId,
    recent: &std::sync::Mutex<Recent>,
) -> Result<Ipv4Addr, Failure> {
    let network = find(conn, name)?;
    if !network.is_active()? {
        return Err(Failure::NetworkInactive(name.to_owned()));
    }
    let mac = MacAddr::of(id).to_string();
    let mut size = 0;
    for _ in 0..ATTEMPTS {
        let live = Dhcp::parse(&network.xml(NetworkXml::Live)?, name)?;
        let config = match network.is_persistent()? {
            true => Some(Dhcp::parse(&network.xml(NetworkXml::Config)?, name)?),
            false => None,
        };
        if let Some(host) = live.host(&mac).or_else(|| config.as_ref()?.host(&mac)) {
            if host.name != host_name(id) {
                return Err(Failure::MacTaken { network: name.to_owned(), mac });
            }
            complete(&network, id, host.address, &live, config.as_ref())?;
            return Ok(host.address);
        }
        let recent = recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let leased = addresses_of_others(&network.leases(None)?, &mac);
        size = live.size();
        let Some(address) = live.pick(config.as_ref(), &leased, &recent) else { break };
        let reach = if config.is_some() { Reach::Both } else { Reach::Live };
        match network.update_host(HostUpdate::Add, &host_xml(id, address)?, reach) {
            // Somebody else took it; look again.
            Err(error) if error.is_of_state() => continue,
            other => other?,
        }
        // The DHCP server may have leased it to somebody in between; it would keep that promise.
        if !addresses_of_others(&network.leases(None)?, &mac).contains(&address) {
            return Ok(address);
        }
        network.update_host(HostUpdate::Delete, &host_xml(id, address)?, reach)?;
    }
    Err(Failure::NoAddress { network: name.to_owned(), size })
}

/// Adds the VM's host where only one of the network's two descriptions has it.
fn complete(
    network: &Network,
    id: VmId,
    address: Ipv4Addr,
    live: &Dhcp,
    config: Option<&Dhcp>,
) -> Result<(), Failure> {
    let mac = MacAddr::of(id).to_string();
    let host = host_xml(id, address)?;
    if live.host(&mac).is_none() {
        network.update_host(HostUpdate::Add, &host, Reach::Live)?;
    }
    if config.is_some_and(|config| config.host(&mac).is_none()) {
        network.update_host(HostUpdate::Add, &host, Reach::Config)?;
    }
    Ok(())
}

fn release(
    conn: &Conn,
    name: &str,
    id: VmId,
    recent: &std::sync::Mutex<Recent>,
) -> Result<(), Failure> {
    let network = match find(conn, name) {
        // Its hosts went with it.
        Err(Failure::NoNetwork(_)) => return Ok(()),
        other => other?,
    };
    let mac = MacAddr::of(id).to_string();
    let ours = |xml: NetworkXml| -> Result<Option<Ipv4Addr>, Failure> {
        let dhcp = Dhcp::parse(&network.xml(xml)?, name)?;
        Ok(dhcp.host(&mac).filter(|host| host.name == host_name(id)).map(|host| host.address))
    };
    let live = if network.is_active()? { ours(NetworkXml::Live)? } else { None };
    let config = if network.is_persistent()? { ours(NetworkXml::Config)? } else { None };
    let delete = |address, reach| {
        network
            .update_host(HostUpdate::Delete, &host_xml(id, address)?, reach)
            .map_err(Failure::from)
    };
    match (live, config) {
        (Some(live), Some(config)) if live == config => delete(live, Reach::Both)?,
        (live, config) => {
            config.map_or(Ok(()), |address| delete(address, Reach::Config))?;
            live.map_or(Ok(()), |address| delete(address, Reach::Live))?;
        }
    }
    if let Some(address) = live.or(config) {
        recent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(address);
    }
    Ok(())
}

fn addresses_of_others(leases: &[DhcpLease], mac: &str) -> Vec<Ipv4Addr> {
    leases
        .iter()
        .filter(|lease| lease.mac != mac)
        .filter_map(|lease| lease.address.parse().ok())
        .collect()
}

fn newest(leases: &[DhcpLease]) -> Option<Lease> {
    let newest = leases
        .iter()
        .filter_map(|lease| Some((expiry(lease.expires), lease.address.parse().ok()?)))
        .max_by_key(|(expires_at, _)| *expires_at)?;
    Some(Lease { address: newest.1, expires_at: newest.0 })
}

/// libvirt's 0 stands for a lease that never ends.
fn expiry(seconds: i64) -> Timestamp {
    match seconds {
        0 => Timestamp::MAX,
        seconds => Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX),
    }
}

#[async_trait]
impl NetworkPort for NatNetwork {
    async fn assign_address(&self, id: VmId, _name: &VmName) -> PortResult<Ipv4Addr> {
        let _turn = self.turn("reserve an address").await.map_err(|e| about(e, id))?;
        let (network, recent) = (Arc::clone(&self.network), Arc::clone(&self.recent));
        let reserve = move |conn: &Conn| reserve(conn, &network, id, &recent);
        self.calls
            .call_for(id, "reserve an address", Effort::Slow, reserve)
            .await
            .map_err(|e| about(e, id))
    }

    async fn release_address(&self, id: VmId) -> PortResult<()> {
        let _turn = self.turn("give the address back").await.map_err(|e| about(e, id))?;
        let (network, recent) = (Arc::clone(&self.network), Arc::clone(&self.recent));
        let release = move |conn: &Conn| release(conn, &network, id, &recent);
        self.calls
            .call_for(id, "give the address back", Effort::Slow, release)
            .await
            .map_err(|e| about(e, id))
    }

    async fn lease(&self, id: VmId) -> PortResult<Option<Lease>> {
        let network = Arc::clone(&self.network);
        let ask = move |conn: &Conn| {
            let mac = MacAddr::of(id).to_string();
            Ok(newest(&find(conn, &network)?.leases(Some(&mac))?))
        };
        self.calls.ask("read the VM's lease", Effort::Quick, ask).await.map_err(|e| about(e, id))
    }
}

fn about(error: Failure, id: VmId) -> AppError {
    AppError::from(error).with("vm_id", id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(mac: &str, address: &str, expires: i64) -> DhcpLease {
        DhcpLease { mac: mac.to_owned(), address: address.to_owned(), expires }
    }

    #[test]
    fn the_newest_lease_counts_and_ipv6_does_not() {
        let leases = [
            lease("m", "192.0.2.1", 100),
            lease("m", "192.0.2.2", 200),
            lease("m", "2001:db8::1", 300),
        ];
        let newest_is = newest(&leases).unwrap();
        assert_eq!(newest_is.address, Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(newest_is.expires_at, Timestamp::from_second(200).unwrap());
        assert_eq!(newest(&[]), None);
    }

    #[test]
    fn a_lease_without_an_end_is_the_newest() {
        let leases = [lease("m", "192.0.2.1", 0), lease("m", "192.0.2.2", 200)];
        assert_eq!(newest(&leases).unwrap().address, Ipv4Addr::new(192, 0, 2, 1));
    }

    #[test]
    fn a_lease_of_ones_own_does_not_block_an_address() {
        let leases = [lease("a", "192.0.2.1", 1), lease("b", "192.0.2.2", 1)];
        assert_eq!(addresses_of_others(&leases, "a"), [Ipv4Addr::new(192, 0, 2, 2)]);
    }
}
