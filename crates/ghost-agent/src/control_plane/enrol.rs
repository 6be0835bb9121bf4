//! Exchanges the one-time key for the first certificate.
//!
//! Invariants: a certificate that works is never replaced by it; without one the agent goes on serving its own host, and tries
//! again, slowly where only a person can help.

use std::sync::Arc;
use std::time::Duration;

use ghost_core::application::backoff::{Backoff, Dice, around};
use ghost_core::application::heartbeat::schedule::SLOW;
use ghost_core::domain::cause;
use ghost_core::domain::control::{ControlError, Refusal};
use ghost_core::ports::{Clock, ControlResult, call_span};
use ghost_proto::controlplane::EnrollRequest;
use rustls_pki_types::CertificateDer;
use tracing::Instrument as _;
use uuid::Uuid;

use super::credentials::{CredentialSource, certificates, validity};
use super::dial::{self, Verdict};
use super::issued::Asked;
use super::pin::Pin;
use super::target::Target;
use super::{client, files};
use crate::config::{ApiKey, TlsFiles};

/// `ghost-1-<secret>-<SHA-256 of the authority's certificate>` (the wire contract).
#[derive(Clone)]
pub(super) struct EnrolmentKey {
    secret: String,
    pin: Pin,
}

impl EnrolmentKey {
    pub(super) fn parse(key: &ApiKey) -> Result<Self, ControlError> {
        let parse = || {
            let (secret, pin) = key.expose().strip_prefix("ghost-1-")?.split_once('-')?;
            let base32 = |b: u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b);
            if secret.len() != 52 || !secret.bytes().all(base32) || pin.len() != 64 {
                return None;
            }
            let mut sum = [0; 32];
            for (byte, pair) in sum.iter_mut().zip(pin.as_bytes().chunks_exact(2)) {
                *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
            }
            Some(Self { secret: secret.to_owned(), pin: Pin(sum) })
        };
        parse().ok_or_else(|| {
            ControlError::refused(
                "GHOST_API_KEY is not a key of a control plane (ghost-1-…); copy it again as a whole",
            )
        })
    }
}

/// What is needed to enrol.
#[derive(Debug)]
pub(super) struct Enrolment {
    pub(super) agent: Uuid,
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) key: Option<ApiKey>,
    pub(super) files: TlsFiles,
    pub(super) credentials: CredentialSource,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) dice: Dice,
}

impl Enrolment {
    /// Returns when there is nothing to do, or nothing that can be done.
    pub(super) async fn run(&self) {
        if self.has_certificate() {
            return;
        }
        let Some(key) = &self.key else {
            tracing::error!(
                "the agent has no certificate for its control plane, and no key to get one: it serves its own host only; set GHOST_API_KEY to a key of the control plane and start it again"
            );
            return;
        };
        let key = match EnrolmentKey::parse(key) {
            Ok(key) => key,
            Err(error) => {
                return tracing::error!(
                    error = cause(&error),
                    "cannot enrol; the agent serves its own host only"
                );
            }
        };
        let (mut failures, mut said) = (0u32, None);
        loop {
            // Gone before the pause: its end is the call's.
            let span = call_span("Enroll");
            let Err(error) = self.attempt(&key).instrument(span.clone()).await else { return };
            let pause = self.pause(&error, failures);
            failures = failures.saturating_add(1);
            if said.as_ref() != Some(&error) {
                span.in_scope(|| {
                    tracing::error!(
                        error = cause(&error),
                        "cannot enrol; the agent serves its own host only, and tries again"
                    )
                });
                said = Some(error);
            }
            drop(span);
            self.clock.sleep(pause).await;
            // Somebody put one there meanwhile.
            if self.credentials.current().is_some() {
                return;
            }
        }
    }

    fn pause(&self, error: &ControlError, failures: u32) -> Duration {
        match error.refusal {
            Refusal::Transient { retry_after } => {
                Backoff::CONTROL_PLANE.pause_after(retry_after, failures, self.dice.roll())
            }
            Refusal::NotRegistered | Refusal::Superseded | Refusal::Refused => {
                around(SLOW, 0.1, self.dice.roll())
            }
        }
    }

    /// Whether there is one that works, or that a person has to look at.
    fn has_certificate(&self) -> bool {
        if !self.files.cert.exists() {
            return false;
        }
        let leaf = certificates(&self.files.cert).ok().and_then(|chain| chain.into_iter().next());
        let ended = leaf
            .and_then(|leaf| validity(&leaf).ok())
            .is_some_and(|(_, end)| end < self.clock.now());
        if ended {
            tracing::warn!(
                cert = %self.files.cert.display(),
                "the agent's certificate has expired; with a new GHOST_API_KEY it is replaced"
            );
        }
        !ended
    }

    /// Once, with the key pair of the attempts before, those of earlier processes included.
    pub(super) async fn attempt(&self, key: &EnrolmentKey) -> ControlResult<()> {
        let (files, agent) = (self.files.clone(), self.agent);
        let asked = tokio::task::spawn_blocking(move || files::asked(&files, agent))
            .await
            .map_err(|_| ControlError::transient("the agent is shutting down"))??;
        self.enrol(key, asked).await
    }

    /// Once.
    pub(super) async fn enrol(&self, key: &EnrolmentKey, asked: Asked) -> ControlResult<()> {
        let request = EnrollRequest {
            secret: key.secret.clone(),
            agent_id: self.agent.to_string(),
            csr: asked.csr.clone(),
            agent_name: self.name.clone(),
        };
        let tls = key.pin.client_config().map_err(|error| {
            ControlError::refused(format!("TLS 1.3 can't be used: {error}; report it as a fault"))
        })?;
        let verdict = Verdict::default();
        let stub = client::client(dial::channel(&self.target, tls, &verdict));
        let answer = client::call(
            (&self.target, client::CALL_LIMIT),
            stub,
            &verdict,
            request,
            async |mut client, request| client.enroll(request).await,
        )
        .await?;
        if !key.pin.is_of(&answer.ca) {
            return Err(ControlError::refused(
                "the control plane gave another authority than GHOST_API_KEY names; it was not taken: look at the control plane",
            ));
        }
        let authority = CertificateDer::from(answer.ca);
        let issued = asked.accept(self.agent, answer.chain, std::slice::from_ref(&authority))?;
        let (to, reload) = (self.files.clone(), Arc::clone(&self.credentials.reload));
        let write = move || {
            files::write_authority(&to, &authority)?;
            files::replace(&to, &issued)?;
            files::forget_asked(&to);
            reload();
            Ok(())
        };
        tokio::task::spawn_blocking(write)
            .await
            .map_err(|_| ControlError::transient("the agent is shutting down"))??;
        tracing::info!(agent_id = %self.agent, cert = %self.files.cert.display(), "enrolled");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    #[test]
    fn only_a_whole_key_is_one() {
        let (secret, pin) =
            ("abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst", "0f".repeat(32));
        let key = |text: String| EnrolmentKey::parse(&ApiKey::read(&text).unwrap().unwrap());
        let good = key(format!("ghost-1-{secret}-{pin}")).ok().unwrap();
        assert_eq!((good.secret.as_str(), good.pin), (secret, Pin([15; 32])));
        for wrong in [
            format!("ghost-2-{secret}-{pin}"),
            format!("ghost-1-{secret}"),
            format!("ghost-1-{}-{pin}", &secret[1..]),
            format!("ghost-1-{}-{pin}", secret.to_uppercase()),
            format!("ghost-1-{secret}-{}", &pin[2..]),
            format!("ghost-1-{secret}-{}", "0g".repeat(32)),
        ] {
            let error = key(wrong).err().unwrap();
            assert!(!error.to_string().contains(secret), "{error}");
        }
    }
}
