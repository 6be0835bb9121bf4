//! What a network's XML says of its DHCP server, and which of its addresses is free.

use std::collections::{HashSet, VecDeque};
use std::net::Ipv4Addr;

use roxmltree::{Document, Node};

use crate::failure::Failure;

/// Released addresses that are not used again while there are others.
const RECENT: usize = 64;

/// A static host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// In lower case; may be empty.
    pub(super) mac: String,
    /// May be empty.
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
}

/// A network's DHCP server for IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dhcp {
    own: Option<Ipv4Addr>,
    ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    hosts: Vec<Host>,
}

/// Addresses that were given back last, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent(VecDeque<Ipv4Addr>);

impl Recent {
    pub(super) fn add(&mut self, address: Ipv4Addr) {
        self.0.retain(|a| *a != address);
        self.0.push_back(address);
        if self.0.len() > RECENT {
            self.0.pop_front();
        }
    }
}

impl Dhcp {
    /// Reads a network's XML.
    ///
    /// # Errors
    /// [`Failure::NoDhcp`] if it hands out no IPv4 addresses.
    pub(super) fn parse(xml: &str, network: &str) -> Result<Self, Failure> {
        let document = Document::parse(xml)
            .map_err(|e| Failure::Xml { what: "the network", why: e.to_string() })?;
        let is_v4 = |ip: &Node<'_, '_>| {
            ip.has_tag_name("ip") && matches!(ip.attribute("family"), None | Some("ipv4"))
        };
        let with_dhcp =
            |ip: Node<'_, '_>| ip.children().find(|n| n.has_tag_name("dhcp")).map(|dhcp| dhcp.id());
        let ips = document.root_element().children().filter(is_v4);
        let found = ips.filter_map(|ip| Some((ip, document.get_node(with_dhcp(ip)?)?))).next();
        let (ip, dhcp) = found.ok_or_else(|| Failure::NoDhcp(network.to_owned()))?;
        let ranges: Vec<_> = dhcp.children().filter_map(range).collect();
        if ranges.is_empty() {
            return Err(Failure::NoDhcp(network.to_owned()));
        }
        let own = ip.attribute("address").and_then(|a| a.parse().ok());
        Ok(Self { own, ranges, hosts: dhcp.children().filter_map(host).collect() })
    }

    /// The static host of this MAC address.
    pub(super) fn host(&self, mac: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.mac == mac)
    }

    /// Addresses in all ranges.
    pub(super) fn size(&self) -> usize {
        self.addresses().count()
    }

    /// The lowest free address; one that was given back lately only if there is no other, and then
    /// the one given back first.
    pub(super) fn pick(
        &self,
        config: Option<&Self>,
        leased: &[Ipv4Addr],
        recent: &Recent,
    ) -> Option<Ipv4Addr> {
        let hosts = self
            .hosts
            .iter()
            .chain(config.into_iter().flat_map(|c| &c.hosts))
            .map(|host| host.address);
        let taken: HashSet<Ipv4Addr> =
            hosts.chain(leased.iter().copied()).chain(self.own).collect();
        let free = self.addresses().filter(|address| !taken.contains(address));
        let unused = free.clone().find(|address| !recent.0.contains(address));
        unused.or_else(|| free.min_by_key(|address| recent.0.iter().position(|a| a == address)))
    }

    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + Clone + '_ {
        self.ranges
            .iter()
            .flat_map(|(start, end)| (start.to_bits()..=end.to_bits()).map(Ipv4Addr::from_bits))
    }
}

fn range(node: Node<'_, '_>) -> Option<(Ipv4Addr, Ipv4Addr)> {
    node.has_tag_name("range").then_some(())?;
    Some((node.attribute("start")?.parse().ok()?, node.attribute("end")?.parse().ok()?))
}

fn host(node: Node<'_, '_>) -> Option<Host> {
    node.has_tag_name("host").then_some(())?;
    let text = |name| node.attribute(name).unwrap_or_default();
    Some(Host {
        mac: text("mac").to_ascii_lowercase(),
        name: text("name").to_owned(),
        address: node.attribute("ip")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    fn dhcp(hosts: &[u8]) -> Dhcp {
        let host =
            |n: &u8| format!("<host mac='52:54:00:00:00:{n:02X}' name='h{n}' ip='192.0.2.{n}'/>");
        let hosts: String = hosts.iter().map(host).collect();
        let xml = format!(
            "<network><ip family='ipv6' address='2001:db8::1'><dhcp><range start='::2' end='::9'/></dhcp></ip>\
             <ip address='192.0.2.1' netmask='255.255.255.0'><dhcp><range start='192.0.2.1' end='192.0.2.6'/>{hosts}</dhcp></ip></network>"
        );
        Dhcp::parse(&xml, "default").unwrap()
    }

    #[test]
    fn hosts_are_found_by_mac_in_any_case() {
        let host = dhcp(&[10]).host("52:54:00:00:00:0a").cloned().unwrap();
        assert_eq!((host.name.as_str(), host.address), ("h10", ip(10)));
    }

    #[test]
    fn a_network_without_ranges_hands_out_nothing() {
        let without = [
            "<network/>",
            "<network><ip address='192.0.2.1'/></network>",
            "<network><ip><dhcp/></ip></network>",
        ];
        for xml in without {
            assert!(
                matches!(Dhcp::parse(xml, "lan"), Err(Failure::NoDhcp(n)) if n == "lan"),
                "{xml}"
            );
        }
    }

    #[test]
    fn the_lowest_free_address_is_picked_beside_reserved_leased_and_own_ones() {
        assert_eq!(dhcp(&[]).pick(None, &[], &Recent::default()), Some(ip(2)));
        assert_eq!(dhcp(&[2]).pick(Some(&dhcp(&[3])), &[ip(4)], &Recent::default()), Some(ip(5)));
        assert_eq!(dhcp(&[2, 3, 4, 5]).pick(None, &[ip(6)], &Recent::default()), None);
    }

    #[test]
    fn an_address_given_back_is_used_again_last_and_the_oldest_first() {
        let mut recent = Recent::default();
        [3, 2, 3].into_iter().for_each(|n| recent.add(ip(n)));
        assert_eq!(dhcp(&[]).pick(None, &[], &recent), Some(ip(4)));
        assert_eq!(dhcp(&[4, 5, 6]).pick(None, &[], &recent), Some(ip(2)));
        assert_eq!(dhcp(&[2, 4, 5, 6]).pick(None, &[], &recent), Some(ip(3)));
    }

    proptest! {
        #[test]
        fn whatever_is_picked_is_in_the_range_and_free(
            reserved in proptest::collection::vec(1u8..=8, 0..8),
            leased in proptest::collection::vec(1u8..=8, 0..8),
            released in proptest::collection::vec(1u8..=8, 0..8),
        ) {
            let leased: Vec<_> = leased.into_iter().map(ip).collect();
            let mut recent = Recent::default();
            released.into_iter().for_each(|n| recent.add(ip(n)));
            let is_free = |n: u8| !reserved.contains(&n) && !leased.contains(&ip(n));
            match dhcp(&reserved).pick(None, &leased, &recent) {
                Some(picked) => {
                    let n = picked.octets()[3];
                    prop_assert!((2..=6).contains(&n) && is_free(n));
                }
                None => prop_assert!(!(2..=6).any(is_free)),
            }
        }
    }
}
