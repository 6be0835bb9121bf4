//! The folders that the agent lives in. A file system that hangs, hangs this part only.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::host::read;
use super::{Sheet, Sheets};

/// Most files that are listed.
const MOST: usize = 500;

/// `host/disks.txt`: space, inodes and mount of each folder.
pub fn disks(folders: &[(&'static str, PathBuf)]) -> Sheets {
    let mounts = read("/proc/self/mounts");
    let mut text = String::new();
    for (what, path) in folders {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{what}: {}", path.display());
        let _ = match rustix::fs::statvfs(path) {
            Ok(fs) => writeln!(
                text,
                "  {} of {} bytes free, {} of {} inodes free",
                fs.f_bavail.saturating_mul(fs.f_frsize),
                fs.f_blocks.saturating_mul(fs.f_frsize),
                fs.f_favail,
                fs.f_files
            ),
            Err(error) => writeln!(text, "  error: {error}"),
        };
        let mount = mount_of(&mounts, path).unwrap_or("  no mount of it is seen");
        let _ = writeln!(text, "  {mount}");
    }
    Ok(vec![Sheet::new("host/disks.txt", text)])
}

/// The last of the mounts (proc(5), `/proc/pid/mounts`) that are nearest to the path.
fn mount_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let at = |line: &'a str| Some((line, Path::new(line.split(' ').nth(1)?)));
    let above = mounts.lines().filter_map(at).filter(|(_, at)| path.starts_with(at));
    above.max_by_key(|(_, at)| at.components().count()).map(|(line, _)| line)
}

/// `agent/state.json`, and `agent/state-folder.txt` with mode, owner, size and name of what lies there.
pub fn state_folder(folder: &Path) -> Sheets {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut listed: Vec<_> = entries.take(MOST).flatten().collect();
    listed.sort_unstable_by_key(std::fs::DirEntry::file_name);
    let mut text = String::new();
    for entry in listed {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Writing to a String can't fail.
        let _ = match entry.metadata() {
            Ok(of) => writeln!(
                text,
                "{:o} {}:{} {} {}",
                of.mode(),
                of.uid(),
                of.gid(),
                of.len(),
                name.escape_debug()
            ),
            Err(error) => writeln!(text, "{}: {error}", name.escape_debug()),
        };
    }
    Ok(vec![
        Sheet::new("agent/state.json", read(folder.join("agent-state.json"))),
        Sheet::new("agent/state-folder.txt", text),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_and_last_mount_is_the_one() {
        let mounts = "a / ext4 rw 0 0\nb /var xfs rw 0 0\nc /var/lib xfs ro 0 0\nd /var/lib xfs rw 0 0\ne /v tmpfs rw 0 0\n";
        assert_eq!(mount_of(mounts, Path::new("/var/lib/ghost")), Some("d /var/lib xfs rw 0 0"));
        assert_eq!(mount_of(mounts, Path::new("/etc")), Some("a / ext4 rw 0 0"));
    }

    #[test]
    fn the_state_folder_is_listed_and_its_summary_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("agent-state.json"), "{}\n").unwrap();
        let sheets = state_folder(folder.path()).unwrap();
        assert_eq!(sheets.first().unwrap().text, "{}\n");
        assert!(
            sheets.last().unwrap().text.ends_with(" 3 agent-state.json\n"),
            "{}",
            sheets.last().unwrap().text
        );
        assert!(state_folder(Path::new("/nonexistent")).unwrap_err().contains("/nonexistent"));
    }
}
