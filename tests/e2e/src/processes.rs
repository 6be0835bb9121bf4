//! The processes of this host, as `/proc` tells. Those that end meanwhile are left out.

use std::fs;

use rustix::process::Pid;

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// Its id, as the harness sees it.
    pub(crate) pid: Pid,
    /// Its parent's.
    pub(crate) parent: i32,
    /// How many process namespaces it is in: one more than we if it is in a lab.
    pub(crate) depth: usize,
    /// Its program's name, cut to 15 characters by the kernel.
    pub(crate) name: String,
    /// `R`, `S`, `D`, `T` (stopped) and so on (proc(5)).
    pub(crate) state: char,
    /// Its command line, separated by blanks.
    pub(crate) line: String,
}

/// All that live; dead ones that nobody has waited for do not.
pub(crate) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter_map(read).filter(|process| process.state != 'Z').collect()
}

/// How many process namespaces we are in.
pub(crate) fn our_depth() -> usize {
    i32::try_from(std::process::id()).ok().and_then(read).map_or(1, |us| us.depth)
}

fn read(id: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
    Some(Process {
        pid: Pid::from_raw(id)?,
        parent: field("PPid")?.parse().ok()?,
        depth: field("NSpid").map_or(1, |ids| ids.split_whitespace().count()),
        name: field("Name")?.to_owned(),
        state: field("State")?.chars().next()?,
        line: String::from_utf8_lossy(&line).replace('\0', " "),
    })
}
