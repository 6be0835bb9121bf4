//! Ledger and libvirt side by side: what a dead process left undone is undone or finished.
//! What to do is decided purely by [`plan`]; doing it is dull.

use std::sync::Arc;

use super::registry::Registry;
use super::undo;
use crate::domain::{AppError, Step, VmRecord, VmRef, VmStage};
use crate::ports::Ports;

/// What has to be done about one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Its creation was cut off: take these steps back.
    Undo(Vec<Step>),
    /// Its removal was cut off: go on.
    Finish,
    /// Nothing.
    Leave,
}

/// What has to be done about a recorded VM that nobody is working on.
#[must_use]
pub fn plan(recorded: &VmStage) -> Plan {
    match recorded {
        VmStage::Creating { undo } => Plan::Undo(undo.clone()),
        VmStage::Deleting => Plan::Finish,
        VmStage::Ready { .. } => Plan::Leave,
    }
}

/// The use case.
#[derive(Debug)]
pub struct Reconcile {
    ports: Ports,
    registry: Arc<Registry>,
}

impl Reconcile {
    /// Over these ports.
    #[must_use]
    pub fn new(ports: Ports, registry: Arc<Registry>) -> Self {
        Self { ports, registry }
    }

    /// Takes in what the ledger knows. Called once, before anything else.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn adopt(&self) -> Result<(), AppError> {
        for record in self.ports.ledger.load().await? {
            self.registry.adopt(record);
        }
        Ok(())
    }

    /// Takes in what libvirt has.
    ///
    /// # Errors
    /// libvirt's, if it can't be asked.
    pub async fn look(&self) -> Result<(), AppError> {
        let observed = self.ports.hypervisor.observe().await?;
        self.registry.resync(&observed);
        Ok(())
    }

    /// Acts on every VM that needs it and is not being worked on. One that fails does not hold up
    /// the rest; it is tried again at the next call.
    pub async fn act_on_all(&self) {
        for view in self.registry.views() {
            if plan(&view.record.stage) == Plan::Leave {
                continue;
            }
            let Ok((_operation, record)) = self.registry.begin(&VmRef::Id(view.record.id)) else {
                continue;
            };
            if let Err(error) = self.act(&record).await {
                tracing::error!(vm_name = %record.name, vm_id = %record.id, error = %error, "cannot reconcile this VM; will try again");
            }
        }
    }

    /// Looks, then acts.
    ///
    /// # Errors
    /// libvirt's, if it can't be asked; nothing is acted on then.
    pub async fn run(&self) -> Result<(), AppError> {
        self.look().await?;
        self.act_on_all().await;
        Ok(())
    }

    async fn act(&self, record: &VmRecord) -> Result<(), AppError> {
        let (done, steps) = match plan(&record.stage) {
            Plan::Leave => return Ok(()),
            Plan::Undo(steps) => ("undid a creation that was cut off", steps),
            Plan::Finish => ("finished a removal that was cut off", Step::ALL.to_vec()),
        };
        undo::remove(&self.ports, &self.registry, record, &steps).await?;
        tracing::info!(vm_name = %record.name, vm_id = %record.id, "{done}");
        Ok(())
    }
}
