//! The screen. Invariant: nothing that the agent, or a guest, said commands the terminal; what is wrong stands with its remedy,
//! first of all.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{Check, Host, Report};
use crate::cmds::node::Amounts;
use crate::cmds::vm::list::Row;
use crate::output::{self, printable};

const BOLD: &str = "\u{1b}[1m";
const GOOD: &str = "\u{1b}[32m";
const POOR: &str = "\u{1b}[33m";
const BAD: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// VMs that are listed; `agentctl vm list` shows all.
const MOST_VMS: usize = 20;

/// Draws it, in lines of at most `width` columns where words allow.
pub(super) fn draw(report: &Report, now: Timestamp, width: usize) -> String {
    let mut text = head(report, now);
    let wrong: Vec<&Check> = report.checks.iter().filter(|check| check.status != "up").collect();
    if !wrong.is_empty() {
        section(&mut text, "What to do");
        for alike in wrong.chunk_by(|one, next| saying(one) == saying(next)) {
            trouble(&mut text, alike, now, width);
        }
    }
    section(&mut text, "What runs");
    vms(&mut text, &report.vms);
    section(&mut text, "What it costs you");
    costs(&mut text, report, width);
    text
}

fn head(report: &Report, now: Timestamp) -> String {
    let colour = match report.status.as_str() {
        "healthy" => GOOD,
        "degraded" => POOR,
        _ => BAD,
    };
    let since = ago(&report.since, now).map_or_else(String::new, |since| format!(" for {since}"));
    let host = report.host.as_ref().map(|host| format!("{}, ", printable(&host.agent_name)));
    let on = report.host.as_ref().map(|host| format!(" on {}", printable(&host.acceleration)));
    let up = ago(&report.started_at, now).map(|up| format!(", up {up}"));
    let ready = if report.ready { "" } else { "; takes no commands now" };
    format!(
        "{BOLD}{colour}{}{PLAIN}{since}{ready}\n{}agent {}{}{}\n",
        printable(&report.status),
        host.unwrap_or_default(),
        printable(&report.version),
        on.unwrap_or_default(),
        up.unwrap_or_default(),
    )
}

fn section(text: &mut String, title: &str) {
    let _ = write!(text, "\n{BOLD}{title}{PLAIN}\n");
}

/// Checks that say the same are one trouble: libvirt's absence makes several of them.
fn saying(check: &Check) -> (&str, &str, &str) {
    (&check.status, &check.message, &check.remedy)
}

fn trouble(text: &mut String, alike: &[&Check], now: Timestamp, width: usize) {
    let Some(check) = alike.first() else { return };
    let names: Vec<_> = alike.iter().map(|check| printable(&check.name)).collect();
    let colour = if check.status == "down" { BAD } else { POOR };
    let since = ago(&check.since, now).map_or_else(String::new, |since| format!(" for {since}"));
    let what =
        format!("  {colour}{}{PLAIN} {}{since}: ", names.join(", "), printable(&check.status));
    let _ = writeln!(text, "{}", what.trim_end());
    for (mark, words) in [("    ", &check.message), ("  ▶ ", &check.remedy)] {
        if !words.is_empty() {
            text.push_str(&wrapped(&printable(words), mark, width));
        }
    }
}

fn vms(text: &mut String, vms: &[Row]) {
    if vms.is_empty() {
        text.push_str("  no VMs; make one with: agentctl vm create\n");
        return;
    }
    let address = |row: &Row| match row.ip_address.as_str() {
        "" => "-".to_owned(),
        address => address.to_owned(),
    };
    let cells: Vec<Vec<String>> = vms
        .iter()
        .take(MOST_VMS)
        .map(|row| vec![row.name.clone(), row.status.clone(), address(row), row.reason.clone()])
        .collect();
    let table = output::table(&["NAME", "STATUS", "ADDRESS", ""], &cells);
    for line in table.lines() {
        let _ = writeln!(text, "  {line}");
    }
    if let Some(more) = vms.len().checked_sub(MOST_VMS).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more: agentctl vm list");
    }
}

fn costs(text: &mut String, report: &Report, width: usize) {
    let metric = |name: &str| report.metrics.get(name).copied();
    let memory = metric("memory_mb").map(|mb| output::bytes(mb * 1e6));
    let cpu =
        metric("cpu_percent").map(|percent| format!("{} % of a CPU", output::decimal(percent)));
    let threads = metric("threads").map(|threads| format!("{threads} threads"));
    let agent: Vec<String> = [memory, cpu, threads].into_iter().flatten().collect();
    let _ = writeln!(text, "  agent   {}", agent.join(", "));
    let Some(Host { cpu, ram, disk, .. }) = &report.host else {
        text.push_str(
            "  VMs     not known: libvirt, or its storage pool, was away since the start\n",
        );
        return;
    };
    let cpus: fn(f64) -> String = output::decimal;
    for (label, amounts, say) in
        [("CPU", cpu, cpus), ("memory", ram, output::bytes), ("disk", disk, output::bytes)]
    {
        let words = amounts.as_ref().map_or_else(|| "not known".to_owned(), |one| share(one, say));
        text.push_str(&wrapped(&words, &format!("  {label:<8}"), width));
    }
}

/// VMs' part of one resource, against what the owner keeps.
fn share(amounts: &Amounts, say: fn(f64) -> String) -> String {
    let Amounts { total, reserved, allocated, used, available, deficit, .. } = *amounts;
    let percent = if total > 0.0 { used / total * 100.0 } else { 0.0 };
    let mut words = format!(
        "VMs use {} of {} ({percent:.0} %), may use {}; yours alone {}; free for VMs {}",
        say(used),
        say(total),
        say(allocated),
        say(reserved),
        say(available)
    );
    if deficit > 0.0 {
        let _ = write!(words, "; they hold {} more than you leave them", say(deficit));
    }
    words
}

/// `words` behind `mark`, further lines as far in.
fn wrapped(words: &str, mark: &str, width: usize) -> String {
    let indent = mark.chars().count();
    let (mut text, mut at) = (mark.to_owned(), indent);
    for (number, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        if number > 0 && at + 1 + length > width {
            let _ = write!(text, "\n{}", " ".repeat(indent));
            at = indent;
        } else if number > 0 {
            text.push(' ');
            at += 1;
        }
        text.push_str(word);
        at += length;
    }
    text.push('\n');
    text
}

/// How long ago that was, in words; nothing if it is no moment or none in the past.
fn ago(moment: &str, now: Timestamp) -> Option<String> {
    let moment: Timestamp = moment.parse().ok()?;
    let seconds = u64::try_from(now.duration_since(moment).as_secs()).ok()?;
    Some(output::duration(seconds))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const GIB: f64 = (1_u64 << 30) as f64;

    fn amounts(total: f64, reserved: f64, allocated: f64, used: f64) -> Amounts {
        let left = total - reserved - allocated;
        let (available, deficit) = (left.max(0.0), (-left).max(0.0));
        Amounts { total, reserved, allocated, used, available, deficit, overcommit: 1.0 }
    }

    fn check(name: &str, status: &str, message: &str, remedy: &str) -> Check {
        Check {
            name: name.to_owned(),
            status: status.to_owned(),
            message: message.to_owned(),
            remedy: remedy.to_owned(),
            since: "2026-03-01T11:59:18Z".to_owned(),
            checked_at: "2026-03-01T12:00:00Z".to_owned(),
        }
    }

    fn row(name: &str, status: &str, ip_address: &str, reason: &str) -> Row {
        Row {
            name: name.to_owned(),
            status: status.to_owned(),
            ip_address: ip_address.to_owned(),
            vm_id: format!("id-of-{name}"),
            reason: reason.to_owned(),
        }
    }

    fn well() -> Report {
        Report {
            status: "healthy".to_owned(),
            since: "2026-03-01T09:55:00.123Z".to_owned(),
            ready: true,
            version: "0.1.0".to_owned(),
            started_at: "2026-02-26T08:00:00Z".to_owned(),
            timestamp: "2026-03-01T12:00:00Z".to_owned(),
            checks: vec![check("libvirt", "up", "", "")],
            metrics: BTreeMap::from([
                ("memory_mb".to_owned(), 24.117_248),
                ("cpu_percent".to_owned(), 0.21),
                ("threads".to_owned(), 14.0),
            ]),
            host: Some(Host {
                agent_name: "pc-7".to_owned(),
                acceleration: "kvm".to_owned(),
                cpu: Some(amounts(16.0, 4.0, 6.0, 1.5)),
                ram: Some(amounts(32.0 * GIB, 8.0 * GIB, 12.0 * GIB, 9.5 * GIB)),
                disk: Some(amounts(500.0 * GIB, 125.0 * GIB, 60.0 * GIB, 12.0 * GIB)),
            }),
            vms: vec![
                row("db", "stopped", "", "its guest powered it off"),
                row("web-1", "running", "192.168.122.50", ""),
            ],
        }
    }

    fn drawn(report: &Report, width: usize) -> String {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        anstream::adapter::strip_str(&draw(report, now, width)).to_string()
    }

    #[test]
    fn an_agent_that_is_well() {
        let expected = "\
healthy for 2 h 4 min
pc-7, agent 0.1.0 on kvm, up 3 d 4 h

What runs
  NAME   STATUS   ADDRESS
  db     stopped  -               its guest powered it off
  web-1  running  192.168.122.50

What it costs you
  agent   23 MiB, 0.2 % of a CPU, 14 threads
  CPU     VMs use 1.5 of 16 (9 %), may use 6; yours alone 4; free for VMs 6
  memory  VMs use 9.5 GiB of 32 GiB (30 %), may use 12 GiB; yours alone 8 GiB;
          free for VMs 12 GiB
  disk    VMs use 12 GiB of 500 GiB (2 %), may use 60 GiB; yours alone 125 GiB;
          free for VMs 315 GiB
";
        assert_eq!(drawn(&well(), 80), expected);
    }

    #[test]
    fn an_agent_whose_libvirt_was_never_there() {
        let report = Report {
            status: "unhealthy".to_owned(),
            since: "2026-03-01T11:59:18Z".to_owned(),
            ready: false,
            checks: vec![
                check(
                    "libvirt",
                    "down",
                    "libvirt is away: Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
                    "start it: systemctl start libvirtd; guests run on meanwhile",
                ),
                check("acceleration", "degraded", "guests are emulated", "switch on VT-x"),
                check("ledger", "up", "", ""),
            ],
            host: None,
            vms: Vec::new(),
            ..well()
        };
        let expected = "\
unhealthy for 42 s; takes no commands now
agent 0.1.0, up 3 d 4 h

What to do
  libvirt down for 42 s:
    libvirt is away: Failed to connect socket to
    '/var/run/libvirt/libvirt-sock': No such file or
    directory
  ▶ start it: systemctl start libvirtd; guests run on
    meanwhile
  acceleration degraded for 42 s:
    guests are emulated
  ▶ switch on VT-x

What runs
  no VMs; make one with: agentctl vm create

What it costs you
  agent   23 MiB, 0.2 % of a CPU, 14 threads
  VMs     not known: libvirt, or its storage pool, was away since the start
";
        assert_eq!(drawn(&report, 60), expected);
    }

    #[test]
    fn checks_that_say_the_same_are_told_once() {
        let mut report = well();
        let unknown = |name| check(name, "degraded", "not known", "start libvirtd");
        report.checks = vec![
            unknown("network"),
            unknown("storage_pool"),
            check("log", "degraded", "not known", "make room"),
        ];
        let text = drawn(&report, 80);
        assert!(text.contains("  network, storage_pool degraded"), "{text}");
        assert_eq!(text.matches("start libvirtd").count(), 1, "{text}");
        assert!(text.contains("  log degraded"), "{text}");
    }

    #[test]
    fn what_an_agent_or_a_guest_says_commands_no_terminal() {
        let mut report = well();
        let evil = "a\u{1b}[2Jb";
        report.status = evil.to_owned();
        report.version = evil.to_owned();
        report.checks = vec![check(evil, evil, evil, evil)];
        report.vms = vec![row(evil, evil, evil, evil)];
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let text = draw(&report, now, 80);
        assert!(!text.contains("\u{1b}[2J") && text.contains("a\u{fffd}[2Jb"), "{text:?}");
    }

    #[test]
    fn of_very_many_vms_the_first_are_listed_and_the_others_counted() {
        let mut report = well();
        report.vms = (0..23).map(|n| row(&format!("vm-{n:02}"), "running", "", "")).collect();
        let text = drawn(&report, 80);
        assert!(text.contains("vm-19") && !text.contains("vm-20"), "{text}");
        assert!(text.contains("  and 3 more: agentctl vm list\n"), "{text}");
    }

    #[test]
    fn a_clock_that_is_behind_tells_no_time() {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        assert_eq!(ago("2026-03-01T12:00:01Z", now), None);
        assert_eq!(ago("yesterday", now), None);
        assert_eq!(ago("2026-03-01T11:59:59.5Z", now), Some("0 s".to_owned()));
    }
}
