//! What a person sees of a watch. Invariant: a VM has a line for each time that it looks different,
//! and none for being told again.
//!
//! ```text
//!          state*            synced
//! (telling) ──────▶ (telling) ──────▶ (told) ── changed, deleted: a line each
//!                                       │ state: the agent tells anew, e.g. after its restart
//!                                       └──────▶ (telling); at synced, a line for each difference
//! ```

use std::collections::BTreeMap;

use ghost_proto::agentpb::VmEvent;

use super::super::list::{self, Row};
use crate::output;

/// All VMs as they were last told, by id.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// `None` before all were told for the first time.
    known: Option<BTreeMap<String, Row>>,
    /// What is being told.
    telling: BTreeMap<String, Row>,
}

impl Board {
    /// What was half told will be told again.
    pub(super) fn reconnected(&mut self) {
        self.telling.clear();
    }

    /// What to print for `event`, which came at `time`; nothing for a kind that is not known here.
    pub(super) fn take(&mut self, event: VmEvent, time: &str) -> String {
        let row = event.vm.map(|vm| Row {
            name: vm.name,
            status: vm.status,
            ip_address: vm.ip_address,
            vm_id: vm.vm_id,
            reason: vm.reason,
        });
        match (event.kind.as_str(), row) {
            ("state", Some(row)) => {
                self.telling.insert(row.vm_id.clone(), row);
                String::new()
            }
            ("synced", _) => self.synced(time),
            ("changed", Some(row)) => {
                let line = changed(&row, time);
                self.known.get_or_insert_default().insert(row.vm_id.clone(), row);
                line
            }
            ("deleted", Some(row)) => {
                self.known.get_or_insert_default().remove(&row.vm_id);
                deleted(&row.name, time)
            }
            _ => String::new(),
        }
    }

    fn synced(&mut self, time: &str) -> String {
        let now = std::mem::take(&mut self.telling);
        let text = match &self.known {
            None => {
                let mut rows: Vec<Row> = now.values().cloned().collect();
                rows.sort_by(|a, b| a.name.cmp(&b.name));
                list::draw(&rows)
            }
            Some(before) => {
                let gone = before.values().filter(|row| !now.contains_key(&row.vm_id));
                let other = now.values().filter(|row| before.get(&row.vm_id) != Some(*row));
                let gone = gone.map(|row| deleted(&row.name, time));
                gone.chain(other.map(|row| changed(row, time))).collect()
            }
        };
        self.known = Some(now);
        text
    }
}

fn changed(row: &Row, time: &str) -> String {
    let mut line = format!("{}: {}", row.name, row.status);
    for (before, text) in [(", ", &row.ip_address), (": ", &row.reason)] {
        if !text.is_empty() {
            line.push_str(before);
            line.push_str(text);
        }
    }
    format!("{time}  {}\n", output::printable(&line))
}

fn deleted(name: &str, time: &str) -> String {
    format!("{time}  {}: deleted\n", output::printable(name))
}

#[cfg(test)]
mod tests {
    use ghost_proto::agentpb::GetVmStatusResponse;

    use super::*;

    fn event(kind: &str, name: &str, status: &str) -> VmEvent {
        let vm = GetVmStatusResponse {
            vm_id: format!("id-{name}"),
            name: name.to_owned(),
            status: status.to_owned(),
            ..Default::default()
        };
        VmEvent { kind: kind.to_owned(), vm: Some(vm), ..Default::default() }
    }

    fn synced() -> VmEvent {
        VmEvent { kind: "synced".to_owned(), ..Default::default() }
    }

    fn told(board: &mut Board, events: impl IntoIterator<Item = VmEvent>) -> String {
        events.into_iter().map(|event| board.take(event, "T")).collect()
    }

    #[test]
    fn the_table_comes_once_all_were_told() {
        let mut board = Board::default();
        assert_eq!(
            told(&mut board, [event("state", "b", "running"), event("state", "a", "off")]),
            ""
        );
        let table = told(&mut board, [synced()]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].starts_with("a ") && lines[2].starts_with("b "), "{table}");
    }

    #[test]
    fn being_told_anew_shows_only_what_is_different() {
        let mut board = Board::default();
        let before = ["a", "b", "c"].map(|name| event("state", name, "running"));
        told(&mut board, before.into_iter().chain([synced()]));
        let anew = [event("state", "b", "stopped"), event("state", "c", "running")];
        assert_eq!(
            told(&mut board, anew.into_iter().chain([synced()])),
            "T  a: deleted\nT  b: stopped\n"
        );
        assert_eq!(told(&mut board, [synced()]), "T  b: deleted\nT  c: deleted\n");
    }

    #[test]
    fn what_was_half_told_is_forgotten_with_the_connection() {
        let mut board = Board::default();
        told(&mut board, [event("state", "a", "running")]);
        board.reconnected();
        assert_eq!(told(&mut board, [synced()]), "NAME  STATUS  ADDRESS  ID\n");
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let mut board = Board::default();
        let mut evil = event("changed", "a\nT  b: deleted", "running\u{1b}[2J");
        if let Some(vm) = &mut evil.vm {
            vm.reason = "\r\u{202e}why".to_owned();
        }
        let line = told(&mut board, [evil, event("deleted", "x\u{7}", "")]);
        assert_eq!(
            line,
            "T  a\u{fffd}T  b: deleted: running\u{fffd}[2J: \u{fffd}\u{fffd}why\nT  x\u{fffd}: deleted\n"
        );
    }

    #[test]
    fn a_kind_of_a_later_agent_is_passed_over() {
        assert_eq!(told(&mut Board::default(), [event("frozen", "a", "running")]), "");
    }
}
