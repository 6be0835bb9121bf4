//! The guest's serial console, logged into a volume beside the VM's disk.
//!
//! virtlogd writes the file as root with mode 0600 and keeps it within its limits (`max_size`, 2 MiB
//! by default, and `max_backups`); as a volume it can be read and removed by an agent that is not
//! root. It is made before the first start, so that the pool knows of it.

use std::path::PathBuf;

use ghost_core::domain::{Bytes, VmId};

use crate::failure::Failure;
use crate::storage_pool::volumes;
use crate::sys::Conn;

/// Bytes of a log that are looked at for its last lines.
const TAIL_BYTES: usize = 64 * 1024;

fn log_name(id: VmId) -> String {
    format!("ghost-{id}-console.log")
}

/// The log's path; an empty one is made if there is none.
pub(crate) fn ensure_log(conn: &Conn, pool: &str, id: VmId) -> Result<PathBuf, Failure> {
    let pool = volumes::active_pool(conn, pool)?;
    let name = log_name(id);
    let volume = match volumes::find(&pool, &name)? {
        Some(volume) => volume,
        None => volumes::create(
            &pool,
            &name,
            &volumes::volume(&name, Bytes(0)).child(volumes::target("raw")),
        )?,
    };
    Ok(volume.path()?)
}

/// Removes the log, and the older parts that virtlogd set aside.
pub(crate) fn ensure_no_log(conn: &Conn, pool: &str, id: VmId) -> Result<(), Failure> {
    let pool = volumes::active_pool(conn, pool)?;
    let name = log_name(id);
    volumes::ensure_removed(&pool, &name)?;
    let folder = volumes::path(&pool)?;
    (0..)
        .map(|n| format!("{name}.{n}"))
        .take_while(|part| folder.join(part).exists())
        .try_for_each(|part| volumes::ensure_removed(&pool, &part))
}

/// The log's last lines, at most `lines`; empty if there is no log.
pub(crate) fn tail(conn: &Conn, pool: &str, id: VmId, lines: usize) -> Result<String, Failure> {
    let pool = volumes::active_pool(conn, pool)?;
    match volumes::find(&pool, &log_name(id))? {
        Some(volume) => Ok(last_lines(&volume.download(conn)?, lines)),
        None => Ok(String::new()),
    }
}

/// What a person can read of the last `lines` lines: no colours, no control characters.
fn last_lines(log: &[u8], lines: usize) -> String {
    let tail = log.get(log.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
    let text = plain(&String::from_utf8_lossy(tail));
    let all: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// Drops ANSI sequences (ECMA-48: ESC, `[`, parameters, a final byte from `@` to `~`) and all
/// control characters but line ends.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next_if_eq(&'[').is_some() {
            while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        } else if c == '\n' || !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_readable_text() {
        let log = b"one\r\n\r\n\x1b[0;32mtwo\x1b[0m\x07\r\nthree \xff\r\n";
        assert_eq!(last_lines(log, 2), "two\nthree \u{fffd}");
        assert_eq!(last_lines(log, 99), "one\ntwo\nthree \u{fffd}");
        assert_eq!(last_lines(b"", 5), "");
        assert_eq!(last_lines(log, 0), "");
    }

    #[test]
    fn only_the_end_of_a_long_log_is_looked_at() {
        let log = "0123456789abcde\n".repeat(TAIL_BYTES / 8);
        assert!(last_lines(log.as_bytes(), usize::MAX).len() <= TAIL_BYTES);
    }
}
