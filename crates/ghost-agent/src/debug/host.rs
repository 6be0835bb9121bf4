//! The host, as the kernel tells it. Invariant: neither an environment nor a command line nor a MAC address is read.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use super::{Sheet, Sheets};

/// Most that is read of a file, in bytes.
const LARGEST: u64 = 256 << 10;

/// `host/*.txt`.
pub fn facts() -> Sheets {
    let uname = rustix::system::uname();
    let uname = format!(
        "{} {} {} {}\n",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy(),
        uname.version().to_string_lossy(),
        uname.machine().to_string_lossy()
    );
    Ok(vec![
        Sheet::new("host/os-release.txt", read("/etc/os-release")),
        Sheet::new("host/uname.txt", uname),
        Sheet::new("host/meminfo.txt", read("/proc/meminfo")),
        Sheet::new("host/cpuinfo.txt", processors(&read("/proc/cpuinfo"))),
        Sheet::new("host/load.txt", read("/proc/loadavg") + &read("/proc/pressure/memory")),
        Sheet::new("host/interfaces.txt", interfaces(Path::new("/sys/class/net"))),
    ])
}

/// The text of a file, or why there is none.
pub(super) fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("{}: {error}\n", path.display()),
    }
}

/// How many there are, and the first one.
fn processors(cpuinfo: &str) -> String {
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    format!("{count} logical processors; the first:\n{first}\n")
}

/// A line for each: name, state, MTU in bytes.
fn interfaces(folder: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return format!("{}: can't be read\n", folder.display());
    };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort_unstable();
    let mut text = String::new();
    for path in names {
        let value = |name| read(path.join(name)).trim().to_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name} {} mtu {}", value("operstate"), value("mtu"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_processors_one_is_described() {
        let told =
            processors("processor\t: 0\nmodel name\t: X\n\nprocessor\t: 1\nmodel name\t: X\n\n");
        assert_eq!(told, "2 logical processors; the first:\nprocessor\t: 0\nmodel name\t: X\n");
    }

    #[test]
    fn this_host_is_told_without_a_mac_address() {
        let sheets = facts().unwrap();
        let text = |name| &sheets.iter().find(|sheet| sheet.name == name).unwrap().text;
        assert!(text("host/meminfo.txt").contains("MemTotal"));
        assert!(
            text("host/interfaces.txt").contains("lo unknown mtu 65536\n"),
            "{}",
            text("host/interfaces.txt")
        );
        assert!(sheets.iter().all(|sheet| !sheet.text.contains("00:00:00:00:00:00")));
    }
}
