//! The series of VMs.

use std::thread;

use super::*;

#[test]
fn a_vm_that_runs_is_told_in_full() {
    let rig = Rig::new();
    let id = rig.runs("web-1");
    let text = rig.metrics.render(Format::Classic);
    let told = |name: &str| value(&text, &format!("{name}{{vm_id=\"{id}\",vm_name=\"web-1\"}}"));
    assert_eq!(told("ghost_vm_cpu_usage_ratio"), Some(0.5));
    assert_eq!(told("ghost_vm_memory_usage_ratio"), Some(0.25));
    assert_eq!(told("ghost_vm_host_memory_bytes"), Some(f64::from(300 << 20)));
    assert_eq!(told("ghost_vm_disk_used_bytes"), Some(f64::from(1 << 30)));
    assert_eq!(told("ghost_vm_network_receive_bytes_total"), Some(1500.0));
    assert_eq!(told("ghost_vm_network_transmit_bytes_total"), Some(3000.0));
    assert_eq!(told("ghost_vm_disk_read_bytes_total"), Some(4500.0));
    assert_eq!(told("ghost_vm_disk_written_bytes_total"), Some(6000.0));
    let info =
        format!("{{vm_id=\"{id}\",vm_name=\"web-1\",template=\"debian-12\",status=\"running\"}}");
    assert_eq!(value(&text, &format!("ghost_vm_info{info}")), Some(1.0));
    assert_eq!(value(&text, "ghost_vms_running"), Some(1.0));
    assert_eq!(value(&text, "ghost_ledger_records{stage=\"ready\"}"), Some(1.0));
}

#[test]
fn a_deleted_vm_leaves_no_series() {
    let rig = Rig::new();
    let (gone, _stays) = (rig.runs("web-1"), rig.runs("web-2"));
    rig.registry.forget(gone);
    let text = rig.metrics.render(Format::Classic);
    assert!(!text.contains(&gone.to_string()) && !text.contains("web-1"), "{text}");
    assert!(text.contains("web-2"));
    assert_eq!(value(&text, "ghost_vms{status=\"running\"}"), Some(1.0));
}

#[test]
fn of_a_vm_that_does_not_run_or_was_not_looked_at_no_use_is_told() {
    let rig = Rig::new();
    let id = rig.is_known("web-1");
    rig.registry.see(id, Sighting::Power(PowerState::Running));
    let text = rig.metrics.render(Format::Classic);
    assert!(text.contains("vm_name=\"web-1\""));
    assert!(!text.contains("ghost_vm_cpu_usage_ratio"), "{text}");
    let off = rig.runs("web-2");
    rig.registry.see(off, Sighting::Power(PowerState::Paused("user")));
    let text = rig.metrics.render(Format::Classic);
    assert!(!text.contains("ghost_vm_disk_used_bytes"), "{text}");
    assert_eq!(value(&text, "ghost_vms{status=\"paused\"}"), Some(1.0));
}

#[test]
fn a_crowd_of_vms_is_counted_but_only_256_of_them_have_series() {
    let rig = Rig::new();
    for n in 0..300 {
        rig.is_known(&format!("vm-{n:03}"));
    }
    let text = rig.metrics.render(Format::Classic);
    let lines = text.lines().filter(|line| line.starts_with("ghost_vm_info{")).count();
    assert_eq!(lines, 256);
    assert_eq!(value(&text, "ghost_vms{status=\"running\"}"), Some(300.0));
}

#[test]
fn a_scrape_is_whole_while_vms_come_and_go() {
    let rig = Rig::new();
    rig.runs("stays");
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let id = rig.runs("comes");
                rig.registry.forget(id);
            }
        });
        for _ in 0..200 {
            let text = rig.metrics.render(Format::OpenMetrics);
            assert!(text.ends_with("# EOF\n"));
            let infos = text.lines().filter(|l| l.starts_with("ghost_vm_info{")).count();
            let all = text.lines().filter_map(|l| l.strip_prefix("ghost_vms{"));
            let all =
                all.map(|l| l.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum::<f64>();
            assert!((1..=2).contains(&infos), "{infos}");
            assert_eq!(f64::from(u32::try_from(infos).unwrap()), all);
        }
        done.store(true, Ordering::Relaxed);
    });
}
