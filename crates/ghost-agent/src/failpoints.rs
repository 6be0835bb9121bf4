//! Fail points for the fault tests: the agent dies, or holds its breath, before or after any step that
//! changes something. Compiled in with the feature `failpoints` only, and never into a release.
//!
//! `GHOST_FAILPOINT=<step>=kill` ends the process there as SIGKILL does; `=hold` logs `held at <step>`
//! and goes on when somebody has opened the FIFO `GHOST_FAILPOINT_FIFO` for writing and closed it. A step is
//! `<port>.<method>:<before|after>#<n>`, such as `ledger.save:after#2`: the second such call of
//! this process. `GHOST_FAILPOINT_TRACE=1` logs each step as it comes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use async_trait::async_trait;
use ghost_core::domain::{
    BaseImage, Bytes, CachedImage, Checksum, Fetching, Gib, HeldImage, ImageUsers, Kept, Observed,
    Template, TemplateName, Update, Verified, VmId, VmName, VmRecord, cause,
};
use ghost_core::ports::{
    DomainSpec, FoundVolumes, Hypervisor, Images, Lease, Network, PoolSpace, PortResult, Ports,
    Storage, VmLedger,
};
use tokio::sync::watch;

#[cfg(not(debug_assertions))]
compile_error!("fail points are for tests: a release must not have the feature 'failpoints'");

/// What happens at the step.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Strike {
    Kill,
    Hold { fifo: PathBuf },
}

#[derive(Debug)]
struct Points {
    plan: Option<(String, Strike)>,
    trace: bool,
    hits: Mutex<BTreeMap<String, usize>>,
}

/// The ports with the fail points that the environment asks for.
///
/// # Errors
/// If it asks for something that does not exist.
pub(crate) fn armed(ports: Ports) -> anyhow::Result<Ports> {
    let points = Arc::new(Points::from_env()?);
    fn wrap<P: ?Sized>(inner: &Arc<P>, points: &Arc<Points>) -> Faulty<P> {
        Faulty { inner: Arc::clone(inner), points: Arc::clone(points) }
    }
    Ok(Ports {
        hypervisor: Arc::new(wrap(&ports.hypervisor, &points)),
        network: Arc::new(wrap(&ports.network, &points)),
        storage: Arc::new(wrap(&ports.storage, &points)),
        images: Arc::new(wrap(&ports.images, &points)),
        ledger: Arc::new(wrap(&ports.ledger, &points)),
        ..ports
    })
}

impl Points {
    fn from_env() -> anyhow::Result<Self> {
        let plan = match std::env::var("GHOST_FAILPOINT") {
            Ok(text) => Some(parse(&text).with_context(|| format!("GHOST_FAILPOINT={text}"))?),
            Err(_) => None,
        };
        if let Some((step, strike)) = &plan {
            tracing::info!(step, ?strike, "a fail point is armed");
        }
        let trace = std::env::var_os("GHOST_FAILPOINT_TRACE").is_some();
        Ok(Self { plan, trace, hits: Mutex::default() })
    }

    /// Makes a call between its two points.
    async fn around<T>(&self, call: &'static str, work: impl Future<Output = T>) -> T {
        self.pass(call, "before").await;
        let done = work.await;
        self.pass(call, "after").await;
        done
    }

    async fn pass(&self, call: &str, moment: &str) {
        let step = {
            let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
            let n = hits.entry(format!("{call}:{moment}")).or_default();
            *n += 1;
            format!("{call}:{moment}#{n}")
        };
        if self.trace {
            tracing::info!(step, "step");
        }
        match &self.plan {
            Some((planned, strike)) if *planned == step => strike_at(&step, strike).await,
            Some(_) | None => {}
        }
    }
}

fn parse(text: &str) -> anyhow::Result<(String, Strike)> {
    let (step, strike) = text.split_once('=').context("is not <step>=<kill|hold>")?;
    let strike = match strike {
        "kill" => Strike::Kill,
        "hold" => {
            let fifo = std::env::var_os("GHOST_FAILPOINT_FIFO");
            Strike::Hold { fifo: fifo.context("'hold' needs GHOST_FAILPOINT_FIFO")?.into() }
        }
        other => anyhow::bail!("'{other}' is neither kill nor hold"),
    };
    Ok((step.to_owned(), strike))
}

async fn strike_at(step: &str, strike: &Strike) {
    match strike {
        Strike::Kill => {
            let me = rustix::process::getpid();
            if let Err(error) = rustix::process::kill_process(me, rustix::process::Signal::KILL) {
                tracing::error!(error = cause(&error), "cannot die");
            }
            std::future::pending::<()>().await;
        }
        Strike::Hold { fifo } => {
            tracing::info!("held at {step}");
            let fifo = fifo.clone();
            let opened = tokio::task::spawn_blocking(move || std::fs::read(fifo)).await;
            tracing::info!(released = ?opened.map(|read| read.is_ok()), "released at {step}");
        }
    }
}

/// A port with a point before and after each call.
#[derive(Debug)]
struct Faulty<P: ?Sized> {
    inner: Arc<P>,
    points: Arc<Points>,
}

/// Implements a port: `change` methods have fail points, `ask` methods have none, because to die
/// beside them is to die beside the change before.
macro_rules! faulty {
    ($port:ident as $name:literal {
        $(change $change:ident($($arg:ident: $type:ty),*) -> $done:ty;)*
        $(ask $ask:ident($($ask_arg:ident: $ask_type:ty),*) -> $answer:ty;)*
    }) => {
        #[async_trait]
        impl $port for Faulty<dyn $port> {
            $(async fn $change(&self, $($arg: $type),*) -> PortResult<$done> {
                let call = concat!($name, ".", stringify!($change));
                self.points.around(call, self.inner.$change($($arg),*)).await
            })*
            $(async fn $ask(&self, $($ask_arg: $ask_type),*) -> PortResult<$answer> {
                self.inner.$ask($($ask_arg),*).await
            })*
        }
    };
}

faulty!(Hypervisor as "hypervisor" {
    change define(spec: &DomainSpec) -> ();
    change ensure_undefined(id: VmId) -> ();
    change ensure_started(id: VmId) -> ();
    change ask_to_power_off(id: VmId) -> ();
    change ensure_off(id: VmId) -> ();
    ask observe() -> Vec<Observed>;
    ask kept() -> Vec<Kept>;
    ask console_tail(id: VmId, lines: usize) -> String;
});

faulty!(Network as "network" {
    change assign_address(id: VmId, name: &VmName) -> Ipv4Addr;
    change release_address(id: VmId) -> ();
    ask lease(id: VmId) -> Option<Lease>;
});

faulty!(Storage as "storage" {
    change create_overlay(id: VmId, base: &BaseImage, size: Gib) -> PathBuf;
    change ensure_no_overlay(id: VmId) -> ();
    change store_seed(id: VmId, seed: &[u8]) -> PathBuf;
    change ensure_no_seed(id: VmId) -> ();
    ask find(id: VmId) -> FoundVolumes;
    ask space() -> PoolSpace;
});

faulty!(VmLedger as "ledger" {
    change save(record: &VmRecord) -> ();
    change ensure_removed(id: VmId) -> ();
    ask load() -> Vec<VmRecord>;
});

/// By hand: one of its methods is no future, one takes a function.
#[async_trait]
impl Images for Faulty<dyn Images> {
    async fn ensure_cached(&self, template: &Template) -> PortResult<HeldImage> {
        self.points.around("images.ensure_cached", self.inner.ensure_cached(template)).await
    }

    async fn update(&self, template: &Template) -> PortResult<Update> {
        self.points.around("images.update", self.inner.update(template)).await
    }

    async fn list(&self) -> PortResult<Vec<CachedImage>> {
        self.inner.list().await
    }

    async fn verify(&self, image: &Checksum) -> PortResult<Verified> {
        self.points.around("images.verify", self.inner.verify(image)).await
    }

    async fn ensure_forgotten(&self, template: &TemplateName) -> PortResult<()> {
        self.points.around("images.ensure_forgotten", self.inner.ensure_forgotten(template)).await
    }

    async fn ensure_removed(&self, image: &Checksum, users: &ImageUsers) -> PortResult<Bytes> {
        self.points.around("images.ensure_removed", self.inner.ensure_removed(image, users)).await
    }

    fn fetching(&self) -> watch::Receiver<Vec<Fetching>> {
        self.inner.fetching()
    }
}
