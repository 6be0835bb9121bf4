//! Keys, and who came in by them.

use async_trait::async_trait;
use redb::ReadableTable as _;

use super::tables::{AGENTS, TOKENS, get, put, put_on_record};
use super::{Attempt, RedbStore};
use crate::domain::AgentRecord;
use crate::domain::audit::Change;
use crate::domain::token::{Admission, Applicant, KeyRefusal, Token, Used, admit};
use crate::store::{EnrolError, FORGOTTEN_AFTER, StoreError, Tokens, earlier, enrolled};

#[async_trait]
impl Tokens for RedbStore {
    async fn add_token(&self, token: Token, change: Change) -> Result<(), StoreError> {
        self.write("keep a key", move |transaction| {
            let mut tokens = transaction.open_table(TOKENS)?;
            let oldest = earlier(change.at, FORGOTTEN_AFTER);
            let mut forgotten = Vec::new();
            for entry in tokens.iter()? {
                let (key, value) = entry?;
                let token: Token = serde_json::from_slice(value.value())?;
                if token.expires_at < oldest {
                    forgotten.push(key.value().to_owned());
                }
            }
            for key in forgotten {
                tokens.remove(key.as_str())?;
            }
            put(&mut tokens, &token.hash.to_string(), &token)?;
            put_on_record(transaction, change)
        })
        .await
    }

    async fn enrol(
        &self,
        who: Applicant,
        change: Change,
    ) -> Result<(AgentRecord, Admission), EnrolError> {
        let deciding = self.write("enrol an agent", move |transaction| {
            let mut tokens = transaction.open_table(TOKENS)?;
            let mut agents = transaction.open_table(AGENTS)?;
            let secret = who.secret.to_string();
            let token: Option<Token> = get(&tokens, &secret)?;
            let former: Option<AgentRecord> = get(&agents, &who.agent.to_string())?;
            let admission = match admit(token.as_ref(), former.as_ref(), &who) {
                Ok(admission) => admission,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let (agent, token) = match (admission, former, token) {
                (Admission::Repeated, Some(agent), _) => return Ok(Ok((agent, admission))),
                (_, former, Some(token)) => (enrolled(former, &who), token),
                (_, _, None) => return Ok(Err(KeyRefusal::Unknown)),
            };
            let used = Used { agent: who.agent, public_key: who.public_key, at: who.at };
            put(&mut tokens, &secret, &Token { used: Some(used), ..token })?;
            put(&mut agents, &who.agent.to_string(), &agent)?;
            put_on_record(transaction, change)?;
            Attempt::Ok(Ok((agent, admission)))
        });
        deciding.await.map_err(EnrolError::Store)?.map_err(EnrolError::Refused)
    }
}
