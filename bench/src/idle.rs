//! The idle agent's memory and CPU, as the kernel accounts for them. Invariant: nobody called the
//! agent while it was measured, nor for as long before.

use std::num::NonZeroI32;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ghost_e2e::agent::Agent;

use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;

/// A tick of `/proc/PID/stat`: Linux shows 100 a second on every architecture (USER_HZ).
const TICK_MS: f64 = 10.0;
/// Between two looks at an agent that is watched; the looks are on the looker's account.
const EVERY: Duration = Duration::from_secs(5);

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    resident_kb: f64,
    anonymous_kb: f64,
    threads: f64,
    /// Since its start.
    pub(crate) cpu_ms: f64,
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

/// What an agent took over a span.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    span: Duration,
    usages: Vec<Usage>,
}

/// Watches an agent for a span, after a rest.
pub(crate) async fn watch(
    agent: &Agent,
    rest: Duration,
    span: Duration,
) -> anyhow::Result<Watched> {
    tokio::time::sleep(rest).await;
    let began = Instant::now();
    let mut usages = vec![Usage::of(agent)?];
    while began.elapsed() < span {
        tokio::time::sleep(EVERY.min(span.saturating_sub(began.elapsed()))).await;
        usages.push(Usage::of(agent)?);
    }
    Ok(Watched { span: began.elapsed(), usages })
}

/// The rows of an agent with running VMs, beside itself without.
pub(crate) fn with_vms(vms: usize, with: &Watched, without: &Watched) -> anyhow::Result<Vec<Row>> {
    let row = |what, unit, of: fn(&Watched) -> Vec<f64>| -> anyhow::Result<Row> {
        let [with, without] = [with, without].map(|watched| Samples::new(of(watched)));
        let row = Row::new(format!("idle, {vms} VMs: {what}"), unit, with?);
        Ok(row.beside("the same, no VM", without?))
    };
    Ok(vec![
        row("resident", Unit::Megabytes, |w| w.each(|u| megabytes(u.resident_kb)))?
            .required(50.0)
            .budget(Budget::P99AtMost(32.0)),
        row("anonymous", Unit::Megabytes, |w| w.each(|u| megabytes(u.anonymous_kb)))?
            .budget(Budget::P99AtMost(10.0)),
        row("anonymous, last less first", Unit::Megabytes, |w| {
            vec![megabytes(w.grown(|u| u.anonymous_kb))]
        })?,
        row("of one core", Unit::Percent, |w| vec![w.busy()])?
            .required(5.0)
            .budget(Budget::P99AtMost(0.3)),
        row("threads", Unit::Count, |w| w.each(|u| u.threads))?,
    ])
}

/// What the load left behind: the agent's memory now, beside that before it.
pub(crate) fn after_load(vms: usize, now: &Watched, before: &Watched) -> anyhow::Result<Row> {
    let [now, before] =
        [now, before].map(|w| Samples::new(w.each(|usage| megabytes(usage.anonymous_kb))));
    let row = Row::new(format!("after the load, {vms} VMs: anonymous"), Unit::Megabytes, now?);
    Ok(row.beside("idle", before?))
}

impl Watched {
    fn each(&self, of: impl Fn(&Usage) -> f64) -> Vec<f64> {
        self.usages.iter().map(of).collect()
    }

    fn grown(&self, of: impl Fn(&Usage) -> f64) -> f64 {
        let ends = self.usages.last().zip(self.usages.first());
        ends.map_or(f64::NAN, |(last, first)| of(last) - of(first))
    }

    /// CPU time over the span, in percent of one core.
    fn busy(&self) -> f64 {
        self.grown(|usage| usage.cpu_ms) / (self.span.as_secs_f64() * 1e3) * 100.0
    }
}

/// The kernel's kB is 1024 bytes, a budget's MB a million.
fn megabytes(kb: f64) -> f64 {
    kb * 1024.0 / 1e6
}

impl Usage {
    fn of(agent: &Agent) -> anyhow::Result<Self> {
        Self::of_process(agent.pid()?.as_raw_nonzero())
    }

    /// # Errors
    /// If there is no such process.
    pub(crate) fn of_process(pid: NonZeroI32) -> anyhow::Result<Self> {
        let file = |name: &str| -> anyhow::Result<String> {
            let path = format!("/proc/{pid}/{name}");
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

    /// Resident, in million bytes.
    pub(crate) fn resident(&self) -> f64 {
        megabytes(self.resident_kb)
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
    fn a_watched_agents_cpu_is_what_it_spent_between_the_first_look_and_the_last() {
        let at = |cpu_ms| Usage { resident_kb: 0.0, anonymous_kb: 0.0, threads: 1.0, cpu_ms };
        let usages = [1000.0, 1010.0, 1030.0].map(at).to_vec();
        assert_eq!(Watched { span: Duration::from_secs(10), usages }.busy(), 0.3);
    }

    #[test]
    fn a_megabyte_is_a_million_bytes() {
        assert_eq!(megabytes(1e6), 1024.0);
    }
}
