//! Invariant: nothing is deleted that nobody agreed to: a person at a terminal is asked, a script
//! says `--yes`.

use std::io::{BufRead, IsTerminal as _, Write};
use std::time::Duration;

use clap::Args;
use ghost_proto::agentpb::DeleteVmRequest;
use serde::Serialize;

use super::STOP_LIMIT;
use crate::cli::Global;
use crate::connect::{self, Agent};
use crate::errors::{self, Exit, Failure};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Options of `vm delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Names or ids.
    #[arg(required = true, value_name = "VM")]
    vms: Vec<String>,
    /// Do not ask; needed when there is no terminal.
    #[arg(short, long, visible_alias = "force")]
    yes: bool,
}

/// Who can be asked.
enum Asker<R, W> {
    Person { input: R, output: W },
    Nobody,
}

#[derive(Debug, Serialize)]
struct Deleted {
    vm: String,
    deleted: bool,
}

/// Deletes each VM; the first failure decides the exit code, and the others are still deleted.
pub(super) async fn run(args: Delete, global: &Global) -> Result<Exit, Failure> {
    if !args.yes {
        let person = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let asker = if person {
            Asker::Person { input: std::io::stdin().lock(), output: std::io::stderr() }
        } else {
            Asker::Nobody
        };
        agree(&args.vms, asker)?;
    }
    let agent = connect::connect(global).await?;
    let mut outcome = Vec::with_capacity(args.vms.len());
    let mut exit = Exit::Done;
    for vm in args.vms {
        let failed = delete(&agent, &vm).await.err();
        outcome.push(Deleted { vm, deleted: failed.is_none() });
        if let Some(failure) = failed {
            errors::report(&failure, global.output);
            exit = if exit == Exit::Done { failure.exit } else { exit };
        }
    }
    if global.output != Format::Table || outcome.iter().any(|each| each.deleted) {
        global.output.print(&outcome, |outcome| draw(outcome))?;
    }
    Ok(exit)
}

async fn delete(agent: &Agent, vm: &str) -> Result<(), Failure> {
    let limit: Duration = STOP_LIMIT;
    let ask = DeleteVmRequest { vm_id: vm.to_owned() };
    let call = agent.call(ask, limit, |mut client, ask| async move { client.delete_vm(ask).await });
    let answer = Progress::around(&format!("deleting {vm}"), call).await?;
    if answer.success {
        return Ok(());
    }
    Err(Failure::local(format!("the agent did not delete {vm}: {}", answer.error))
        .remedy("look at journalctl -u ghost-agent"))
}

fn agree(vms: &[String], asker: Asker<impl BufRead, impl Write>) -> Result<(), Failure> {
    let Asker::Person { input, mut output } = asker else {
        return Err(Failure::usage("there is no terminal to ask on whether to delete")
            .remedy("add --yes if you mean it"));
    };
    let _ = write!(output, "Delete {} with all data? [y/N] ", output::printable(&vms.join(", ")));
    let _ = output.flush();
    let mut answer = String::new();
    let read = input.take(64).read_line(&mut answer);
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" if read.is_ok() => Ok(()),
        _ => Err(Failure::local("nothing was deleted: you did not agree")
            .remedy("answer y, or give --yes")),
    }
}

fn draw(outcome: &[Deleted]) -> String {
    outcome
        .iter()
        .filter(|each| each.deleted)
        .map(|each| format!("{}: deleted\n", output::printable(&each.vm)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(answer: &str) -> (Result<(), Failure>, String) {
        let mut shown = Vec::new();
        let vms = ["web-1".to_owned(), "web-2".to_owned()];
        let agreed = agree(&vms, Asker::Person { input: answer.as_bytes(), output: &mut shown });
        (agreed, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn only_a_yes_agrees() {
        for answer in ["y\n", "Y\n", "yes\n", " yes \n"] {
            assert_eq!(ask(answer).0, Ok(()), "{answer:?}");
        }
        for answer in ["", "\n", "n\n", "no\n", "yep\n", "y y\n"] {
            assert_eq!(ask(answer).0.unwrap_err().exit, Exit::Failed, "{answer:?}");
        }
    }

    #[test]
    fn the_question_names_every_vm() {
        assert_eq!(ask("n\n").1, "Delete web-1, web-2 with all data? [y/N] ");
    }
}
