//! The tables, and what all of them need. Invariant: what is written is JSON of a type of the domain.

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Attempt;
use crate::domain::audit::{AuditRecord, Change};

/// Digest of the secret → [`crate::domain::token::Token`].
pub(super) const TOKENS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tokens");
/// Id → [`crate::domain::AgentRecord`].
pub(super) const AGENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("agents");
/// Agent and sequence → [`crate::domain::event::KeptEvent`].
pub(super) const EVENTS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("events");
/// Agent → (the last kept event, how many are kept).
pub(super) const HEADS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("event-heads");
/// Number → [`AuditRecord`].
pub(super) const AUDIT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit");
/// Request id → (agent, second of the command).
pub(super) const ASSIGNED: TableDefinition<'_, &str, (&str, i64)> =
    TableDefinition::new("assigned");

/// Makes all of them, so that readers find them.
pub(super) fn make(transaction: &WriteTransaction) -> Attempt<()> {
    transaction.open_table(TOKENS)?;
    transaction.open_table(AGENTS)?;
    transaction.open_table(EVENTS)?;
    transaction.open_table(HEADS)?;
    transaction.open_table(AUDIT)?;
    transaction.open_table(ASSIGNED)?;
    Ok(())
}

pub(super) fn put<T: Serialize>(
    table: &mut Table<'_, &'static str, &'static [u8]>,
    key: &str,
    value: &T,
) -> Attempt<()> {
    table.insert(key, serde_json::to_vec(value)?.as_slice())?;
    Ok(())
}

pub(super) fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Attempt<Option<T>> {
    Ok(table.get(key)?.map(|value| serde_json::from_slice(value.value())).transpose()?)
}

/// Puts a change on record, in the transaction that makes it.
pub(super) fn put_on_record(transaction: &WriteTransaction, change: Change) -> Attempt<()> {
    let mut audit = transaction.open_table(AUDIT)?;
    let record = {
        let last = audit.last()?;
        let last = last.as_ref().map(|(number, stored)| (number.value(), stored.value()));
        AuditRecord::behind(last, change)
    };
    audit.insert(record.number, serde_json::to_vec(&record)?.as_slice())?;
    Ok(())
}
