//! The table of `top`. Invariant: the busiest VM stands first; what is not known is `-`, not 0.

use ghost_proto::agentpb::GetVmStatusResponse;
use serde::Serialize;

use super::meter::Meters;
use crate::output;

const HEAD: [&str; 8] =
    ["NAME", "STATUS", "CPU %", "RAM %", "HOST RAM", "DISK", "NET IN/s", "NET OUT/s"];
/// The first column whose cells are aligned to the right.
const NUMBERS: usize = 2;

/// One VM; `None` is not known, or does not apply to a VM that is off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    name: String,
    vm_id: String,
    status: String,
    cpu_usage_percent: Option<f32>,
    ram_usage_percent: Option<f32>,
    host_ram_bytes: Option<i64>,
    disk_used_bytes: Option<i64>,
    disk_gb: i32,
    net_rx_bytes_per_second: Option<f64>,
    net_tx_bytes_per_second: Option<f64>,
}

/// What is on the screen.
#[derive(Debug)]
pub(super) struct Table<'a> {
    /// The time of day.
    pub(super) now: &'a str,
    /// Why it may not be the truth.
    pub(super) notice: Option<&'a str>,
    pub(super) rows: &'a [Row],
}

/// The VMs by CPU, then by name.
pub(super) fn rows(vms: &[GetVmStatusResponse], meters: &Meters) -> Vec<Row> {
    let mut rows: Vec<Row> = vms.iter().map(|vm| row(vm, meters.net(&vm.vm_id))).collect();
    let busy = |row: &Row| row.cpu_usage_percent.unwrap_or(-1.0);
    rows.sort_by(|a, b| busy(b).total_cmp(&busy(a)).then_with(|| a.name.cmp(&b.name)));
    rows
}

fn row(vm: &GetVmStatusResponse, [rx, tx]: [Option<f64>; 2]) -> Row {
    let runs = vm.status == "running" || vm.status == "paused";
    let percent = |percent: f32| (runs && percent.is_finite()).then_some(percent);
    let known = |bytes: i64| (bytes > 0).then_some(bytes);
    Row {
        name: vm.name.clone(),
        vm_id: vm.vm_id.clone(),
        status: vm.status.clone(),
        cpu_usage_percent: percent(vm.cpu_usage_percent),
        ram_usage_percent: percent(vm.ram_usage_percent),
        host_ram_bytes: known(vm.host_ram_bytes),
        disk_used_bytes: known(vm.disk_used_bytes),
        disk_gb: vm.disk_gb,
        net_rx_bytes_per_second: rx,
        net_tx_bytes_per_second: tx,
    }
}

/// The rows under their head.
pub(super) fn draw(rows: &[Row]) -> String {
    let mut cells: Vec<Vec<String>> = vec![HEAD.map(str::to_owned).into()];
    cells.extend(rows.iter().map(|row| self::cells(row).into()));
    for column in NUMBERS..HEAD.len() {
        let of_column = || cells.iter().filter_map(|row| row.get(column));
        let width = of_column().map(|cell| cell.chars().count()).max().unwrap_or(0);
        for cell in cells.iter_mut().filter_map(|row| row.get_mut(column)) {
            *cell = format!("{cell:>width$}");
        }
    }
    let head = cells.remove(0);
    output::table(&head.iter().map(String::as_str).collect::<Vec<_>>(), &cells)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn cells(row: &Row) -> [String; HEAD.len()] {
    let percent = |percent: Option<f32>| percent.map_or("-".to_owned(), |p| format!("{p:.1}"));
    let bytes = |bytes: Option<i64>| bytes.map_or("-".to_owned(), |b| output::bytes(b as f64));
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), output::bytes);
    [
        row.name.clone(),
        row.status.clone(),
        percent(row.cpu_usage_percent),
        percent(row.ram_usage_percent),
        bytes(row.host_ram_bytes),
        format!("{} of {} GiB", bytes(row.disk_used_bytes), row.disk_gb),
        rate(row.net_rx_bytes_per_second),
        rate(row.net_tx_bytes_per_second),
    ]
}

impl Table<'_> {
    /// As many lines as fit, each without its line feed and at most `columns` wide.
    pub(super) fn lines(&self, columns: usize, rows: usize) -> Vec<String> {
        let running = self.rows.iter().filter(|row| row.status == "running").count();
        let mut lines = vec![format!(
            "{}  {} VMs, {running} running  (Ctrl-C ends)",
            self.now,
            self.rows.len()
        )];
        lines.extend(self.notice.map(output::printable));
        lines.push(String::new());
        lines.extend(draw(self.rows).lines().map(str::to_owned));
        if lines.len() > rows {
            let hidden = lines.len() - rows.saturating_sub(1);
            lines.truncate(rows.saturating_sub(1));
            lines.push(format!("and {hidden} more"));
        }
        lines.into_iter().map(|line| line.chars().take(columns).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(name: &str, status: &str, cpu: f32) -> GetVmStatusResponse {
        GetVmStatusResponse {
            vm_id: format!("id-{name}"),
            name: name.to_owned(),
            status: status.to_owned(),
            cpu_usage_percent: cpu,
            ram_usage_percent: 50.0,
            disk_gb: 20,
            disk_used_bytes: 3 << 29,
            ..Default::default()
        }
    }

    #[test]
    fn the_busiest_vm_stands_first_and_those_that_are_off_last() {
        let vms = [
            vm("off", "stopped", 99.0),
            vm("idle-b", "running", 0.0),
            vm("busy", "running", 80.0),
            vm("idle-a", "running", 0.0),
            vm("odd", "running", f32::NAN),
        ];
        let names: Vec<String> =
            rows(&vms, &Meters::default()).into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["busy", "idle-a", "idle-b", "odd", "off"].map(str::to_owned));
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let text = draw(&rows(&[vm("web", "stopped", 0.0)], &Meters::default()));
        assert_eq!(
            text,
            "NAME  STATUS   CPU %  RAM %  HOST RAM               DISK  NET IN/s  NET OUT/s\n\
             web   stopped      -      -         -  1.5 GiB of 20 GiB         -          -\n"
        );
    }

    #[test]
    fn the_table_fits_the_screen_whatever_is_in_it() {
        let mut vms: Vec<_> = (0..30).map(|n| vm(&format!("vm-{n}"), "running", 1.0)).collect();
        vms.push(vm("evil\u{1b}[2J\n\u{202e}", "running", 99.0));
        let rows = rows(&vms, &Meters::default());
        let table = Table { now: "12:00:00", notice: Some("as\u{7} of"), rows: &rows };
        for (columns, height) in [(80, 24), (10, 3), (1, 1), (300, 100)] {
            let lines = table.lines(columns, height);
            assert!(lines.len() <= height, "{lines:?}");
            assert!(lines.iter().all(|line| line.chars().count() <= columns), "{lines:?}");
            let strange = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!lines.iter().any(|line| line.contains(strange)), "{lines:?}");
        }
        assert_eq!(table.lines(80, 24).last().unwrap(), "and 12 more");
    }
}
