//! Judges libvirt by what virsh printed.

use super::facts::{Ran, Socket};
use super::finding::Finding;
use super::host::{self, GIB};
use super::kvm::{Accounts, own_membership};

const START: &str =
    "sudo systemctl start libvirtd (without systemd: virtlogd -d; libvirtd -d), or ./dev setup";

/// Does libvirtd answer, and to us?
pub(super) fn reachable(version: &Ran, socket: &Socket, accounts: &Accounts) -> Finding {
    const CHECK: &str = "libvirtd";
    match (version, socket) {
        (Ran::Printed(text), _) => Finding::ok(CHECK, format!("answers: {}", versions(text))),
        (Ran::Missing, _) => Finding::failed(
            CHECK,
            "there is no virsh to ask with",
            "install libvirt-clients (Debian) or libvirt-client (Fedora)",
        ),
        (Ran::Hung, _) => Finding::failed(
            CHECK,
            "does not answer in 10 s",
            "sudo systemctl restart libvirtd; running VMs go on",
        ),
        (Ran::Failed(_) | Ran::Skipped, Socket::Missing) => {
            Finding::failed(CHECK, "has no socket in /run/libvirt", START)
        }
        (Ran::Failed(_) | Ran::Skipped, Socket::Dead) => {
            Finding::failed(CHECK, "nobody listens on its socket", START)
        }
        (Ran::Failed(_) | Ran::Skipped, Socket::Forbidden) => forbidden(accounts),
        (Ran::Failed(why), Socket::Accepts)
            if own_membership(accounts, "libvirt") == Some(false) =>
        {
            Finding { found: format!("refuses you: {}", last_line(why)), ..forbidden(accounts) }
        }
        (Ran::Failed(why), Socket::Accepts) => Finding::failed(
            CHECK,
            format!("refuses: {}", last_line(why)),
            "look at journalctl -u libvirtd",
        ),
        (Ran::Skipped, Socket::Accepts) => Finding::failed(CHECK, "was not asked", START),
    }
}

fn forbidden(accounts: &Accounts) -> Finding {
    let remedy = match own_membership(accounts, "libvirt") {
        None => {
            "sudo groupadd --system libvirt, set unix_sock_group in /etc/libvirt/libvirtd.conf to it, and join it"
        }
        Some(_) => "sudo usermod -aG libvirt $USER, then log in again",
    };
    Finding::failed("libvirtd", "you may not use its socket: you are not in group libvirt", remedy)
}

fn versions(text: &str) -> String {
    let value = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
    match (value("Running against daemon:"), value("Running hypervisor:")) {
        (Some(daemon), Some(hypervisor)) => format!("libvirt {daemon}, {hypervisor}"),
        (Some(daemon), None) => format!("libvirt {daemon}"),
        (None, _) => "of unknown version".to_owned(),
    }
}

/// The last line that says something, without virsh's `error: `.
fn last_line(text: &str) -> &str {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    line.strip_prefix("error: ").unwrap_or(line).trim()
}

/// Consoles of guests are logged through virtlogd.
pub(super) fn virtlogd(socket: &Socket) -> Finding {
    const CHECK: &str = "virtlogd";
    match socket {
        // Only root may talk to it; that it is there is what counts.
        Socket::Accepts | Socket::Forbidden => Finding::ok(CHECK, "has its socket"),
        Socket::Dead => Finding::failed(
            CHECK,
            "nobody listens on its socket: no VM can start",
            "sudo systemctl restart virtlogd.socket (without systemd: virtlogd -d)",
        ),
        Socket::Missing => Finding::failed(
            CHECK,
            "does not run: no VM can start",
            "sudo systemctl enable --now virtlogd.socket (without systemd: virtlogd -d)",
        ),
    }
}

/// Why an object of libvirt could not be looked at.
fn unseen(check: &'static str, what: &str, ran: &Ran, remedy: String) -> Finding {
    match ran {
        Ran::Failed(why) => Finding::failed(check, format!("{what}: {}", last_line(why)), remedy),
        Ran::Hung => Finding::failed(
            check,
            format!("{what}: libvirtd does not answer in 10 s"),
            "sudo systemctl restart libvirtd",
        ),
        Ran::Printed(_) | Ran::Missing | Ran::Skipped => {
            Finding::warning(check, format!("{what}: not looked at"), "make libvirtd answer first")
        }
    }
}

/// `Label:   value` lines, as virsh prints them.
fn field<'a>(text: &'a str, label: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':')).map_or("", str::trim)
}

/// Is the pool active, kept over a restart, and not full?
pub(super) fn pool(name: &str, ran: &Ran) -> Finding {
    const CHECK: &str = "pool";
    let define = format!(
        "virsh -c qemu:///system pool-define-as {name} dir --target /var/lib/libvirt/images && virsh -c qemu:///system pool-start {name} --build"
    );
    let Ran::Printed(text) = ran else { return unseen(CHECK, name, ran, define) };
    if field(text, "State") != "running" {
        return Finding::failed(
            CHECK,
            format!("{name} is not active"),
            format!("virsh -c qemu:///system pool-start {name}"),
        );
    }
    let free = field(text, "Available").parse::<u64>().unwrap_or(0);
    if let Some(finding) = host::scarce(CHECK, &format!("pool {name}"), free) {
        return finding;
    }
    if field(text, "Autostart") != "yes" {
        return Finding::warning(
            CHECK,
            format!("{name} is active but not started with libvirtd"),
            format!("virsh -c qemu:///system pool-autostart {name}"),
        );
    }
    Finding::ok(CHECK, format!("{name} is active, {} GiB free", free / GIB))
}

/// Is the network active, kept over a restart, and is there a DHCP server for it?
pub(super) fn network(name: &str, ran: &Ran, dnsmasq: bool) -> Finding {
    const CHECK: &str = "network";
    let define = format!(
        "virsh -c qemu:///system net-define /usr/share/libvirt/networks/{name}.xml, or ./dev setup"
    );
    let Ran::Printed(text) = ran else { return unseen(CHECK, name, ran, define) };
    if !dnsmasq {
        return Finding::failed(
            CHECK,
            "there is no dnsmasq: no guest would get an address",
            "install dnsmasq-base (Debian) or dnsmasq (Fedora)",
        );
    }
    if field(text, "Active") != "yes" {
        return Finding::failed(
            CHECK,
            format!("{name} is not active"),
            format!("virsh -c qemu:///system net-start {name}"),
        );
    }
    if field(text, "Autostart") != "yes" {
        return Finding::warning(
            CHECK,
            format!("{name} is active but not started with libvirtd"),
            format!("virsh -c qemu:///system net-autostart {name}"),
        );
    }
    Finding::ok(CHECK, format!("{name} is active on {}", field(text, "Bridge")))
}

/// Each VM's port is filtered by libvirt's clean-traffic.
pub(super) fn nwfilter(ran: &Ran) -> Finding {
    const CHECK: &str = "nwfilter";
    let remedy = "install libvirt-daemon-config-nwfilter and restart libvirtd";
    let Ran::Printed(text) = ran else {
        return unseen(CHECK, "clean-traffic", ran, remedy.to_owned());
    };
    if text.lines().any(|line| line.split_whitespace().nth(1) == Some("clean-traffic")) {
        return Finding::ok(CHECK, "clean-traffic is there");
    }
    Finding::failed(
        CHECK,
        "libvirt has no filter clean-traffic: guests could forge addresses",
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn printed(text: &str) -> Ran {
        Ran::Printed(text.to_owned())
    }

    fn accounts(in_group: bool) -> Accounts {
        let own_groups = if in_group { vec![106] } else { vec![1000] };
        let empty = String::new;
        Accounts {
            passwd: empty(),
            group: "libvirt:x:106:\n".to_owned(),
            qemu_conf: empty(),
            own_uid: 1000,
            own_groups,
        }
    }

    #[test]
    fn each_way_to_miss_libvirtd_has_its_remedy() {
        let refused = Ran::Failed(
            "error: failed to connect\nerror: authentication unavailable\n\n".to_owned(),
        );
        for (version, socket, member, word) in [
            (Ran::Missing, Socket::Accepts, true, "libvirt-client"),
            (Ran::Hung, Socket::Accepts, true, "restart libvirtd"),
            (refused.clone(), Socket::Missing, true, "start libvirtd"),
            (refused.clone(), Socket::Dead, true, "start libvirtd"),
            (refused.clone(), Socket::Forbidden, false, "usermod -aG libvirt"),
            (refused.clone(), Socket::Accepts, false, "usermod -aG libvirt"),
            (refused, Socket::Accepts, true, "journalctl"),
        ] {
            let finding = reachable(&version, &socket, &accounts(member));
            assert_eq!(finding.verdict, Verdict::Failed, "{finding:?}");
            assert!(
                finding.remedy.as_deref().is_some_and(|remedy| remedy.contains(word)),
                "{finding:?}"
            );
        }
    }

    #[test]
    fn an_answering_libvirtd_shows_its_versions() {
        let text = "Using library: libvirt 9.0.0\nRunning hypervisor: QEMU 7.2.22\nRunning against daemon: 9.0.0\n";
        let finding = reachable(&printed(text), &Socket::Accepts, &accounts(true));
        assert_eq!(finding, Finding::ok("libvirtd", "answers: libvirt 9.0.0, QEMU 7.2.22"));
    }

    #[test]
    fn a_pool_must_be_active_have_room_and_come_back() {
        let text = |state: &str, auto: &str, free: u64| {
            printed(&format!(
                "Name:           p\nState:          {state}\nAutostart:      {auto}\nAvailable:      {free}\n"
            ))
        };
        for (ran, verdict) in [
            (text("running", "yes", 100 * GIB), Verdict::Ok),
            (text("running", "no", 100 * GIB), Verdict::Warning),
            (text("running", "yes", 15 * GIB), Verdict::Warning),
            (text("running", "yes", 9 * GIB), Verdict::Failed),
            (text("inactive", "yes", 100 * GIB), Verdict::Failed),
            (Ran::Failed("error: Storage pool not found".to_owned()), Verdict::Failed),
            (Ran::Skipped, Verdict::Warning),
        ] {
            assert_eq!(pool("p", &ran).verdict, verdict, "{ran:?}");
        }
    }

    #[test]
    fn a_network_must_be_active_have_dnsmasq_and_come_back() {
        let text = |active: &str, auto: &str| {
            printed(&format!("Name:  n\nActive:  {active}\nAutostart:  {auto}\nBridge:  virbr0\n"))
        };
        for (ran, dnsmasq, verdict) in [
            (text("yes", "yes"), true, Verdict::Ok),
            (text("yes", "yes"), false, Verdict::Failed),
            (text("yes", "no"), true, Verdict::Warning),
            (text("no", "yes"), true, Verdict::Failed),
            (Ran::Failed("error: Network not found".to_owned()), true, Verdict::Failed),
            (Ran::Skipped, true, Verdict::Warning),
        ] {
            assert_eq!(network("n", &ran, dnsmasq).verdict, verdict, "{ran:?}");
        }
    }

    #[test]
    fn a_filter_of_a_similar_name_does_not_count() {
        assert_eq!(
            nwfilter(&printed(" 192d   allow-arp\n 792d   clean-traffic\n")).verdict,
            Verdict::Ok
        );
        assert_eq!(nwfilter(&printed(" 792d   clean-traffic-gateway\n")).verdict, Verdict::Failed);
    }

    #[test]
    fn a_dead_virtlogd_is_found() {
        assert_eq!(virtlogd(&Socket::Forbidden).verdict, Verdict::Ok);
        assert_eq!(virtlogd(&Socket::Dead).verdict, Verdict::Failed);
        assert_eq!(virtlogd(&Socket::Missing).verdict, Verdict::Failed);
    }
}
