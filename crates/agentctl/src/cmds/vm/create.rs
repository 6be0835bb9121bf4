//! Invariant: a create always carries a request id, so that repeating it can never make a second VM.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use ghost_proto::agentpb::{CreateVmRequest, GetVmStatusRequest};
use serde::Serialize;

use super::{CREATE_LIMIT, READ_LIMIT, inputs};
use crate::cli::Global;
use crate::cmds::image::{self, words};
use crate::connect::{self, Agent};
use crate::errors::{Exit, Failure};
use crate::output;
use crate::progress::{Progress, Rate};

/// Options of `vm create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// 3 to 63 characters: letters, digits and hyphens; unique on the agent.
    name: String,
    /// Virtual CPUs, 1 to 32.
    #[arg(long, default_value_t = 1, value_name = "COUNT", allow_negative_numbers = true)]
    vcpu: i32,
    /// Memory in GiB, 1 to 128.
    #[arg(long, default_value = "1", value_name = "GIB", value_parser = inputs::parse_gib, allow_negative_numbers = true)]
    ram: i32,
    /// Disk in GiB, 10 to 1000, not smaller than the template's image.
    #[arg(long, default_value = "10", value_name = "GIB", value_parser = inputs::parse_gib, allow_negative_numbers = true)]
    disk: i32,
    /// A template of the agent's catalogue, such as debian-12.
    #[arg(long, value_name = "NAME")]
    template: String,
    /// An OpenSSH public key, or a file of them, for the template's default user; repeatable.
    #[arg(long, value_name = "FILE|KEY")]
    ssh_key: Vec<String>,
    /// cloud-config, a script or a multipart archive for cloud-init; '-' reads standard input.
    #[arg(long, value_name = "FILE|-")]
    user_data: Option<PathBuf>,
    /// Remembered with the VM; repeatable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = inputs::parse_pair)]
    metadata: Vec<(String, String)>,
}

/// What `vm create` prints.
#[derive(Debug, Serialize)]
struct Created {
    name: String,
    vm_id: String,
    status: String,
    ip_address: String,
    request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

/// Creates the VM; exit 1 when the agent kept one that does not run (`vm.keep_failed`).
pub(super) async fn run(args: Create, global: &Global) -> Result<Exit, Failure> {
    let request = request(args)?;
    let agent = connect::connect(global).await?;
    let (name, request_id) = (request.name.clone(), agent.create_id().to_owned());
    let request = CreateVmRequest { request_id: request_id.clone(), ..request };
    let steps = Steps::new(&agent, &request);
    let call = agent.call(request, CREATE_LIMIT, |mut client, request| async move {
        client.create_vm(request).await
    });
    let progress = Progress::start(&format!("creating {name}"));
    let outcome = progress.watch(call, || steps.seen()).await;
    progress.finish();
    let answer = outcome.map_err(|failure| repeatable(failure, &request_id))?;
    let created = Created {
        name,
        vm_id: answer.vm_id,
        status: answer.status,
        ip_address: answer.ip_address,
        request_id,
        error: answer.error,
    };
    global.output.print(&created, draw)?;
    Ok(if created.status == "error" { Exit::Failed } else { Exit::Done })
}

/// All but its id.
fn request(args: Create) -> Result<CreateVmRequest, Failure> {
    let user_data =
        args.user_data.map(|source| inputs::user_data(&source, std::io::stdin())).transpose()?;
    Ok(CreateVmRequest {
        name: args.name,
        vcpu: args.vcpu,
        ram_gb: args.ram,
        disk_gb: args.disk,
        template: args.template,
        metadata: inputs::metadata(args.metadata)?,
        ssh_authorized_keys: inputs::ssh_keys(&args.ssh_key)?,
        user_data: user_data.unwrap_or_default(),
        request_id: String::new(),
    })
}

/// What the agent knows of a create under way: how far the fetch of its image is, and else what its cache
/// says about the VM.
#[derive(Debug)]
struct Steps<'a> {
    agent: &'a Agent,
    name: String,
    template: String,
    /// An agent that does not tell its images is not asked twice.
    tells_images: Cell<bool>,
    rate: RefCell<Rate>,
}

impl<'a> Steps<'a> {
    fn new(agent: &'a Agent, request: &CreateVmRequest) -> Self {
        Self {
            agent,
            name: request.name.clone(),
            template: request.template.clone(),
            tells_images: Cell::new(true),
            rate: RefCell::default(),
        }
    }

    async fn seen(&self) -> Option<String> {
        match self.fetching().await {
            Some(fetching) => Some(fetching),
            None => self.status().await,
        }
    }

    async fn fetching(&self) -> Option<String> {
        if !self.tells_images.get() {
            return None;
        }
        let Ok(listed) = image::ask(self.agent).await else {
            self.tells_images.set(false);
            return None;
        };
        let of_ours = listed.images.into_iter().filter(|image| image.template == self.template);
        let progress = of_ours.filter_map(|image| image.progress).next();
        let mut rate = self.rate.borrow_mut();
        let Some(progress) = progress else {
            rate.clear();
            return None;
        };
        let now = Instant::now();
        rate.count(now, u64::try_from(progress.done_bytes).unwrap_or(0));
        let doing = words::doing(&progress, rate.per_second(now));
        Some(format!("fetching {}: {doing}", output::printable(&self.template)))
    }

    async fn status(&self) -> Option<String> {
        let ask = GetVmStatusRequest { vm_id: self.name.clone() };
        let vm = self
            .agent
            .call(ask, READ_LIMIT, |mut client, ask| async move { client.get_vm_status(ask).await })
            .await
            .ok()?;
        Some(match vm.ip_address.as_str() {
            "" => format!("agent reports: {}", output::printable(&vm.status)),
            address => format!(
                "agent reports: {}, address {}",
                output::printable(&vm.status),
                output::printable(address)
            ),
        })
    }
}

/// After these the agent may still be at work, or may never have heard of it.
fn repeatable(failure: Failure, request_id: &str) -> Failure {
    if failure.may_pass() {
        failure.also(&format!("to repeat it safely add --request-id {request_id}"))
    } else {
        failure
    }
}

fn draw(created: &Created) -> String {
    let mut lines = vec![
        ("name", created.name.clone()),
        ("status", created.status.clone()),
        ("address", created.ip_address.clone()),
        ("id", created.vm_id.clone()),
    ];
    if !created.error.is_empty() {
        lines.push(("error", created.error.clone()));
    }
    output::fields(&lines)
}
