//! Replaces the certificate before it ends.
//!
//! Invariants: each renewal has a new key; calls under way end with the former certificate; the authority is never changed by
//! one: whoever it is that issues, the agent believes whom its enrolment key named.

use std::sync::Arc;
use std::time::Duration;

use ghost_core::application::backoff::{Backoff, Dice, around};
use ghost_core::application::heartbeat::schedule::SLOW;
use ghost_core::domain::cause;
use ghost_core::domain::control::{ControlError, Refusal};
use ghost_core::ports::{Clock, ControlResult, call_span};
use jiff::{SignedDuration, Timestamp};
use tracing::Instrument as _;
use uuid::Uuid;

use super::client::GrpcControlPlane;
use super::credentials::{CredentialSource, Credentials, certificates};
use super::files;
use super::issued::Asked;
use crate::config::TlsFiles;

/// Pauses after a renewal that failed: there is a third of the lifetime left.
const RENEWAL: Backoff = Backoff { base: Duration::from_secs(60), cap: Duration::from_secs(3600) };

/// The wall clock is looked at so often: the host may have slept, or its clock been set.
const LOOK: Duration = Duration::from_secs(600);

/// What is needed to renew.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) agent: Uuid,
    pub(super) plane: Arc<GrpcControlPlane>,
    pub(super) files: TlsFiles,
    pub(super) credentials: CredentialSource,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) dice: Dice,
}

impl Renewal {
    /// Never ends by itself.
    pub(super) async fn run(&self) {
        let (mut failures, mut said) = (0u32, None);
        loop {
            self.until_due().await;
            // Gone before the pause: its end is the call's.
            let span = call_span("Renew");
            match self.renew().instrument(span.clone()).await {
                Ok(()) => {
                    drop(span);
                    (failures, said) = (0, None);
                    self.clock.sleep(self.rest()).await;
                }
                Err(error) => {
                    let pause = self.pause(&error, failures);
                    failures = failures.saturating_add(1);
                    if said.as_ref() != Some(&error) {
                        span.in_scope(|| {
                            tracing::warn!(
                                error = cause(&error),
                                "cannot renew the agent's certificate; trying again"
                            )
                        });
                        said = Some(error);
                    }
                    drop(span);
                    self.clock.sleep(pause).await;
                }
            }
        }
    }

    /// After a renewal, whatever came of it: a certificate that is due again at once, because the host's clock is far
    /// ahead or the control plane backdates, must not make it spin.
    fn rest(&self) -> Duration {
        let lifetime = self
            .credentials
            .current()
            .and_then(|now| Duration::try_from(now.not_after.duration_since(now.not_before)).ok());
        lifetime.map_or(LOOK, |lifetime| (lifetime / 20).min(RENEWAL.cap))
    }

    async fn until_due(&self) {
        let mut changes = self.credentials.changes.clone();
        let random = self.dice.roll();
        loop {
            let due =
                changes.borrow_and_update().as_deref().and_then(|now| due(now, self.agent, random));
            let left = due.map_or(LOOK, |due| {
                Duration::try_from(due.duration_since(self.clock.now()))
                    .unwrap_or_default()
                    .min(LOOK)
            });
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = self.clock.sleep(left) => {}
                Ok(()) = changes.changed() => {}
            }
        }
    }

    fn pause(&self, error: &ControlError, failures: u32) -> Duration {
        match error.refusal {
            Refusal::Transient { .. } => RENEWAL.pause(failures, self.dice.roll()),
            Refusal::NotRegistered | Refusal::Superseded | Refusal::Refused => {
                around(SLOW, 0.1, self.dice.roll())
            }
        }
    }

    /// Once.
    pub(super) async fn renew(&self) -> ControlResult<()> {
        let asked = Asked::of(self.agent)?;
        let answer = self.plane.renew(asked.csr.clone()).await?;
        let (agent, to) = (self.agent, self.files.clone());
        let reload = Arc::clone(&self.credentials.reload);
        let write = move || {
            let authorities = certificates(&to.ca)?;
            let issued = asked.accept(agent, answer.chain, &authorities)?;
            files::replace(&to, &issued)?;
            reload();
            Ok(())
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(|_| ControlError::transient("the agent is shutting down"))??;
        tracing::info!(cert = %self.files.cert.display(), "renewed the agent's certificate");
        Ok(())
    }
}

/// When to renew: when two thirds of the lifetime have passed, or up to a tenth of it later. `None` for a certificate that
/// the control plane did not issue: it does not renew it.
fn due(credentials: &Credentials, agent: Uuid, random: f64) -> Option<Timestamp> {
    let Credentials { not_before, not_after, .. } = credentials;
    let lifetime = Duration::try_from(not_after.duration_since(*not_before)).ok()?;
    let passed = SignedDuration::try_from(lifetime.mul_f64(2.0 / 3.0 + 0.1 * random)).ok()?;
    not_before.checked_add(passed).ok().filter(|_| credentials.are_of(agent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::tests::authority::{AGENT, Authority, PAST, source_in_the_past};

    #[tokio::test]
    async fn a_certificate_is_renewed_when_two_thirds_of_its_time_have_passed_or_a_little_later() {
        let dir = tempfile::tempdir().unwrap();
        let files = Authority::new().equips(dir.path(), PAST);
        let now = source_in_the_past(&files).current().unwrap();
        // 2020 had 366 days.
        let at = |random, agent| due(&now, agent, random).map(|due| due.strftime("%F").to_string());
        assert_eq!(at(0.0, AGENT).as_deref(), Some("2020-09-01"));
        assert_eq!(at(1.0, AGENT).as_deref(), Some("2020-10-07"));
        // One that the operator made is not renewed by the control plane.
        assert_eq!(at(0.0, Uuid::from_u128(8)), None);
    }
}
