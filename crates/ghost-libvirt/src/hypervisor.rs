//! The hypervisor port: one libvirt domain per VM.
//!
//! Invariant: every change looks at the domain's mark first; a domain that is not ours is an
//! error, never a victim.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ghost_core::domain::{AppError, Definition, Kept, Observed, VmId, cause};
use ghost_core::ports::{DomainSpec, Hypervisor, PortResult};

use crate::console;
use crate::domain_xml::{self, DirectIo, Files, Platform};
use crate::executor::{Effort, Executor};
use crate::failure::Failure;
use crate::mark;
use crate::power;
use crate::storage_pool::volumes;
use crate::sys::{Conn, Domain, LibvirtError, Tuned};
use crate::tuning::{Cgroups, Refusals};
use crate::watch::Memory;

/// The hypervisor port.
#[derive(Debug)]
pub(crate) struct LibvirtHypervisor {
    pub(crate) calls: Arc<Executor>,
    pub(crate) memory: Memory,
    pub(crate) platform: Arc<Platform>,
    pub(crate) pool: Arc<str>,
    /// Domains of other agents that were told of.
    pub(crate) strangers: Mutex<HashSet<VmId>>,
    pub(crate) cgroups: Cgroups,
    pub(crate) refusals: Arc<Refusals>,
}

impl LibvirtHypervisor {
    /// Holds each of this agent's domains to the owner's limits.
    pub(crate) async fn tune_all(&self) -> PortResult<()> {
        let mut first = Ok(());
        for kept in self.kept().await? {
            match (&first, self.tune(kept).await) {
                (_, Ok(())) => {}
                (Ok(()), failed) => first = failed,
                (Err(_), Err(error)) => {
                    tracing::warn!(
                        error = cause(&error),
                        "one more VM is not held to the owner's limits"
                    );
                }
            }
        }
        first
    }

    async fn tune(&self, Kept { id, definition, .. }: Kept) -> PortResult<()> {
        let (platform, cgroups) = (Arc::clone(&self.platform), self.cgroups);
        let refusals = Arc::clone(&self.refusals);
        let tune = move |conn: &Conn| {
            let Some(domain) = mark::find(conn, id)? else { return Ok(()) };
            let tuning = &platform.tuning;
            match definition {
                Definition::Persistent => tuning.ensure_pinned(conn, &domain, Tuned::Definition)?,
                Definition::Transient => {}
            }
            if domain.is_active()? {
                match tuning.ensure_pinned(conn, &domain, Tuned::Running) {
                    // It went off in between.
                    Err(_) if !domain.is_active()? => return Ok(()),
                    other => other?,
                }
                tuning.hold(&domain, id, cgroups, &refusals);
            }
            Ok(())
        };
        self.calls
            .call_for(id, "hold the VM to the owner's limits", Effort::Slow, tune)
            .await
            .map_err(|e| about(e, id))
    }
}

#[async_trait]
impl Hypervisor for LibvirtHypervisor {
    async fn define(&self, spec: &DomainSpec) -> PortResult<()> {
        let (id, spec) = (spec.record.id, spec.clone());
        let ours = Arc::clone(&self.memory.ours);
        let (platform, pool) = (Arc::clone(&self.platform), Arc::clone(&self.pool));
        let define = move |conn: &Conn| {
            mark::find(conn, id)?;
            let base = volumes::backing_of(conn, &spec.disk)?;
            let console_log = console::ensure_log(conn, &pool, id)?;
            let files = Files {
                base: base.as_deref(),
                console_log: &console_log,
                direct: DirectIo::of(&spec.disk),
            };
            let domain = conn.define(&domain_xml::domain(&spec, files, &platform)?)?;
            ours.remember(domain.uuid()?);
            Ok(())
        };
        self.calls
            .call_for(id, "define the domain", Effort::Slow, define)
            .await
            .map_err(|e| about(e, id))
    }

    async fn ensure_undefined(&self, id: VmId) -> PortResult<()> {
        // First, because it ends whatever hangs in the domain.
        self.ensure_off(id).await?;
        let pool = Arc::clone(&self.pool);
        let undefine = move |conn: &Conn| {
            if let Some(domain) = mark::find(conn, id)? {
                ensure_off(&domain)?;
                ignore_missing(domain.undefine())?;
            }
            match console::ensure_no_log(conn, &pool, id) {
                // Without its pool there is no log either.
                Err(Failure::NoPool(_)) => Ok(()),
                other => other,
            }
        };
        self.calls
            .call_for(id, "remove the domain", Effort::Slow, undefine)
            .await
            .map_err(|e| about(e, id))
    }

    async fn ensure_started(&self, id: VmId) -> PortResult<()> {
        let (platform, cgroups) = (Arc::clone(&self.platform), self.cgroups);
        let refusals = Arc::clone(&self.refusals);
        let start = move |conn: &Conn| {
            let domain = mark::find(conn, id)?.ok_or(Failure::NoDomain(id))?;
            if domain.is_active()? {
                return if domain.is_paused()? { Ok(domain.resume()?) } else { Ok(()) };
            }
            platform.tuning.ensure_pinned(conn, &domain, Tuned::Definition)?;
            match domain.start() {
                // Somebody else was faster.
                Err(_) if domain.is_active()? => {}
                other => other?,
            }
            platform.tuning.hold(&domain, id, cgroups, &refusals);
            Ok(())
        };
        self.calls
            .call_for(id, "start the domain", Effort::Slow, start)
            .await
            .map_err(|e| about(e, id))
    }

    async fn ask_to_power_off(&self, id: VmId) -> PortResult<()> {
        let ask = move |conn: &Conn| {
            let domain = mark::find(conn, id)?.ok_or(Failure::NoDomain(id))?;
            match domain.press_power_button() {
                // It is off already.
                Err(_) if !domain.is_active()? => Ok(()),
                other => Ok(other?),
            }
        };
        self.calls
            .call_for(id, "ask the guest to power off", Effort::Quick, ask)
            .await
            .map_err(|e| about(e, id))
    }

    async fn ensure_off(&self, id: VmId) -> PortResult<()> {
        let cut =
            move |conn: &Conn| mark::find(conn, id)?.map_or(Ok(()), |domain| ensure_off(&domain));
        self.calls
            .cut_for(id, "cut the domain's power", Effort::Slow, cut)
            .await
            .map_err(|e| about(e, id))
    }

    async fn observe(&self) -> PortResult<Vec<Observed>> {
        let Memory { ours, io_errors } = self.memory.clone();
        let observe = move |conn: &Conn| {
            let mut seen = Vec::new();
            for stats in conn.stats()? {
                if ours.is_ours(conn, stats.uuid)? {
                    let seen_now = power::observed(&stats);
                    let power = io_errors.explain(stats.uuid, seen_now.power);
                    seen.push(Observed { power, ..seen_now });
                }
            }
            Ok(seen)
        };
        self.calls.call("observe the domains", Effort::Quick, observe).await.map_err(AppError::from)
    }

    async fn kept(&self) -> PortResult<Vec<Kept>> {
        let agent = self.platform.agent;
        let look = move |conn: &Conn| Ok(mark::kept(conn, agent)?);
        let found = self.calls.call("look for its domains", Effort::Quick, look).await?;
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, other) in found.of_others {
            if strangers.insert(id) {
                tracing::warn!(
                    vm_id = %id, other_agent = %other,
                    "a domain bears the mark of another agent: it is left alone, and not counted; if that \
                     agent is this one before agent-state.json was lost, restore that file"
                );
            }
        }
        Ok(found.ours)
    }

    async fn console_tail(&self, id: VmId, lines: usize) -> PortResult<String> {
        let pool = Arc::clone(&self.pool);
        let tail = move |conn: &Conn| console::tail(conn, &pool, id, lines);
        self.calls
            .call("read the guest's console", Effort::Quick, tail)
            .await
            .map_err(|e| about(e, id))
    }
}

fn about(error: Failure, id: VmId) -> AppError {
    AppError::from(error).with("vm_id", id)
}

fn ensure_off(domain: &Domain) -> Result<(), Failure> {
    match domain.is_active() {
        Ok(false) => return Ok(()),
        Ok(true) => {}
        Err(error) => return Ok(ignore_missing(Err(error))?),
    }
    match domain.destroy() {
        // It went off in between.
        Err(_) if !domain.is_active()? => Ok(()),
        other => Ok(ignore_missing(other)?),
    }
}

fn ignore_missing(result: Result<(), LibvirtError>) -> Result<(), LibvirtError> {
    match result {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}
