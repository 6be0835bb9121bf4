//! Is this host fit to run VMs?
//!
//! Invariant: looking changes nothing, every look has a deadline, and each finding that is not good
//! names its remedy. [`facts`] looks; the other modules judge, as pure functions of what was seen.

mod facts;
mod finding;
mod host;
mod kvm;
mod libvirt;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::Global;
use crate::errors::{Exit, Failure};
use crate::output::{self, Format};
use facts::Facts;
pub(crate) use facts::find_program;
use finding::{Finding, Verdict};

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The same as -o json.
    #[arg(long)]
    json: bool,
    /// What the agent is configured to use (hypervisor.acceleration); without kvm a missing KVM is only a warning.
    #[arg(long, value_enum, default_value_t = Acceleration::Kvm)]
    acceleration: Acceleration,
    /// The libvirt pool for disks (libvirt.storage_pool).
    #[arg(long, default_value = "default", value_name = "NAME")]
    pool: String,
    /// The libvirt network of the VMs (libvirt.network).
    #[arg(long, default_value = "default", value_name = "NAME")]
    network: String,
}

/// The values of the agent's `hypervisor.acceleration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Acceleration {
    Kvm,
    Auto,
    Tcg,
}

/// What `doctor` prints.
#[derive(Debug, Serialize)]
struct Report {
    fit: bool,
    findings: Vec<Finding>,
}

/// Prints the findings; exit 1 when one is a failure.
pub(crate) async fn run(args: Doctor, global: &Global) -> Result<Exit, Failure> {
    let facts = Facts::gather(&args.pool, &args.network, global).await;
    let findings = judge(&facts, &args);
    let fit = findings.iter().all(|finding| finding.verdict != Verdict::Failed);
    let format = if args.json { Format::Json } else { global.output };
    format.print(&Report { fit, findings }, draw)?;
    Ok(if fit { Exit::Done } else { Exit::Failed })
}

/// What `doctor` prints without options, for a bug report.
pub(crate) async fn text(global: &Global) -> String {
    let args = Doctor {
        json: false,
        acceleration: Acceleration::Kvm,
        pool: "default".to_owned(),
        network: "default".to_owned(),
    };
    let facts = Facts::gather(&args.pool, &args.network, global).await;
    let findings = judge(&facts, &args);
    let fit = findings.iter().all(|finding| finding.verdict != Verdict::Failed);
    anstream::adapter::strip_str(&draw(&Report { fit, findings })).to_string()
}

fn judge(facts: &Facts, args: &Doctor) -> Vec<Finding> {
    vec![
        kvm::usable(&facts.kvm, args.acceleration),
        kvm::open_to_qemu(&facts.kvm, &facts.accounts),
        libvirt::reachable(&facts.libvirt.version, &facts.libvirt.socket, &facts.accounts),
        libvirt::virtlogd(&facts.libvirt.virtlogd),
        libvirt::pool(&args.pool, &facts.libvirt.pool),
        libvirt::network(&args.network, &facts.libvirt.network, facts.libvirt.dnsmasq),
        libvirt::nwfilter(&facts.libvirt.nwfilters),
        host::state_folder(&facts.state_folder),
        host::clock(&facts.clock),
        host::agent(&facts.agent),
    ]
}

fn draw(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        text.push_str(&format!(
            "{} {:<12} {}\n",
            finding.verdict.mark(),
            finding.check,
            output::printable(&finding.found)
        ));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("  {:<12} -> {}\n", "", output::printable(remedy)));
        }
    }
    text.push_str(if report.fit {
        "\nthis host is fit to run VMs\n"
    } else {
        "\nthis host cannot run VMs yet: see each ✗\n"
    });
    text
}
