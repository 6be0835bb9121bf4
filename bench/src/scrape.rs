//! A scrape of the metrics. Invariant: each is followed by one of `/livez` over a connection of its own, which is all of it but the
//! metrics.

use anyhow::ensure;
use ghost_e2e::agent::Agent;
use ghost_e2e::web;

use crate::load::millis;
use crate::report::{Budget, Row, Unit};

/// Scrapes.
const TIMES: usize = 100;

/// With so many VMs.
///
/// # Errors
/// If the agent gives no metrics.
pub(crate) async fn measure(agent: &Agent, vms: usize) -> anyhow::Result<Row> {
    println!("scrape: {TIMES} times");
    let (mut scrapes, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let page = web::get(agent, "/metrics").await?;
        let told = page.body.matches("ghost_vm_info{").count();
        ensure!(page.status == 200 && told == vms, "{} with {told} of {vms} VMs", page.status);
        scrapes.push(page.took);
        floor.push(web::get(agent, "/livez").await?.took);
    }
    let row = Row::new(format!("metrics scrape, {vms} VMs"), Unit::Millis, millis(&scrapes)?);
    Ok(row.budget(Budget::P99AtMost(3.0)).beside("livez", millis(&floor)?))
}
