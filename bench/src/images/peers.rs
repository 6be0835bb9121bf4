//! What agents are compared with: a bare download, and the tools that hash or make a file. Invariant: a
//! peer's result is looked at: the digest it printed, the bytes it wrote.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::{FILE, Source};

/// Read and written at once.
const CHUNK: usize = 1 << 20;

/// Fetches the file into `to` as plainly as can be, durably: no digest, no inspection.
pub(super) async fn download(source: &Source, to: &Path) -> anyhow::Result<Duration> {
    let (url, size, to) = (source.publisher.url(FILE), source.size, to.to_owned());
    let fetch = move || -> anyhow::Result<Duration> {
        let (host, path) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('/'))
            .context("not a publisher's URL")?;
        let clock = Instant::now();
        let mut server = TcpStream::connect(host)?;
        write!(server, "GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
        let mut answer = BufReader::with_capacity(CHUNK, server);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            ensure!(answer.read_line(&mut line)? > 0, "the answer has no end of its head");
        }
        let mut file = File::create(&to)?;
        let came = std::io::copy(&mut answer, &mut file)?;
        file.sync_all()?;
        let took = clock.elapsed();
        ensure!(usize::try_from(came)? == size, "{came} of {size} bytes came");
        std::fs::remove_file(&to)?;
        Ok(took)
    };
    tokio::task::spawn_blocking(fetch).await?
}

/// Hashes a file that is in the page cache with that program, which has to find that SHA-256.
/// `None` if the program is not here.
pub(super) async fn hash(
    program: &[&str],
    path: &Path,
    digest: &str,
) -> anyhow::Result<Option<Duration>> {
    warm(path).await?;
    let (name, args) = program.split_first().context("no program")?;
    let clock = Instant::now();
    let ended = match Command::new(name).args(args).arg(path).output().await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        ended => ended?,
    };
    let (took, said) = (clock.elapsed(), String::from_utf8_lossy(&ended.stdout));
    let hex = digest.trim_start_matches("sha256:");
    ensure!(said.contains(hex), "{name} ended with {}: {said}", ended.status);
    Ok(Some(took))
}

/// Has a file in the page cache: an image that was verified has been dropped from it.
pub(super) async fn warm(path: &Path) -> anyhow::Result<()> {
    let path = path.to_owned();
    let read = move || std::io::copy(&mut File::open(path)?, &mut std::io::sink());
    tokio::task::spawn_blocking(read).await??;
    Ok(())
}

/// Makes an overlay of 10 GiB over `base`, as a person would, and removes it.
pub(super) async fn overlay(base: &Path, folder: &Path) -> anyhow::Result<Duration> {
    let path = folder.join("bench-overlay.qcow2");
    let mut make = Command::new("qemu-img");
    make.args(["create", "-q", "-f", "qcow2", "-o", "compat=1.1", "-F", "qcow2", "-b"]);
    make.arg(base).arg(&path).arg("10G");
    let clock = Instant::now();
    let made = make.status().await?;
    let took = clock.elapsed();
    ensure!(made.success(), "{make:?} ended with {made}");
    std::fs::remove_file(path)?;
    Ok(took)
}
