//! Creates of a full Debian 12: to its address, and cut short behind the disk. Invariant: the image step
//! ends with the first volume that libvirt is asked for; the tap between agent and libvirtd saw it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ghost_e2e::agent::{Agent, Home};
use ghost_e2e::client::{self, Client};
use ghost_proto::agentpb::{CreateVmRequest, DeleteVmRequest};
use tonic::Code;

use super::bytes::cached;
use super::{Source, TEMPLATE, peers, pull, remove};
use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;
use crate::tap::{Procedure, Tap};

/// Creates that fetch the image, and creates that find it.
const FIRST: usize = 2;
const AGAIN: usize = 3;
/// Creates that are cut short.
const SHORT: usize = 20;
/// What the disk may cost a create: the milliseconds of its volume.
const OVERLAY: Budget = Budget::MedianAtMost(20.0);
/// What an agent may read for a create, in MB: far less than an image.
const READ: Budget = Budget::P99AtMost(2.0);

/// What creates need.
#[derive(Debug)]
pub(super) struct Creates<'a> {
    pub(super) home: &'a Home,
    pub(super) agent: &'a Agent,
    pub(super) tap: &'a Tap,
    pub(super) api: Client,
}

/// One create.
#[derive(Debug)]
struct Timing {
    total: Duration,
    /// From the request until libvirt was asked for the disk.
    image: Duration,
    /// Until libvirt had made the disk.
    overlay: Duration,
}

impl Creates<'_> {
    /// First and cached creates, each to its address.
    pub(super) async fn booted(mut self) -> anyhow::Result<Vec<Row>> {
        let (mut first, mut again) = (Vec::new(), Vec::new());
        for _ in 0..FIRST {
            remove(&mut self.api).await?;
            first.push(self.boot().await?);
        }
        for _ in 0..AGAIN {
            again.push(self.boot().await?);
        }
        let total = |all: &[Timing]| Samples::new(all.iter().map(|one| one.total.as_secs_f64()));
        let image = |all: &[Timing]| Samples::new(all.iter().map(|one| millis(one.image)));
        Ok(vec![
            Row::new("create → address, Debian 12, first", Unit::Seconds, total(&first)?)
                .required(60.0)
                .beside("cached", total(&again)?),
            Row::new("  request → libvirt asked for the disk", Unit::Millis, image(&first)?)
                .beside("cached", image(&again)?),
            Row::new("create → address, Debian 12, cached", Unit::Seconds, total(&again)?)
                .required(40.0),
        ])
    }

    async fn boot(&mut self) -> anyhow::Result<Timing> {
        let clock = Instant::now();
        let vm = self.api.create_vm(debian()).await?.into_inner();
        let timing = self.timing(clock)?;
        ensure!(vm.status == "running", "the VM is {}: {}", vm.status, vm.error);
        println!(
            "create: {:.2} s, {:.3} s to the image, {:.1} ms for the overlay",
            timing.total.as_secs_f64(),
            timing.image.as_secs_f64(),
            millis(timing.overlay)
        );
        self.api.delete_vm(DeleteVmRequest { vm_id: vm.vm_id }).await?;
        Ok(timing)
    }

    /// Creates that find the image and give up on the address at once: many in little time.
    pub(super) async fn cut_short(mut self, source: &Source) -> anyhow::Result<Vec<Row>> {
        println!("create: {SHORT} that are cut short");
        let (mut steps, mut overlays, mut bare, mut read) = (vec![], vec![], vec![], vec![]);
        let base = cached(self.home.path(), &pull(&mut self.api).await?);
        for _ in 0..SHORT {
            bare.push(millis(peers::overlay(&base, self.home.path()).await?));
            let (before, clock) = (self.has_read()?, Instant::now());
            match self.api.create_vm(debian()).await {
                Err(status) if status.code() == Code::DeadlineExceeded => {}
                Err(status) => return Err(status.into()),
                Ok(vm) => bail!("no guest boots that fast: {:?}", vm.into_inner()),
            }
            read.push((self.has_read()? - before) as f64 / 1e6);
            let timing = self.timing(clock)?;
            steps.push(millis(timing.image));
            overlays.push(millis(timing.overlay));
        }
        let size = Samples::new([source.size as f64 / 1e6])?;
        Ok(vec![
            Row::new(
                "cached create: request → libvirt asked for the disk",
                Unit::Millis,
                Samples::new(steps)?,
            ),
            Row::new("  the overlay's volume", Unit::Millis, Samples::new(overlays)?)
                .budget(OVERLAY)
                .beside("qemu-img create", Samples::new(bare)?),
            Row::new("  read by the agent, all in all", Unit::Megabytes, Samples::new(read)?)
                .budget(READ)
                .beside("the image", size),
        ])
    }

    fn timing(&self, clock: Instant) -> anyhow::Result<Timing> {
        let total = clock.elapsed();
        let (image, overlay) = self.tap.first(Procedure::VOL_CREATE_XML, clock)?;
        Ok(Timing { total, image, overlay })
    }

    /// Bytes that the agent has read by read(2) and its like so far, from files and pipes (proc(5)).
    fn has_read(&self) -> anyhow::Result<u64> {
        let io =
            std::fs::read_to_string(format!("/proc/{}/io", self.agent.pid()?.as_raw_nonzero()))?;
        let count = io.lines().find_map(|line| line.strip_prefix("rchar: "));
        Ok(count.context("/proc/PID/io without rchar")?.parse()?)
    }
}

fn debian() -> CreateVmRequest {
    CreateVmRequest { template: TEMPLATE.to_owned(), ..client::mini("bench-debian") }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
