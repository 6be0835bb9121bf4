//! CreateVM (FR1.1). Invariant: a VM is complete or absent; a client that leaves changes nothing.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::Instrument as _;

use super::limits::{Limits, OnAddressTimeout};
use super::node::{self, Node};
use super::registry::{Admitted, Operation, Outcome, Registry, Ticket, name_in_span};
use super::steps::{self, step};
use super::undo::Making;
use super::wait::{Awaited, Fresh, LeaseWait};
use crate::domain::{
    AppError, BaseImage, Budget, Change, Desired, ErrorKind, FieldViolation, Gib, HeldImage,
    Origin, PowerState, Sighting, Step, VmId, VmRecord, VmRef, VmSpec, VmStage, VmStatus, VmView,
    cause,
};
use crate::ports::{CreateStep, DomainSpec, Measured, Ports, SeedSpec};

/// How many lines of the guest's console an error shows.
const CONSOLE_LINES: usize = 20;

/// A VM that exists now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedVm {
    /// Its id.
    pub id: VmId,
    /// The address that is its own for life.
    pub address: Option<Ipv4Addr>,
    /// `Running`, or `Error` if it was kept without an address; of a repeated request whatever
    /// the VM is by now.
    pub status: VmStatus,
    /// Why it is in `Error`.
    pub failure: Option<String>,
}

impl From<&VmView> for CreatedVm {
    fn from(vm: &VmView) -> Self {
        let failure = match &vm.record.stage {
            VmStage::Ready { failure, .. } => failure.clone(),
            VmStage::Creating { .. } | VmStage::Deleting => None,
        };
        Self { id: vm.record.id, address: vm.record.address, status: vm.status, failure }
    }
}

/// The use case.
#[derive(Debug)]
pub struct CreateVm {
    ports: Ports,
    registry: Arc<Registry>,
    limits: Limits,
}

impl CreateVm {
    /// `limits` also says what is reserved for the owner.
    #[must_use]
    pub fn new(ports: Ports, registry: Arc<Registry>, limits: Limits) -> Self {
        Self { ports, registry, limits }
    }

    /// Makes, starts and awaits the VM because of the command `origin`. The same `request_id` again gives
    /// the same VM, which is then the first command's.
    ///
    /// # Errors
    /// See [`Registry::admit`]; after that whatever a port says, or `NETWORK_ERROR` if the guest
    /// took no address in time. In every case everything has been taken back, or the VM is left
    /// in status `deleting` and the error says so.
    pub async fn run(&self, spec: VmSpec, origin: &Origin) -> Result<CreatedVm, AppError> {
        let record = VmRecord {
            origin: Some(origin.clone()),
            ..VmRecord::creating(VmId::generate(), &spec, self.ports.clock.now())
        };
        let began = self.ports.clock.monotonic();
        let result = match self.admission(&record).await {
            Ok(Admitted::Same(id, outcome)) => return self.join(id, outcome).await,
            Ok(Admitted::New(ticket)) => self.make_or_take_back(&spec, record, ticket).await,
            Err(error) => Err(error),
        };
        let took = self.ports.clock.monotonic().saturating_sub(began);
        let outcome = match &result {
            Ok(CreatedVm { failure: Some(_), .. }) => Err(ErrorKind::AddressTimeout.code()),
            other => steps::outcome(other),
        };
        self.ports.meter.note(Measured::Create { took, outcome });
        result
    }

    /// Takes name and resources, or finds that the same request makes the VM already.
    async fn admission(&self, record: &VmRecord) -> Result<Admitted, AppError> {
        let began = self.ports.clock.monotonic();
        let admission = async {
            if let Some((id, outcome)) = self.registry.made_by(record)? {
                return Ok(Admitted::Same(id, outcome));
            }
            self.registry.admit(record.clone(), &self.budget().await?)
        };
        let span = steps::span(CreateStep::Admission);
        let admitted = admission.instrument(span.clone()).await;
        if let Ok(
            Admitted::New(Ticket { operation: Operation { id, .. }, .. }) | Admitted::Same(id, _),
        ) = &admitted
        {
            name_in_span(*id, &record.name);
        }
        match &admitted {
            Ok(Admitted::Same(..)) => {}
            Ok(Admitted::New(_)) | Err(_) => {
                let outcome = steps::outcome(&admitted);
                steps::tell(&self.ports, &span, CreateStep::Admission, began, outcome);
            }
        }
        admitted
    }

    async fn make_or_take_back(
        &self,
        spec: &VmSpec,
        record: VmRecord,
        ticket: Ticket,
    ) -> Result<CreatedVm, AppError> {
        let mut making = Making::new(&self.ports, &self.registry, record);
        let result = match self.make(spec, &mut making).await {
            Ok(created) => Ok(created),
            Err(error) => Err(self.take_back(making, error).await),
        };
        ticket.announce(result.as_ref().map(|_| ()).map_err(|e| Arc::new(e.repeat())));
        result.map_err(|error| {
            error.with("vm_name", &spec.name).with("template", &spec.template.name)
        })
    }

    async fn budget(&self) -> Result<Budget, AppError> {
        let capacity = Node::default().refresh(&self.ports).await?;
        Ok(node::budget(capacity, &self.limits))
    }

    async fn join(
        &self,
        id: VmId,
        mut outcome: watch::Receiver<Outcome>,
    ) -> Result<CreatedVm, AppError> {
        // A sender that is gone without a word belongs to a VM that an earlier process made.
        if let Ok(told) = outcome.wait_for(Option::is_some).await
            && let Some(Err(failed)) = &*told
        {
            return Err(failed.repeat());
        }
        let vm = self.created(id)?;
        match vm.status {
            VmStatus::Creating | VmStatus::Deleting => Err(AppError::new(
                ErrorKind::WrongState,
                format!("the VM of this request is {} after a failure", vm.status.as_str()),
            )
            .remedy("wait until it is gone, then repeat the request")
            .with("vm_id", id)),
            VmStatus::Running | VmStatus::Stopped | VmStatus::Paused | VmStatus::Error => Ok(vm),
        }
    }

    fn created(&self, id: VmId) -> Result<CreatedVm, AppError> {
        self.registry.view(&VmRef::Id(id)).map(|vm| CreatedVm::from(&*vm))
    }

    async fn make(&self, spec: &VmSpec, making: &mut Making<'_>) -> Result<CreatedVm, AppError> {
        let id = making.record().id;
        making.about_to(&[Step::Address, Step::Disk, Step::Seed]).await?;
        // libvirt takes half a second to reserve an address, so the rest is made meanwhile. Both are
        // awaited to their end: nothing that is being made must be lost sight of because the other
        // failed first.
        let (address, volumes) = futures_util::future::join(
            step(
                &self.ports,
                CreateStep::Address,
                self.ports.network.assign_address(id, &spec.name),
            ),
            self.volumes(spec, id),
        )
        .await;
        let (address, Volumes { disk, seed, base }) = (address?, volumes?);
        making.note(|record| {
            record.address = Some(address);
            record.image = Some(base.image.checksum.clone());
        });
        drop(base);
        making.about_to(&[Step::Domain]).await?;
        let domain = DomainSpec { record: making.record().clone(), disk, seed, address };
        let Ports { hypervisor, .. } = &self.ports;
        step(&self.ports, CreateStep::Define, hypervisor.define(&domain)).await?;
        step(&self.ports, CreateStep::Start, hypervisor.ensure_started(id)).await?;
        self.registry.see(id, Sighting::Power(PowerState::Running));
        let started = self.ports.boot_moment().await?;
        making.note(|record| record.started = Some(started));
        tracing::debug!(vm_id = %id, %address, "the guest was started; waiting for its lease");
        let failure = match step(&self.ports, CreateStep::Lease, self.lease(id)).await {
            Ok(()) => None,
            Err(error) if self.is_kept_with(&error) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        let stage = VmStage::Ready { desired: Desired::Running, change: Change::Done, failure };
        making.finish(stage).await?;
        self.created(id)
    }

    async fn volumes(&self, spec: &VmSpec, id: VmId) -> Result<Volumes, AppError> {
        let (storage, shape) = (&self.ports.storage, spec.shape);
        let image = async {
            let base = self.ports.images.ensure_cached(&spec.template).await?;
            ensure_fits(&base.image, shape.disk).map(|()| base)
        };
        let base = step(&self.ports, CreateStep::Image, image).await?;
        let disk = storage.create_overlay(id, &base.image, shape.disk);
        let disk = step(&self.ports, CreateStep::Disk, disk).await?;
        let seed = step(&self.ports, CreateStep::Seed, self.seed(spec, id)).await?;
        Ok(Volumes { disk, seed, base })
    }

    async fn seed(&self, spec: &VmSpec, id: VmId) -> Result<PathBuf, AppError> {
        let seed = self.ports.seeds.build(&SeedSpec {
            id,
            name: spec.name.clone(),
            default_user: spec.template.default_user.clone(),
            ssh_keys: spec.ssh_keys.clone(),
            user_data: spec.user_data.clone(),
            metadata: spec.metadata.clone(),
        })?;
        self.ports.storage.store_seed(id, &seed).await
    }

    async fn take_back(&self, making: Making<'_>, error: AppError) -> AppError {
        let (id, name) = (making.record().id, making.record().name.clone());
        match making.take_back().await {
            Ok(()) => error,
            Err(left) => {
                tracing::error!(vm_name = %name, error = cause(&left), "a failed create could not be taken back");
                self.registry.problem(id, Some(left.to_string()));
                error.remedy(format!("what is left of it goes with: agentctl vm delete {name}"))
            }
        }
    }

    async fn lease(&self, id: VmId) -> Result<(), AppError> {
        let wait = LeaseWait { ports: &self.ports, registry: &self.registry, limits: &self.limits };
        let error = match wait.of(id, Fresh::Any).await {
            Awaited::Leased(lease) => {
                tracing::debug!(vm_id = %id, address = %lease.address, "the guest has its lease");
                return Ok(());
            }
            Awaited::Failed(error) => return Err(error),
            Awaited::TooLate => AppError::new(
                ErrorKind::AddressTimeout,
                format!(
                    "the guest took no address within {} s",
                    self.limits.address_timeout.as_secs()
                ),
            )
            .remedy("look at what its console says, or raise vm.address_timeout"),
            Awaited::Down(power) => AppError::new(
                ErrorKind::HypervisorFailed,
                format!("the guest went down before it took its address (it is {power})"),
            )
            .remedy("look at what its console says; the image may not boot on this host"),
        };
        if self.is_kept_with(&error) {
            return Err(error);
        }
        let console = self.ports.hypervisor.console_tail(id, CONSOLE_LINES).await;
        Err(error.with("console", console.unwrap_or_default()))
    }

    /// Whether the VM is to be kept all the same.
    fn is_kept_with(&self, error: &AppError) -> bool {
        self.limits.on_address_timeout == OnAddressTimeout::Keep
            && error.kind() == ErrorKind::AddressTimeout
    }
}

/// The absolute paths of a VM's volumes, and what the disk is based on.
struct Volumes {
    disk: PathBuf,
    seed: PathBuf,
    base: HeldImage,
}

fn ensure_fits(image: &BaseImage, disk: Gib) -> Result<(), AppError> {
    if image.virtual_size <= disk.bytes() {
        return Ok(());
    }
    let needed = image.virtual_size.0.div_ceil(Gib::BYTES);
    Err(AppError::validation(vec![FieldViolation {
        field: "disk_gb".into(),
        problem: format!("must be at least {needed}: the template's image is that large"),
    }]))
}
