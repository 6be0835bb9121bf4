//! `<state_dir>/agent-state.json`: the agent's id, and a summary for people and scripts.
//!
//! Invariant: the id is made once and never changes, and has a copy in `<state_dir>/agent-id`, because the domains'
//! marks bear it; everything else is a copy of what the ledger holds, never the source of truth.

use std::fs;
use std::io;
use std::path::PathBuf;

use ghost_core::domain::{VmId, cause};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::atomic_file;
use crate::disk_error::DiskError;
use crate::ledger_dir::{LedgerDir, LedgerError, SCHEMA, blocking};

/// The content of `agent-state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    /// Version of the file's layout, 1.
    pub schema: u32,
    /// Made at the agent's first start; a UUID.
    pub agent_id: Uuid,
    /// The agent's version that wrote the file.
    pub version: String,
    /// All VMs of the ledger.
    pub vms: Vec<VmId>,
    /// When the control plane last answered a heartbeat.
    pub last_heartbeat: Option<Timestamp>,
}

impl AgentState {
    fn first(agent_id: Uuid, version: &str) -> Self {
        Self {
            schema: SCHEMA,
            agent_id,
            version: version.to_owned(),
            vms: Vec::new(),
            last_heartbeat: None,
        }
    }
}

/// Reads and writes `agent-state.json`; only who holds the state folder can have one.
#[derive(Debug, Clone)]
pub struct AgentStateFile {
    path: PathBuf,
}

impl AgentStateFile {
    /// The file in the ledger's state folder; nothing is read yet.
    #[must_use]
    pub fn of(ledger: &LedgerDir) -> Self {
        Self { path: ledger.state_dir().join("agent-state.json") }
    }

    /// Reads the file, and removes what a crash left of a write beside it. At the first start it is written with a new id; a damaged one is set aside
    /// as `agent-state.json.damaged-<n>`, with an error in the log, and the id is taken from its copy.
    ///
    /// # Errors
    /// [`LedgerError::TooNew`] if a newer agent wrote it; [`LedgerError::Disk`].
    pub async fn load_or_create(&self, version: &str) -> Result<AgentState, LedgerError> {
        let (file, version) = (self.clone(), version.to_owned());
        blocking(move || {
            let read = file.read()?;
            atomic_file::remove_leftovers(atomic_file::parent(&file.path))?;
            let (copy, state) = (file.read_copy(), read);
            let state = match state {
                Some(state) => state,
                None => {
                    let first = AgentState::first(copy.unwrap_or_else(Uuid::new_v4), &version);
                    file.write(&first)?;
                    first
                }
            };
            if copy != Some(state.agent_id) {
                atomic_file::write(&file.copy(), format!("{}\n", state.agent_id).as_bytes())?;
            }
            Ok(state)
        })
        .await
    }

    /// Replaces the file; durable when it returns.
    ///
    /// # Errors
    /// [`LedgerError::Disk`]; the former file is then untouched.
    pub async fn save(&self, state: &AgentState) -> Result<(), LedgerError> {
        let (file, state) = (self.clone(), state.clone());
        blocking(move || file.write(&state)).await
    }

    fn copy(&self) -> PathBuf {
        self.path.with_file_name("agent-id")
    }

    /// The copy of the id; one that can't be read is none.
    fn read_copy(&self) -> Option<Uuid> {
        fs::read_to_string(self.copy()).ok()?.trim().parse().ok()
    }

    fn read(&self) -> Result<Option<AgentState>, LedgerError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::on("read", &self.path)(error).into()),
        };
        LedgerError::refuse_newer(&self.path, &bytes)?;
        match serde_json::from_slice(&bytes) {
            Ok(state) => Ok(Some(state)),
            Err(error) => {
                let aside = atomic_file::set_aside(&self.path)?;
                tracing::error!(
                    error = cause(&error), kept_as = %aside.display(),
                    "agent-state.json is damaged: it is made anew, with the id that agent-id holds"
                );
                Ok(None)
            }
        }
    }

    fn write(&self, state: &AgentState) -> Result<(), LedgerError> {
        let mut json = serde_json::to_vec_pretty(state).map_err(LedgerError::Encode)?;
        json.push(b'\n');
        Ok(atomic_file::write(&self.path, &json)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &tempfile::TempDir) -> (LedgerDir, AgentStateFile) {
        let ledger = LedgerDir::open(dir.path()).unwrap();
        let file = AgentStateFile::of(&ledger);
        (ledger, file)
    }

    #[tokio::test]
    async fn the_id_is_made_once_and_the_rest_comes_back_as_saved() {
        let dir = tempfile::tempdir().unwrap();
        let (_ledger, file) = open(&dir);
        let mut state = file.load_or_create("1.0").await.unwrap();
        state.vms = vec![VmId::generate()];
        state.last_heartbeat = Some(Timestamp::UNIX_EPOCH);
        file.save(&state).await.unwrap();
        assert_eq!(file.load_or_create("2.0").await.unwrap(), state);
    }

    #[tokio::test]
    async fn what_a_crash_left_of_a_write_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (_ledger, file) = open(&dir);
        let (left, other) = (dir.path().join(".ghost-a1B2c3.tmp"), dir.path().join("notes.tmp"));
        for path in [&left, &other] {
            fs::write(path, "half").unwrap();
        }
        file.load_or_create("1.0").await.unwrap();
        assert!(!left.exists() && other.exists());
    }

    #[tokio::test]
    async fn a_damaged_file_is_kept_aside_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (_ledger, file) = open(&dir);
        fs::write(&file.path, "{torn").unwrap();
        let state = file.load_or_create("1.0").await.unwrap();
        assert_eq!(file.read().unwrap(), Some(state.clone()));
        for damage in ["{torn", ""] {
            fs::write(&file.path, damage).unwrap();
            assert_eq!(file.load_or_create("1.0").await.unwrap().agent_id, state.agent_id);
        }
        fs::remove_file(&file.path).unwrap();
        assert_eq!(file.load_or_create("1.0").await.unwrap().agent_id, state.agent_id);
        let aside = dir.path().join("agent-state.json.damaged-1");
        assert_eq!(fs::read_to_string(aside).unwrap(), "{torn");
    }

    #[tokio::test]
    async fn the_file_of_a_newer_agent_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let (_ledger, file) = open(&dir);
        fs::write(&file.path, r#"{"schema": 2, "agent": {}}"#).unwrap();
        let error = file.load_or_create("1.0").await.unwrap_err();
        assert!(matches!(error, LedgerError::TooNew { schema: 2, .. }), "{error}");
        assert_eq!(fs::read_to_string(&file.path).unwrap(), r#"{"schema": 2, "agent": {}}"#);
    }
}
