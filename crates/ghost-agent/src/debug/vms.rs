//! VMs as a bug report may have them. Invariant: of a label only its key and the length of its value are told: labels are their owner's,
//! and may be secrets.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use ghost_core::application::ImageEntry;
use ghost_core::domain::{VmId, VmView};
use serde_json::{Value, json};

use super::{Sheet, Sheets};

/// Largest file of the ledger that is read, in bytes; a record with all its labels has a tenth of it.
const LARGEST: u64 = 1 << 20;
/// Most files of the ledger.
const MOST: usize = 1000;
/// Shortest value of a label that is looked for in all other texts, in characters: shorter ones are words.
const TELLING: usize = 16;
/// Most of them: each costs a search through every text.
const MOST_TELLING: usize = 200;

/// `agent/vms.json`: what readers of the API see.
pub fn views(vms: &[Arc<VmView>]) -> Sheets {
    let vms = vms.iter().map(|vm| view(vm)).collect::<Result<Vec<_>, _>>();
    let vms = vms.map_err(|error| error.to_string())?;
    Ok(vec![Sheet::new("agent/vms.json", pretty(&Value::from(vms)))])
}

fn view(vm: &VmView) -> Result<Value, serde_json::Error> {
    let mut record = serde_json::to_value(&*vm.record)?;
    hide_labels(&mut record);
    let traffic = vm.traffic;
    Ok(json!({
        "status": vm.status.as_str(),
        "reason": vm.reason,
        "cpu_percent": vm.cpu_percent,
        "ram_percent": vm.ram_percent,
        "net_rx": traffic.net_rx,
        "net_tx": traffic.net_tx,
        "disk_read": traffic.disk_read,
        "disk_written": traffic.disk_written,
        "disk_used": traffic.disk_used,
        "host_ram": traffic.host_ram,
        "record": record,
    }))
}

/// The values of labels that are long enough to be recognized in another text.
#[must_use]
pub fn labels(vms: &[Arc<VmView>]) -> Vec<String> {
    let values = vms.iter().flat_map(|vm| vm.record.metadata.iter().map(|(_, value)| value));
    let telling = values.filter(|value| value.chars().count() >= TELLING);
    telling.take(MOST_TELLING).map(str::to_owned).collect()
}

/// `ledger/<id>.json`: the records as they are on the disk; `ledger/others.txt` names what else is there.
pub fn ledger(vms: &Path) -> Sheets {
    let entries = std::fs::read_dir(vms).map_err(|error| format!("{}: {error}", vms.display()))?;
    let (mut sheets, mut others) = (Vec::new(), String::new());
    for entry in entries.take(MOST).flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let id = name.strip_suffix(".json").and_then(|id| id.parse::<VmId>().ok());
        match id {
            Some(id) => sheets.push(Sheet::new(format!("ledger/{id}.json"), record(&entry.path()))),
            None => others.push_str(&format!("{}\n", name.escape_debug())),
        }
    }
    if !others.is_empty() {
        sheets.push(Sheet::new("ledger/others.txt", others));
    }
    Ok(sheets)
}

fn record(path: &Path) -> String {
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
    match read.map(|_| serde_json::from_str::<Value>(&text)) {
        Ok(Ok(mut record)) => {
            hide_labels(&mut record);
            pretty(&record)
        }
        // Its labels can't be told from the rest.
        Ok(Err(error)) => format!("{} bytes that are no JSON: {error}\n", text.len()),
        Err(error) => format!("can't be read: {error}\n"),
    }
}

/// Wherever they are, so that a record of another version has none either.
fn hide_labels(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("metadata" | "labels", labels) => hide(labels),
                    (_, value) => hide_labels(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_labels),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn hide(labels: &mut Value) {
    match labels {
        Value::Object(fields) => fields.values_mut().for_each(hide),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::String(text) => *labels = format!("[{} bytes]", text.len()).into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `agent/images.json`.
#[must_use]
pub fn images(entries: &[ImageEntry]) -> Vec<Sheet> {
    let image = |entry: &ImageEntry| {
        json!({
            "template": entry.name.as_ref().map(ToString::to_string),
            "status": format!("{:?}", entry.status),
            "image": entry.image.as_ref().map(|image| format!("{image:?}")),
            "fetching": entry.fetching.as_ref().map(|fetch| format!("{fetch:?}")),
            "used_by": entry.used_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    let images = entries.iter().map(image).collect::<Vec<_>>();
    vec![Sheet::new("agent/images.json", pretty(&Value::from(images)))]
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
