//! Where the kernel keeps the memory limits that this process is held to. Invariant: only folders of
//! the process's own cgroup and of its ancestors are named, and only as far as they are mounted here.
//!
//! Sources: cgroups(7), `/proc/PID/cgroup` and `memory.max` in the kernel's
//! `Documentation/admin-guide/cgroup-v2.rst`, `memory.limit_in_bytes` in
//! `Documentation/admin-guide/cgroup-v1/memory.rst`, `/proc/PID/mountinfo` in proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use ghost_core::domain::Bytes;

/// A hierarchy of control groups that can limit memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hierarchy {
    /// The memory controller's own.
    V1,
    /// The one for all controllers.
    V2,
}

impl Hierarchy {
    const BOTH: [Self; 2] = [Self::V1, Self::V2];

    const fn limit_file(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }

    /// This process's group in the hierarchy, as `/proc/self/cgroup` names it.
    fn own(self, id: &str, controllers: &str) -> bool {
        match self {
            Self::V1 => controllers.split(',').any(|name| name == "memory"),
            Self::V2 => id == "0" && controllers.is_empty(),
        }
    }

    /// Is a mount of this type and with these options the hierarchy's?
    fn mounted(self, kind: &str, options: &str) -> bool {
        match self {
            Self::V1 => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
            Self::V2 => kind == "cgroup2",
        }
    }
}

/// The files that may limit this process, from its own group upwards; `None` if `groups` is no
/// `/proc/self/cgroup` or `mounts` no `/proc/self/mountinfo`.
///
/// Of a group outside of what is mounted here (a container's view) nothing can be read, and nothing is named.
pub(super) fn limit_files(groups: &str, mounts: &str) -> Option<Vec<PathBuf>> {
    let mounts: Vec<Mount<'_>> = mounts.lines().map(Mount::parse).collect::<Option<_>>()?;
    let mut files = Vec::new();
    for line in groups.lines() {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        for hierarchy in Hierarchy::BOTH.into_iter().filter(|one| one.own(id, controllers)) {
            let mut of_it = mounts.iter().filter(|m| hierarchy.mounted(m.kind, m.options));
            let folders = of_it.find_map(|mount| mount.folders(Path::new(path)));
            let folders = folders.unwrap_or_default().into_iter();
            files.extend(folders.map(|folder| folder.join(hierarchy.limit_file())));
        }
    }
    Some(files)
}

/// What a limit file says: `Some(None)` for no limit, `None` if it isn't understood.
///
/// Version 1 writes "no limit" as a number near 2^63: larger than any memory, so it limits nothing.
pub(super) fn parse_limit(text: &str) -> Option<Option<Bytes>> {
    match text.trim() {
        "max" => Some(None),
        number => number.parse().ok().map(|bytes| Some(Bytes(bytes))),
    }
}

/// One line of mountinfo, as far as it matters.
struct Mount<'a> {
    root: PathBuf,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// `ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAG…] - TYPE SOURCE OPTIONS`.
    fn parse(line: &'a str) -> Option<Self> {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (unescape(place.next()?), unescape(place.next()?));
        let mut what = what.split(' ');
        let (kind, _source, options) = (what.next()?, what.next()?, what.next()?);
        Some(Self { root, point, kind, options })
    }

    /// The folders of `group` and its ancestors in this mount, innermost first.
    fn folders(&self, group: &Path) -> Option<Vec<PathBuf>> {
        let inside = group.strip_prefix(&self.root).ok()?;
        if inside.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        Some(inside.ancestors().map(|inside| self.point.join(inside)).collect())
    }
}

/// Blanks and the like are written as `\040`.
fn unescape(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.first_chunk::<3>().filter(|_| byte == b'\\');
        let decoded =
            octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(decoded.unwrap_or(byte));
        rest = if decoded.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
    const HYBRID: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                          35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn files(groups: &str, mounts: &str) -> Vec<String> {
        let files = limit_files(groups, mounts).unwrap();
        files.iter().map(|file| file.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_service_is_limited_by_its_own_group_and_by_each_above_it() {
        assert_eq!(
            files("0::/system.slice/ghost-agent.service\n", V2),
            [
                "/sys/fs/cgroup/system.slice/ghost-agent.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
    }

    #[test]
    fn both_versions_side_by_side_are_both_looked_at() {
        assert_eq!(
            files("5:cpu:/x\n4:memory:/box\n0::/\n", HYBRID),
            [
                "/sys/fs/cgroup/memory/box/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/unified/memory.max",
            ]
        );
    }

    #[test]
    fn in_a_container_the_mounted_part_of_the_tree_counts() {
        let bound = "9 8 0:1 /docker/ab /sys/fs/c\\040g ro - cgroup cgroup rw,cpu,memory\n";
        assert_eq!(
            files("4:cpu,memory:/docker/ab/in\n", bound),
            ["/sys/fs/c g/in/memory.limit_in_bytes", "/sys/fs/c g/memory.limit_in_bytes"]
        );
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_names_no_file() {
        for (groups, mounts) in [
            ("0::/../other\n", V2),
            ("4:memory:/docker/abc\n", "9 8 0:1 /docker/ab /m ro - cgroup c rw,memory\n"),
            ("4:memory:/x\n", V2),
            ("5:memoryless:/x\n", HYBRID),
            ("", ""),
        ] {
            assert_eq!(files(groups, mounts), [""; 0], "{groups}");
        }
    }

    #[test]
    fn text_of_another_kind_is_not_understood() {
        for (groups, mounts) in [("nonsense", V2), ("0:/x", V2), ("0::/", "nonsense\n")] {
            assert_eq!(limit_files(groups, mounts), None, "{groups} {mounts}");
        }
    }

    #[test]
    fn a_limit_is_a_number_or_max() {
        assert_eq!(parse_limit("max\n"), Some(None));
        assert_eq!(parse_limit("1048576\n"), Some(Some(Bytes(1 << 20))));
        assert_eq!(parse_limit("9223372036854771712\n"), Some(Some(Bytes((1 << 63) - 4096))));
        for text in ["", "-1", "1M", "maximum", "99999999999999999999"] {
            assert_eq!(parse_limit(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(a in "\\PC{0,60}|[0-9:/a\\\\ -]{0,60}", b in "\\PC{0,60}") {
            let _ = limit_files(&a, &b);
            let _ = limit_files("0::/a", &format!("1 2 3 {a} {b} x - cgroup2 c rw"));
            let _ = parse_limit(&a);
        }

        #[test]
        fn every_file_named_lies_below_the_mount(path in "(/[a-z.]{1,4}){0,5}") {
            for file in limit_files(&format!("0::{path}"), V2).unwrap() {
                prop_assert!(file.starts_with("/sys/fs/cgroup"));
                prop_assert!(!file.components().any(|part| part == Component::ParentDir));
            }
        }
    }
}
