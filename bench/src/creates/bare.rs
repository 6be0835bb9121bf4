//! The floor: the same VM with bare libvirt calls. Invariant: only the calls are timed that nobody
//! can do without: two volumes, the seed's bytes, a static host, define, start, and asking for the lease.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ghost_e2e::host::virsh;
use roxmltree::Document;

use super::pattern::{POOL, Pattern};
use super::twin::{NETWORK, Twin};
use crate::virsh::Virsh;

/// Between two questions for the lease.
const POLL: Duration = Duration::from_millis(10);
/// Longest wait for the lease, the agent's own.
const LEASE_LIMIT: Duration = Duration::from_secs(120);

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// From the first call to the lease.
    pub(crate) total: Duration,
    /// From the first call until the domain was started.
    pub(crate) started: Duration,
}

/// Makes and starts `twin`, and waits for its lease.
pub(crate) async fn create(
    virsh: &mut Virsh,
    pattern: &Pattern,
    twin: &Twin,
) -> anyhow::Result<Timing> {
    let calls = prepare(virsh, pattern, twin).await?;
    let clock = Instant::now();
    for call in &calls {
        virsh.run(call).await?;
    }
    let started = clock.elapsed();
    lease(virsh, &twin.mac).await?;
    Ok(Timing { total: clock.elapsed(), started })
}

/// The calls, with everything decided and written that they need. The console's log is made here,
/// untimed: a domain starts without it too.
async fn prepare(virsh: &mut Virsh, pattern: &Pattern, twin: &Twin) -> anyhow::Result<Vec<String>> {
    let address = free_address().await?.to_string();
    let log = twin.write("log", &twin.log_xml())?;
    virsh.run(&format!("vol-create --pool {POOL} {log}")).await?;
    let domain = twin.write("domain", &twin.xml(pattern, &address)?)?;
    let mut calls = volumes(pattern, twin)?;
    calls.push(format!(
        "net-update {NETWORK} add ip-dhcp-host \"{}\" --live --config",
        twin.host(&address)
    ));
    calls.push(format!("define {domain}"));
    calls.push(format!("start {}", twin.domain()));
    Ok(calls)
}

/// The calls that make disk and seed.
pub(crate) fn volumes(pattern: &Pattern, twin: &Twin) -> anyhow::Result<Vec<String>> {
    let disk = twin.write("disk", &twin.disk_xml(pattern))?;
    let seed = twin.write("seed", &twin.seed_xml(pattern)?)?;
    Ok(vec![
        format!("vol-create --pool {POOL} {disk}"),
        format!("vol-create --pool {POOL} {seed}"),
        format!("vol-upload --pool {POOL} --vol {} {}", twin.seed(), pattern.seed.display()),
    ])
}

/// Waits until the network card with that Ethernet address holds a lease.
pub(crate) async fn lease(virsh: &mut Virsh, mac: &str) -> anyhow::Result<()> {
    let ask = format!("net-dhcp-leases {NETWORK} --mac {mac}");
    let asking = async {
        while !virsh.run(&ask).await?.contains("ipv4") {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    };
    let asked = tokio::time::timeout(LEASE_LIMIT, asking).await;
    asked.with_context(|| {
        format!("the guest with {mac} took no address within {} s", LEASE_LIMIT.as_secs())
    })?
}

/// The highest free address: the agent takes the lowest.
async fn free_address() -> anyhow::Result<Ipv4Addr> {
    let xml = virsh(&["net-dumpxml", NETWORK]).await?;
    let leases = virsh(&["net-dhcp-leases", NETWORK]).await?;
    pick(&xml, &leases)?.with_context(|| {
        format!("network {NETWORK} has no free address; leases end an hour after they were given")
    })
}

fn pick(xml: &str, leases: &str) -> anyhow::Result<Option<Ipv4Addr>> {
    let network = Document::parse(xml)?;
    let hosts = network.descendants().filter(|node| node.has_tag_name("host"));
    let reserved = hosts.filter_map(|host| host.attribute("ip")?.parse().ok());
    let leased = leases.split_whitespace().filter_map(|word| word.split_once('/')?.0.parse().ok());
    let taken: HashSet<Ipv4Addr> = reserved.chain(leased).collect();
    let ranges = network.descendants().filter(|node| node.has_tag_name("range"));
    let ends = ranges.filter_map(|range| {
        let end = |name| range.attribute(name)?.parse::<Ipv4Addr>().ok();
        Some((end("start")?, end("end")?))
    });
    let mut addresses = ends.flat_map(|(start, end)| (start.to_bits()..=end.to_bits()).rev());
    Ok(addresses.by_ref().map(Ipv4Addr::from_bits).find(|address| !taken.contains(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = "<network><ip address='192.0.2.1'><dhcp><range start='192.0.2.2' end='192.0.2.5'/>\
        <host mac='52:54:00:00:00:01' name='a' ip='192.0.2.5'/></dhcp></ip></network>";

    fn lease(address: &str) -> String {
        format!(" 2026-01-01 10:00:00   52:54:00:00:00:02   ipv4   {address}/24   name   01:52\n")
    }

    #[test]
    fn the_highest_address_that_is_neither_reserved_nor_leased_is_picked() {
        let leases = lease("192.0.2.4");
        assert_eq!(pick(NETWORK, &leases).unwrap(), Some(Ipv4Addr::new(192, 0, 2, 3)));
    }

    #[test]
    fn a_network_whose_addresses_are_all_leased_gives_none() {
        let leases: String = ["192.0.2.2", "192.0.2.3", "192.0.2.4"].map(lease).concat();
        assert_eq!(pick(NETWORK, &leases).unwrap(), None);
    }
}
