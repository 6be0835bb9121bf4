use super::*;
use crate::application::backoff::Dice;

const INTERVAL: Duration = Duration::from_secs(30);
const AGENTS: usize = 10_000;

fn transient() -> Refusal {
    Refusal::Transient { retry_after: None }
}

#[test]
fn heartbeats_keep_their_interval_within_a_tenth_and_do_not_drift() {
    let dice = Dice::seeded(3);
    let mut schedule = Schedule::new(INTERVAL, Duration::ZERO);
    schedule.heard(None, Duration::ZERO, 0.0);
    let (mut last, mut now) = (Duration::ZERO, Duration::ZERO);
    for beat in 0..1000u32 {
        let (act, due) = schedule.next();
        assert_eq!(act, Act::Heartbeat);
        if beat > 0 {
            let gap = (due - last).as_secs_f64();
            assert!((27.0..=33.0).contains(&gap), "{gap}");
        }
        last = due;
        // The answer takes up to 5 s.
        now = due + Duration::from_secs_f64(5.0 * dice.roll());
        schedule.heard(None, now, dice.roll());
    }
    // 1000 answers of 2.5 s on average, and not a second later for it.
    assert!(now.as_secs_f64() < 1000.0 * 30.0 + 10.0, "{now:?}");
}

#[test]
fn the_control_planes_interval_counts_and_one_longer_than_it_skips_a_beat() {
    let mut schedule = Schedule::new(INTERVAL, Duration::ZERO);
    let second = Duration::from_secs(1);
    schedule.heard(Some(second), Duration::ZERO, 0.5);
    assert_eq!(schedule.next(), (Act::Heartbeat, Duration::from_millis(500)));
    schedule.heard(Some(second), Duration::from_secs(10), 0.5);
    assert_eq!(schedule.next(), (Act::Heartbeat, Duration::from_millis(10_500)));
    schedule.heard(Some(INTERVAL), Duration::from_millis(10_500), 0.5);
    assert_eq!(schedule.next(), (Act::Heartbeat, Duration::from_millis(40_500)));
}

#[test]
fn each_refusal_has_its_own_next_step() {
    let wanted = Some(Duration::from_secs(20));
    let forever = Some(Duration::MAX);
    for (refusal, act, seconds) in [
        (transient(), Act::Register, 1),
        (Refusal::Transient { retry_after: wanted }, Act::Register, 21),
        (Refusal::Transient { retry_after: forever }, Act::Register, 601),
        (Refusal::NotRegistered, Act::Register, 1),
        (Refusal::Superseded, Act::Heartbeat, 330),
        (Refusal::Refused, Act::Register, 330),
    ] {
        let mut schedule = Schedule::new(INTERVAL, Duration::ZERO);
        schedule.heard(None, Duration::ZERO, 0.5);
        schedule.failed(refusal, Duration::ZERO, 1.0);
        assert_eq!(schedule.next(), (act, Duration::from_secs(seconds)), "{refusal:?}");
    }
}

#[test]
fn one_who_is_registered_and_then_not_known_waits_longer_each_time() {
    let mut schedule = Schedule::new(INTERVAL, Duration::ZERO);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        schedule.heard(None, Duration::ZERO, 0.0);
        schedule.failed(Refusal::NotRegistered, Duration::ZERO, 1.0);
        pauses.push(schedule.next().1.as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60]);
    schedule.heard(None, Duration::ZERO, 0.0);
    schedule.known();
    schedule.failed(Refusal::NotRegistered, Duration::ZERO, 1.0);
    assert_eq!(schedule.next().1.as_secs(), 1);
}

/// When each of many agents is registered again and when it sends its next heartbeat, if the
/// control plane was away for that long; in seconds since it is back.
fn come_back_after(outage: Duration) -> (Vec<f64>, Vec<f64>) {
    let dice = Dice::seeded(11);
    let (begin, step) = (Duration::from_secs(1000), Duration::from_millis(5));
    let end = begin + outage;
    let mut back = (Vec::new(), Vec::new());
    for _ in 0..AGENTS {
        // All were started by the same power failure.
        let mut schedule = Schedule::new(INTERVAL, Duration::ZERO);
        loop {
            let (act, due) = schedule.next();
            let away = (begin..end).contains(&due);
            match (away, act) {
                (true, _) => schedule.failed(transient(), due + step, dice.roll()),
                (false, _) => schedule.heard(None, due + step, dice.roll()),
            }
            if due >= end {
                back.0.push((due - end).as_secs_f64());
                back.1.push(schedule.next().1.saturating_sub(end).as_secs_f64());
                break;
            }
        }
    }
    back
}

/// The fullest second against the mean of all until the last that has any.
fn unevenness(times: &[f64]) -> f64 {
    let mut seconds: Vec<f64> = Vec::new();
    for time in times {
        let at = (0..4000).find(|second| *time < f64::from(second + 1)).unwrap();
        let at = usize::try_from(at).unwrap();
        if seconds.len() <= at {
            seconds.resize(at + 1, 0.0);
        }
        seconds[at] += 1.0;
    }
    let mean = seconds.iter().sum::<f64>() / seconds.iter().map(|_| 1.0).sum::<f64>();
    seconds.into_iter().fold(0.0, f64::max) / mean
}

#[test]
fn ten_thousand_agents_come_back_evenly_after_an_outage() {
    for outage in [Duration::from_secs(600), Duration::from_secs(86_400)] {
        let (registered, heartbeats) = come_back_after(outage);
        assert!(registered.iter().all(|at| *at <= 60.0));
        let (first, second) = (unevenness(&registered), unevenness(&heartbeats));
        assert!(first < 3.0 && second < 3.0, "{outage:?}: {first} and {second} times the mean");
    }
}

#[test]
fn after_a_short_outage_nobody_waits_for_long() {
    let (registered, _) = come_back_after(Duration::from_secs(5));
    // But for the few whose first pauses were so short that they tried six times.
    let long = registered.iter().filter(|at| **at > 33.0).count();
    assert!(long * 100 < AGENTS && registered.iter().all(|at| *at <= 60.0), "{long}");
    let registered: Vec<f64> = registered.into_iter().filter(|at| *at <= 28.0).collect();
    assert!(unevenness(&registered) < 3.0, "{}", unevenness(&registered));
}
