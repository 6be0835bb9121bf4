//! A look at the VPN every ten seconds. Invariant: what is told is the last that is known; that the VPN's
//! client does not answer for a while is told beside it and undoes nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::{AppError, VpnState, VpnStatus, cause};
use ghost_core::ports::{Clock, PortResult, Vpn};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::grpc::call::chain;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(10);

/// What is known of the VPN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VpnView {
    /// What it was when it was last seen; `None` if it never was.
    pub status: Option<VpnStatus>,
    /// Why the last look failed, if it did: cause and remedy in one line.
    pub failure: Option<String>,
}

impl VpnView {
    /// This host's address in it, if it has one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.status.as_ref().and_then(VpnStatus::address)
    }

    /// What is wrong with it, one line each with its remedy; nothing if all is well or it was not
    /// looked at yet. For health and for heartbeats.
    #[must_use]
    pub fn reasons(&self, now: Timestamp) -> Vec<String> {
        let findings = self.status.iter().flat_map(|status| status.findings(now));
        self.failure.clone().into_iter().chain(findings.map(|one| one.to_string())).collect()
    }
}

/// Looks, and tells.
#[derive(Debug)]
pub struct VpnWatch {
    vpn: Arc<dyn Vpn>,
    clock: Arc<dyn Clock>,
    view: watch::Sender<VpnView>,
}

impl VpnWatch {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(vpn: Arc<dyn Vpn>, clock: Arc<dyn Clock>) -> Self {
        Self { vpn, clock, view: watch::Sender::new(VpnView::default()) }
    }

    /// Tells of each change.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<VpnView> {
        self.view.subscribe()
    }

    /// Looks once, within the port's limit.
    pub async fn look(&self) {
        let seen = self.vpn.status().await;
        self.view.send_if_modified(|view| {
            let former = view.clone();
            let failed = take(view, seen);
            if *view != former {
                tell(&former, view, failed.as_ref(), self.clock.now());
            }
            *view != former
        });
    }

    /// Looks for ever, the first time at once.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.look().await;
            self.clock.sleep(EVERY).await;
        }
    }
}

/// Gives why it could not be looked, if so.
fn take(view: &mut VpnView, seen: PortResult<VpnStatus>) -> Option<AppError> {
    match seen {
        Ok(status) => {
            *view = VpnView { status: Some(status), failure: None };
            None
        }
        Err(error) => {
            view.failure = Some(chain(&error));
            Some(error)
        }
    }
}

/// One line for each change that matters.
fn tell(former: &VpnView, view: &VpnView, failed: Option<&AppError>, now: Timestamp) {
    if let Some(error) = failed.filter(|_| view.failure != former.failure) {
        tracing::warn!(
            error = cause(error),
            "cannot see what the VPN is like; what is known stays"
        );
    }
    let main = |view: &VpnView| view.status.as_ref().map(|status| (status.state, status.address()));
    let (Some((state, address)), was) = (main(view), main(former)) else { return };
    if was == Some((state, address)) {
        return;
    }
    match (state, address) {
        (VpnState::Running, Some(address)) => tracing::info!(%address, "the VPN is up"),
        // Most hosts have none, and are told so where it matters.
        (VpnState::NotInstalled, _) if was.is_none() => tracing::debug!("there is no VPN"),
        (_, _) => {
            let reasons = view.reasons(now).join("; ");
            tracing::warn!(reasons, "this host has no address in the VPN");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use ghost_core::domain::{AppError, ErrorKind};
    use ghost_core::testing::FakeClock;

    use super::*;

    /// Answers what it is told to, and then that it is away.
    #[derive(Debug)]
    struct Scripted(Mutex<Vec<VpnStatus>>);

    #[async_trait]
    impl Vpn for Scripted {
        async fn status(&self) -> PortResult<VpnStatus> {
            let next = self.0.lock().unwrap().pop();
            next.ok_or_else(|| AppError::new(ErrorKind::NetworkUnavailable, "away").remedy("wait"))
        }
    }

    fn up(address: &str) -> VpnStatus {
        let addresses = vec![address.parse().unwrap()];
        VpnStatus { addresses, ..VpnStatus::without_network(VpnState::Running) }
    }

    #[tokio::test(start_paused = true)]
    async fn each_change_is_told_and_a_client_that_is_away_undoes_nothing() {
        let script = vec![up("100.64.0.8"), up("100.64.0.7"), up("100.64.0.7")];
        let vpn = Arc::new(Scripted(Mutex::new(script)));
        let clock: Arc<dyn Clock> = Arc::new(FakeClock::default());
        let watch = Arc::new(VpnWatch::new(vpn, Arc::clone(&clock)));
        let mut view = watch.view();
        assert_eq!(view.borrow().reasons(clock.now()), [""; 0], "not looked at yet");
        let mut told = Vec::new();
        let following = async {
            while told.len() < 3 {
                view.changed().await.unwrap();
                let view = view.borrow_and_update();
                told.push((view.address().unwrap().to_string(), view.reasons(clock.now())));
            }
        };
        tokio::select! { () = Arc::clone(&watch).run() => {}, () = following => {} }
        let none = Vec::<String>::new();
        let (seven, eight) = ("100.64.0.7".to_owned(), "100.64.0.8".to_owned());
        let away = vec!["away; wait".to_owned()];
        assert_eq!(told, [(seven, none.clone()), (eight.clone(), none), (eight, away)]);
    }
}
