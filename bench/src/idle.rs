//! The idle agent's memory and CPU, as the kernel accounts for them. Invariant: nobody called the
//! agent while it was measured, nor for as long before.

use std::time::Duration;

use anyhow::Context as _;
use ghost_e2e::agent::Agent;

use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;

/// A tick of `/proc/PID/stat`: Linux shows 100 a second on every architecture (USER_HZ).
const TICK_MS: f64 = 10.0;

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy)]
struct Usage {
    resident_kb: f64,
    anonymous_kb: f64,
    threads: f64,
    cpu_ms: f64,
}

/// Measures an agent that has created and deleted VMs, beside one that was only started.
pub(crate) async fn measure(
    used: &Agent,
    fresh: &Agent,
    span: Duration,
) -> anyhow::Result<Vec<Row>> {
    tokio::time::sleep(span).await;
    let before = [Usage::of(used)?, Usage::of(fresh)?];
    tokio::time::sleep(span).await;
    let after = [Usage::of(used)?, Usage::of(fresh)?];
    let busy = |n: usize| {
        let spent =
            after.get(n).zip(before.get(n)).map(|(after, before)| after.cpu_ms - before.cpu_ms);
        spent.unwrap_or(f64::NAN) / (span.as_secs_f64() * 1e3) * 100.0
    };
    let row = |what, unit, of: &dyn Fn(&Usage) -> f64| -> anyhow::Result<Row> {
        let [used, fresh] = after.map(|usage| Samples::new([of(&usage)]));
        Ok(Row::new(what, unit, used?).beside("just started", fresh?))
    };
    Ok(vec![
        row("idle, no VM: resident", Unit::Megabytes, &|u| megabytes(u.resident_kb))?
            .required(50.0)
            .budget(Budget::P99AtMost(32.0)),
        row("idle, no VM: anonymous", Unit::Megabytes, &|u| megabytes(u.anonymous_kb))?
            .budget(Budget::P99AtMost(10.0)),
        Row::new("idle, no VM: of one core", Unit::Percent, Samples::new([busy(0)])?)
            .required(5.0)
            .budget(Budget::P99AtMost(0.3))
            .beside("just started", Samples::new([busy(1)])?),
        row("idle, no VM: threads", Unit::Count, &|u| u.threads)?,
    ])
}

/// The kernel's kB is 1024 bytes, a budget's MB a million.
fn megabytes(kb: f64) -> f64 {
    kb * 1024.0 / 1e6
}

impl Usage {
    fn of(agent: &Agent) -> anyhow::Result<Self> {
        let file = |name: &str| -> anyhow::Result<String> {
            let path = format!("/proc/{}/{name}", agent.pid()?.as_raw_nonzero());
            std::fs::read_to_string(&path).context(path)
        };
        let (smaps, status, stat) = (file("smaps_rollup")?, file("status")?, file("stat")?);
        Ok(Self {
            resident_kb: field(&smaps, "Rss:")?,
            anonymous_kb: field(&smaps, "Anonymous:")?,
            threads: field(&status, "Threads:")?,
            cpu_ms: ticks(&stat)? * TICK_MS,
        })
    }
}

fn field(text: &str, name: &str) -> anyhow::Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    Ok(value.with_context(|| format!("the kernel shows no {name}"))?.parse()?)
}

/// User and system time, the fields 14 and 15 (proc(5)); the name, field 2, may hold blanks.
fn ticks(stat: &str) -> anyhow::Result<f64> {
    let (_, behind_name) = stat.rsplit_once(')').context("/proc/PID/stat without a name")?;
    let mut times = behind_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    let mut next = || times.next().context("/proc/PID/stat is too short");
    Ok(next()?? + next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rollups_fields_are_read_by_their_whole_names() {
        let smaps = "55-7f ---p 0 00:00 0 [rollup]\nRss:           27500 kB\nAnonymous:      6700 kB\nAnonHugePages:   0 kB\n";
        assert_eq!(field(smaps, "Rss:").unwrap(), 27500.0);
        assert_eq!(field(smaps, "Anonymous:").unwrap(), 6700.0);
        assert!(field(smaps, "Pss:").is_err());
    }

    #[test]
    fn cpu_time_is_user_and_system_whatever_the_process_is_called() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 12 30 5 6 20 0 9 0 100";
        assert_eq!(ticks(stat).unwrap(), 42.0);
        assert!(ticks("7 (a) S 1").is_err());
    }

    #[test]
    fn a_megabyte_is_a_million_bytes() {
        assert_eq!(megabytes(1e6), 1024.0);
    }
}
