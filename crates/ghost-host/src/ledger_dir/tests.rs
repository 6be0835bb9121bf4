use std::os::unix::fs::symlink;

use futures_util::FutureExt;
use ghost_core::domain::{Desired, VmStage};
use tempfile::TempDir;

use super::*;

fn ledger() -> (TempDir, LedgerDir) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = LedgerDir::open(&dir.path().join("state")).unwrap();
    (dir, ledger)
}

fn record() -> VmRecord {
    let id = VmId::generate();
    serde_json::from_value(serde_json::json!({
        "id": id, "name": "web-1", "shape": {"vcpus": 2, "ram": 4, "disk": 20}, "template": "debian-12",
        "metadata": {"owner": "löw \"x\""}, "request_id": "r-1", "stage": {"creating": {"undo": ["address", "disk"]}},
        "address": "192.168.122.7", "created_at": "2024-01-02T03:04:05Z", "started_at": null
    }))
    .unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(ledger: &LedgerDir) -> Vec<String> {
    let entries = fs::read_dir(&ledger.vms).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_was_saved_last_is_loaded_by_the_next_agent() {
    let (dir, ledger) = ledger();
    let mut record = record();
    ledger.save(&record).await.unwrap();
    record.stage = VmStage::settled(Desired::Running);
    ledger.save(&record).await.unwrap();
    drop(ledger);
    let next = LedgerDir::open(&dir.path().join("state")).unwrap();
    assert_eq!(next.load().await.unwrap(), vec![record]);
}

#[tokio::test]
async fn files_name_their_schema_and_only_the_agent_may_read_them() {
    let (dir, ledger) = ledger();
    let record = record();
    ledger.save(&record).await.unwrap();
    let path = ledger.path(record.id);
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((&json["schema"], &json["name"]), (&1.into(), &"web-1".into()));
    let state = dir.path().join("state");
    assert_eq!([mode(&path), mode(&state.join("lock"))], [0o600; 2]);
    assert_eq!([mode(&state), mode(&ledger.vms)], [0o711, 0o700]);
}

#[tokio::test]
async fn a_removed_record_is_gone_and_removing_it_again_changes_nothing() {
    let (_dir, ledger) = ledger();
    let (kept, removed) = (record(), record());
    ledger.save(&kept).await.unwrap();
    ledger.save(&removed).await.unwrap();
    ledger.ensure_removed(removed.id).await.unwrap();
    ledger.ensure_removed(removed.id).await.unwrap();
    assert_eq!(ledger.load().await.unwrap(), vec![kept]);
}

#[tokio::test]
async fn a_second_agent_on_the_same_folder_is_refused_until_the_first_ends() {
    let (dir, ledger) = ledger();
    let state = dir.path().join("state");
    let error = LedgerDir::open(&state).unwrap_err();
    assert!(matches!(error, LedgerError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another ghost-agent uses this state directory"));
    drop(ledger);
    LedgerDir::open(&state).unwrap();
}

#[tokio::test]
async fn a_crash_before_the_rename_leaves_the_former_record_and_no_litter() {
    let (_dir, ledger) = ledger();
    let record = record();
    ledger.save(&record).await.unwrap();
    fs::write(ledger.vms.join(".ghost-Ab12Cd.tmp"), "{\"schema\": 1, \"id\"").unwrap();
    assert_eq!(ledger.load().await.unwrap(), vec![record.clone()]);
    assert_eq!(names(&ledger), vec![format!("{}.json", record.id)]);
}

#[tokio::test]
async fn damaged_and_foreign_files_are_kept_aside_and_the_rest_is_loaded() {
    let (_dir, ledger) = ledger();
    let good = record();
    ledger.save(&good).await.unwrap();
    let whole = fs::read(ledger.path(good.id)).unwrap();
    let ids: Vec<VmId> = (0..6).map(|_| VmId::generate()).collect();
    let contents: [&[u8]; 6] =
        [b"", &whole[..whole.len() / 2], b"\0\0\0\0", b"[1, 2]", &whole, b"{\"schema\": 0}"];
    for (id, content) in ids.iter().zip(contents) {
        fs::write(ledger.path(*id), content).unwrap();
    }
    fs::write(ledger.vms.join("notes.txt"), "mine").unwrap();
    symlink("/nowhere", ledger.vms.join("link.json")).unwrap();
    fs::create_dir(ledger.vms.join("folder.json")).unwrap();

    for _again in 0..2 {
        assert_eq!(ledger.load().await.unwrap(), vec![good.clone()]);
    }

    let mut expected: Vec<String> = ids.iter().map(|id| format!("{id}.json.damaged-1")).collect();
    expected
        .extend(["folder.json", "link.json.damaged-1", "notes.txt.damaged-1"].map(str::to_owned));
    expected.push(format!("{}.json", good.id));
    expected.sort();
    assert_eq!(names(&ledger), expected);
    for (id, content) in ids.iter().zip(contents) {
        let aside = ledger.vms.join(format!("{id}.json.damaged-1"));
        assert_eq!(fs::read(aside).unwrap(), content);
    }
}

#[tokio::test]
async fn a_newer_agents_file_stops_the_load_before_anything_is_changed() {
    let (_dir, ledger) = ledger();
    fs::write(ledger.vms.join(".ghost-Ab12Cd.tmp"), "").unwrap();
    fs::write(ledger.vms.join("torn.json"), "{").unwrap();
    fs::write(ledger.path(VmId::generate()), r#"{"schema": 2, "unknown": true}"#).unwrap();
    let before = names(&ledger);
    let error = ledger.load().await.unwrap_err().to_string();
    assert!(
        error.contains("has schema 2, this ghost-agent knows up to 1; run the newer"),
        "{error}"
    );
    assert_eq!(names(&ledger), before);
}

#[tokio::test]
async fn a_thousand_records_are_all_loaded() {
    let (_dir, ledger) = ledger();
    let template = record();
    for _ in 0..1000 {
        let record = VmRecord { id: VmId::generate(), ..template.clone() };
        let json = serde_json::to_vec(&Entry { schema: SCHEMA, record: &record }).unwrap();
        fs::write(ledger.path(record.id), json).unwrap();
    }
    let started = std::time::Instant::now();
    assert_eq!(ledger.load().await.unwrap().len(), 1000);
    // A hundred times what it takes; only a quadratic load fails this.
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_write_whose_caller_went_away_never_overtakes_a_later_one() {
    let (_dir, ledger) = ledger();
    let mut record = record();
    for round in 0..50_i64 {
        record.created_at = jiff::Timestamp::from_second(round).unwrap();
        let mut abandoned = ledger.save(&record);
        assert!(abandoned.as_mut().now_or_never().is_none());
        drop(abandoned);
        record.created_at = jiff::Timestamp::from_second(1_000 + round).unwrap();
        ledger.save(&record).await.unwrap();
        assert_eq!(ledger.load().await.unwrap(), vec![record.clone()]);
    }
}

#[tokio::test]
async fn a_folder_that_vanished_is_an_error_with_a_remedy() {
    let (_dir, ledger) = ledger();
    fs::remove_dir(&ledger.vms).unwrap();
    let error = ledger.save(&record()).await.unwrap_err().to_string();
    assert!(error.contains("no such file or folder; create it"), "{error}");
}
