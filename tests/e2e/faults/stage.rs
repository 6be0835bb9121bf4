//! What a fault needs around it: a lab, a home in it, an agent there, and its API.

use std::time::{Duration, Instant};

use ghost_e2e::agent::Agent;
use ghost_e2e::client::{Client, mini};
use ghost_e2e::failpoint::At;
use ghost_e2e::home::Home;
use ghost_e2e::lab::Lab;
use ghost_e2e::wait::eventually;
use ghost_proto::agentpb::{
    DeleteVmRequest, DeleteVmResponse, GetVmStatusRequest, GetVmStatusResponse, StartVmRequest,
    StartVmResponse, StopVmRequest, StopVmResponse,
};
use tonic::{Code, Status};

/// Longest answer of what does not wait for libvirt.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);
/// Longest way of an event from libvirt to the status. libvirt itself takes nearly a second from the
/// end of a QEMU to its event: it takes the guest's firewall rules down first.
pub(crate) const SOON: Duration = Duration::from_secs(1);
/// Longest wait for libvirt's own events, and for a guest that was asked to power off.
pub(crate) const EVENT: Duration = Duration::from_secs(30);
/// Longest way back to libvirt once it runs again, and to the notice that it does not.
pub(crate) const RECONNECT: Duration = Duration::from_secs(60);

/// All of it. What is dropped first comes first.
pub(crate) struct Stage {
    pub(crate) api: Client,
    pub(crate) agent: Agent,
    pub(crate) home: Home,
    pub(crate) lab: Lab,
}

/// A VM of this stage.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) id: String,
    pub(crate) address: String,
}

impl Stage {
    /// With ghost-mini as template `mini`: about 5 s a create.
    pub(crate) async fn with_guests() -> Self {
        let lab = Lab::start().await.unwrap();
        let home = Home::in_lab(&lab).await.unwrap();
        Self::of(lab, home).await
    }

    /// With VMs that need no boot, and have the status `error`: about 3 s a create.
    pub(crate) async fn with_blank_vms() -> Self {
        let lab = Lab::start().await.unwrap();
        let home = Home::in_lab(&lab).await.unwrap().with_blank_vms().await.unwrap();
        Self::of(lab, home).await
    }

    /// With a home that has its own settings.
    pub(crate) async fn of(lab: Lab, home: Home) -> Self {
        let agent = home.start().await.unwrap();
        let api = home.api(&agent).await.unwrap();
        Self { api, agent, home, lab }
    }

    /// As [`Self::with_blank_vms`], and the agent dies or holds still at that step.
    pub(crate) async fn failing(step: &str, at: At) -> Self {
        let lab = Lab::start().await.unwrap();
        let home = Home::in_lab(&lab).await.unwrap().with_blank_vms().await.unwrap();
        let agent = home.start_failing(step, at).await.unwrap();
        let api = home.api(&agent).await.unwrap();
        Self { api, agent, home, lab }
    }

    /// The next agent, after the former has ended.
    pub(crate) async fn next_agent(&mut self) {
        assert!(self.agent.pid().is_err(), "the former agent runs on");
        self.agent = self.home.start().await.unwrap();
        self.api = self.home.api(&self.agent).await.unwrap();
    }

    /// The smallest VM.
    pub(crate) async fn create(&self, name: &str) -> Result<Vm, Status> {
        let vm = self.api.clone().create_vm(mini(name)).await?.into_inner();
        Ok(Vm { id: vm.vm_id, address: vm.ip_address })
    }

    pub(crate) async fn start(&self, vm: &Vm) -> Result<StartVmResponse, Status> {
        let request = StartVmRequest { vm_id: vm.id.clone() };
        Ok(self.api.clone().start_vm(request).await?.into_inner())
    }

    /// Asks its guest to power off, and cuts the power if it does not.
    pub(crate) async fn stop_gracefully(&self, vm: &Vm) -> Result<StopVmResponse, Status> {
        let request = StopVmRequest { vm_id: vm.id.clone(), force: false };
        Ok(self.api.clone().stop_vm(request).await?.into_inner())
    }

    /// Cuts its power.
    pub(crate) async fn cut(&self, vm: &Vm) -> Result<StopVmResponse, Status> {
        let request = StopVmRequest { vm_id: vm.id.clone(), force: true };
        Ok(self.api.clone().stop_vm(request).await?.into_inner())
    }

    pub(crate) async fn delete(&self, vm: &Vm) -> Result<DeleteVmResponse, Status> {
        let request = DeleteVmRequest { vm_id: vm.id.clone() };
        Ok(self.api.clone().delete_vm(request).await?.into_inner())
    }

    /// Does it, again and again while another operation on the VM is under way: what the agent does of itself to what
    /// it finds has no event.
    pub(crate) async fn when_free<T>(&self, mut verb: impl AsyncFnMut() -> Result<T, Status>) -> T {
        let done = eventually("the end of another operation", EVENT, async || match verb().await {
            Ok(done) => Ok(Some(done)),
            Err(busy) if busy.code() == Code::Aborted => Ok(None),
            Err(other) => Err(other.into()),
        });
        done.await.unwrap()
    }

    /// Its status, which must be answered at once whatever libvirt does.
    pub(crate) async fn status(&self, vm: &Vm) -> GetVmStatusResponse {
        let asked = Instant::now();
        let request = GetVmStatusRequest { vm_id: vm.id.clone() };
        let status = self.api.clone().get_vm_status(request).await.unwrap().into_inner();
        assert!(asked.elapsed() < AT_ONCE, "a read waited for libvirt: {:?}", asked.elapsed());
        status
    }

    /// Waits until it has that status, and gives it.
    pub(crate) async fn becomes(
        &self,
        vm: &Vm,
        wanted: &str,
        limit: Duration,
    ) -> GetVmStatusResponse {
        let what = format!("status {wanted}");
        let found = eventually(&what, limit, async || {
            let status = self.status(vm).await;
            Ok((status.status == wanted).then_some(status))
        });
        found.await.unwrap()
    }

    /// Waits until there is no such VM.
    pub(crate) async fn vanishes(&self, vm: &Vm, limit: Duration) {
        let gone = eventually("the VM's end", limit, async || {
            let request = GetVmStatusRequest { vm_id: vm.id.clone() };
            match self.api.clone().get_vm_status(request).await {
                Ok(_) => Ok(None),
                Err(gone) if gone.code() == Code::NotFound => Ok(Some(())),
                Err(other) => Err(other.into()),
            }
        });
        gone.await.unwrap();
    }

    /// Tries again until the agent has found its way back to libvirt.
    pub(crate) async fn once_libvirt_is_back<T>(
        &self,
        call: impl AsyncFn() -> Result<T, Status>,
    ) -> T {
        let done = eventually("libvirt", RECONNECT, async || match call().await {
            Ok(answer) => Ok(Some(answer)),
            Err(refused) if refused.code() == Code::Unavailable => Ok(None),
            Err(other) => Err(other.into()),
        });
        done.await.unwrap()
    }

    /// Ends the agent as a service manager does; the rest ends with the value.
    pub(crate) async fn stop(mut self) {
        self.agent.terminate().await.unwrap();
    }
}
