//! The table of verdicts.

use std::time::Duration;

use ghost_core::application::{Link, LinkState};
use ghost_core::domain::control::{ControlError, Refusal};
use ghost_core::domain::{AppError, Bytes, ErrorKind, VpnState, VpnStatus};
use ghost_libvirt::{Acceleration, ConnectionState};
use jiff::{SignedDuration, Timestamp};

use super::super::looks::Seen;
use super::super::state_folder::StateFolder;
use super::super::verdict::{State, Verdict};
use super::*;
use crate::vpn::VpnView;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn seen<T>(last: Option<T>, waiting: u64) -> Seen<T> {
    Seen { last: last.map(|last| (last, NOW)), waiting: Duration::from_secs(waiting) }
}

/// Its state, and whether it says these words; what is wrong has a remedy.
fn told(verdict: &Verdict, words: &str) -> State {
    assert!(verdict.message.contains(words), "'{words}' in {verdict:?}");
    assert!(verdict.state == State::Up || !verdict.remedy.is_empty(), "{verdict:?}");
    verdict.state
}

fn away() -> AppError {
    AppError::new(ErrorKind::HypervisorUnavailable, "libvirt is away").remedy("start it")
}

fn missing(part: &str) -> AppError {
    let error = AppError::new(ErrorKind::NetworkUnavailable, format!("no {part}"));
    error.remedy(format!("make a {part}")).with(ghost_libvirt::PART, part)
}

#[test]
fn libvirt_is_as_its_connection_and_its_last_answer_say() {
    let well = || Some(Found::next(None, vec![], NOW));
    let out = || Some(Found::next(None, vec![away()], NOW));
    let lost = |why: &str| ConnectionState::Disconnected(why.to_owned());
    for (state, found, waiting, expected, words) in [
        (ConnectionState::Connected, well(), 0, State::Up, ""),
        (ConnectionState::Connected, None, 4, State::Up, ""),
        (ConnectionState::Connected, well(), 5, State::Degraded, "not answered for 5 s"),
        (ConnectionState::Connected, out(), 0, State::Down, "libvirt is away"),
        (ConnectionState::Connecting, None, 0, State::Down, "not reached yet"),
        (lost("keepalive timeout"), well(), 0, State::Down, "away: keepalive timeout"),
        (ConnectionState::Stopped, well(), 0, State::Down, "stopping"),
    ] {
        let verdict = libvirt(&state, &seen(found, waiting));
        assert_eq!(told(&verdict, words), expected, "{state:?}");
    }
    let denied = libvirt(&lost("Failed to connect: Permission denied"), &seen(None, 0));
    assert!(denied.remedy.contains("usermod -aG libvirt"), "{denied:?}");
    assert!(libvirt(&lost("gone"), &seen(None, 0)).remedy.contains("systemctl start libvirtd"));
    // To start what runs does nothing.
    let hangs = libvirt(&lost("libvirtd does not answer"), &seen(None, 0));
    assert!(hangs.remedy.contains("systemctl restart libvirtd"), "{hangs:?}");
}

#[test]
fn what_libvirt_lacks_is_told_of_the_part_that_lacks_it() {
    let found = Found::next(None, vec![missing("network"), missing("storage_pool")], NOW);
    let verdict = |name| part(name, &seen(Some(found.clone()), 0), NOW).0;
    assert_eq!(told(&verdict("network"), "no network"), State::Down);
    assert_eq!(verdict("network").remedy, "make a network");
    assert_eq!(told(&verdict("storage_pool"), "no storage_pool"), State::Down);
    assert_eq!(verdict("network_filter"), Verdict::UP);
}

#[test]
fn what_was_found_last_holds_while_libvirt_is_away_and_says_how_old_it_is() {
    let before = Found::next(None, vec![missing("network")], NOW);
    let found = Found::next(Some(before), vec![away()], NOW);
    let later = NOW + SignedDuration::from_secs(42);
    let (network, at) = part("network", &seen(Some(found.clone()), 0), later);
    assert_eq!(told(&network, "no network; libvirt has not answered for 42 s"), State::Down);
    assert_eq!(at, NOW);
    let (pool, _) = part("storage_pool", &seen(Some(found), 0), later);
    assert_eq!(told(&pool, "it was there; libvirt has not answered for 42 s"), State::Up);
    let never = Found::next(None, vec![away()], NOW);
    let (unknown, _) = part("network", &seen(Some(never), 0), later);
    assert_eq!(told(&unknown, "not known"), State::Degraded);
    assert_eq!(part("network", &seen(None, 4), later).0, Verdict::UP, "just begun");
    assert_eq!(part("network", &seen(None, 5), later).0.state, State::Degraded);
}

#[test]
fn without_room_for_a_record_no_vm_can_be_made() {
    let folder = |free: u64, refuses: Option<&str>| {
        Some(StateFolder { free: Bytes(free), refuses: refuses.map(str::to_owned) })
    };
    for (found, waiting, expected, words) in [
        (None, 0, State::Up, ""),
        (folder(64 << 20, None), 0, State::Up, ""),
        (folder((64 << 20) - 1, None), 0, State::Down, "64 MiB left, and needs 64 MiB"),
        (folder(1 << 40, Some("Read-only")), 0, State::Down, "Read-only"),
        (folder(1 << 40, None), 5, State::Down, "not answered for 5 s"),
        (None, 600, State::Down, "not answered for 600 s"),
    ] {
        let verdict = ledger(&seen(found.clone(), waiting));
        assert_eq!(told(&verdict, words), expected, "{found:?}");
    }
}

#[test]
fn an_image_that_failed_its_verification_is_named() {
    let bad = |names: &[&str]| {
        Some(Images::Quarantined(names.iter().map(|name| (*name).to_owned()).collect()))
    };
    assert_eq!(images(&seen(None, 29)), Verdict::UP);
    assert_eq!(images(&seen(bad(&[]), 0)), Verdict::UP);
    assert_eq!(told(&images(&seen(bad(&["x"]), 0)), "no new VM: x"), State::Degraded);
    let several = images(&seen(bad(&["x", "y", "z"]), 0));
    assert_eq!(told(&several, "x, and 2 more"), State::Degraded);
    let broken = Images::of(Err(AppError::new(ErrorKind::Internal, "no disk")));
    assert_eq!(told(&images(&seen(Some(broken), 0)), "no disk"), State::Degraded);
    assert_eq!(told(&images(&seen(bad(&[]), 30)), "for 30 s"), State::Degraded);
}

#[test]
fn a_control_plane_that_is_away_degrades_and_no_more() {
    let state = |link| LinkState { link, last_heard: None };
    let transient = ControlError::transient("nobody is at home");
    let refused = |refusal| Link::Refused(ControlError::new(refusal, "go away"));
    for (link, uptime, expected, words) in [
        (Link::Registered { count: 1, kept: 0 }, 0, State::Up, ""),
        (Link::Away(None), 59, State::Up, "just started"),
        (Link::Away(None), 60, State::Degraded, "not reached yet"),
        (Link::Away(Some(transient)), 0, State::Degraded, "nobody is at home"),
        (refused(Refusal::Refused), 0, State::Degraded, "go away"),
        (refused(Refusal::Superseded), 0, State::Degraded, "go away"),
    ] {
        let verdict = api(&state(link.clone()), Duration::from_secs(uptime));
        assert_eq!(told(&verdict, words), expected, "{link:?}");
    }
    let superseded = api(&state(refused(Refusal::Superseded)), Duration::ZERO);
    assert!(superseded.remedy.contains("stop the other agent"), "{superseded:?}");
}

#[test]
fn the_vpn_is_as_its_worst_finding() {
    let view = |state, failure: Option<&str>| VpnView {
        status: Some(VpnStatus {
            addresses: vec!["100.64.0.7".parse().unwrap()],
            ..VpnStatus::without_network(state)
        }),
        failure: failure.map(str::to_owned),
    };
    assert_eq!(vpn(&VpnView::default(), NOW), Verdict::UP, "not looked at yet");
    assert_eq!(vpn(&view(VpnState::Running, None), NOW), Verdict::UP);
    let silent = vpn(&view(VpnState::Running, Some("cannot reach tailscaled")), NOW);
    assert_eq!(told(&silent, "cannot reach tailscaled"), State::Degraded);
    let stopped = vpn(&view(VpnState::Stopped, None), NOW);
    assert_eq!(told(&stopped, "switched off"), State::Degraded);
    assert!(stopped.remedy.contains("tailscale up"), "{stopped:?}");
}

#[test]
fn a_certificate_is_worth_a_word_a_week_before_its_end_or_at_a_sixth_of_its_life() {
    let hours = SignedDuration::from_hours;
    let judge = |life: i64, left: i64| {
        let until = NOW + hours(left);
        let found = Validity { from: until - hours(life), until };
        certificate(Some(found), NOW).state
    };
    let year = 365 * 24;
    assert_eq!(judge(year, 7 * 24), State::Up);
    assert_eq!(judge(year, 7 * 24 - 1), State::Degraded);
    assert_eq!(judge(year, 0), State::Degraded);
    assert_eq!(judge(year, -1), State::Down);
    assert_eq!(judge(24, 4), State::Up, "of a day, renewed after 16 hours");
    assert_eq!(judge(24, 3), State::Degraded);
    assert_eq!(told(&certificate(None, NOW), "no certificate yet"), State::Degraded);
}

#[test]
fn trouble_of_the_queue_lost_lines_and_emulation_degrade() {
    assert_eq!(events(None), Verdict::UP);
    let trouble = events(Some("held in memory only".to_owned()));
    assert_eq!(told(&trouble, "held in memory only"), State::Degraded);
    assert_eq!(log(0), Verdict::UP);
    assert_eq!(told(&log(12), "12 lines of the log were lost in the last 10"), State::Degraded);
    assert_eq!(acceleration(Acceleration::Kvm), Verdict::UP);
    assert_eq!(told(&acceleration(Acceleration::Tcg), "emulated"), State::Degraded);
}
