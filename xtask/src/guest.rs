//! Test guests, built once and cached. Invariant: a returned image was built from exactly the inputs of now and
//! still has the checksum it was built with.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

use crate::run;

/// The guests there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Guest {
    /// A kernel and busybox: boots in seconds, obeys its serial console
    Mini,
    /// A full Debian 12 with cloud-init, systemd, sshd and the guest agent
    Debian12,
}

impl Guest {
    /// The name of its builder below `xtask/guest/`, and of the image.
    fn name(self) -> &'static str {
        match self {
            Self::Mini => "mini",
            Self::Debian12 => "debian12",
        }
    }
}

/// The image's path, absolute; builds it when it is missing, altered, or of other inputs.
pub(crate) fn ensure(guest: Guest) -> anyhow::Result<PathBuf> {
    let sources = run::root().join("xtask/guest");
    let builder = sources.join(guest.name());
    let inputs = run::command(&builder).arg("inputs").stdout()?;
    let key = key(&files_of(guest, &sources)?, &inputs)?;
    let folder = cache_dir()?.join("guests");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let image = folder.join(format!("ghost-{}-{key}.qcow2", guest.name()));
    if !is_intact(&image)? {
        build(&builder, &image)?;
    }
    Ok(image)
}

fn build(builder: &Path, image: &Path) -> anyhow::Result<()> {
    let partial = image.with_extension(format!("partial-{}", std::process::id()));
    let built = run::command(builder).arg("build").arg(&partial).wait();
    if built.is_err() {
        // What the builder left is of no use; that nothing was left is no failure.
        let _ = fs::remove_file(&partial);
    }
    built?;
    let sum = sha256(&partial)?;
    fs::rename(&partial, image)
        .with_context(|| format!("cannot move {} in place", partial.display()))?;
    fs::write(sum_file(image), format!("{sum}\n"))
        .with_context(|| format!("cannot write {}'s checksum", image.display()))
}

/// Whether the image is there and has the checksum it was built with.
fn is_intact(image: &Path) -> anyhow::Result<bool> {
    let Ok(expected) = fs::read_to_string(sum_file(image)) else {
        return Ok(false);
    };
    Ok(image.is_file() && sha256(image)? == expected.trim())
}

fn sum_file(image: &Path) -> PathBuf {
    image.with_extension("qcow2.sha256")
}

/// Lower-case hex.
fn sha256(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut hash = Sha256::new();
    loop {
        let read = reader.fill_buf().with_context(|| format!("cannot read {}", path.display()))?;
        if read.is_empty() {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(read);
        let count = read.len();
        reader.consume(count);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The builder, its parts (`<name>-*`) and what all builders share, in a stable order.
fn files_of(guest: Guest, sources: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in
        fs::read_dir(sources).with_context(|| format!("cannot list {}", sources.display()))?
    {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "lib.sh"
            || name == guest.name()
            || name.starts_with(&format!("{}-", guest.name()))
        {
            files.push(path);
        }
    }
    ensure!(files.len() >= 2, "{} has no builder for {}", sources.display(), guest.name());
    files.sort();
    Ok(files)
}

/// Twelve hex digits that change with any input.
fn key(files: &[PathBuf], inputs: &str) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(sha256(file)?);
    }
    hash.update(inputs);
    Ok(hex(&hash.finalize()).chars().take(12).collect())
}

fn cache_dir() -> anyhow::Result<PathBuf> {
    let path =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path("GHOST_CACHE_DIR")
        .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("ghost-agent")))
        .or_else(|| path("HOME").map(|home| home.join(".cache/ghost-agent")))
        .context("no place to keep guests: set GHOST_CACHE_DIR or HOME")
        .and_then(|dir| std::path::absolute(dir).context("the cache folder has no absolute path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("ghost-xtask-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn image_with_sum(dir: &Path) -> PathBuf {
        let image = dir.join("ghost-mini-0.qcow2");
        fs::write(&image, "an image").unwrap();
        fs::write(sum_file(&image), format!("{}\n", sha256(&image).unwrap())).unwrap();
        image
    }

    #[test]
    fn an_image_with_its_checksum_is_intact() {
        let dir = scratch("intact");
        assert!(is_intact(&image_with_sum(&dir)).unwrap());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_altered_image_is_not_intact() {
        let dir = scratch("altered");
        let image = image_with_sum(&dir);
        fs::write(&image, "another image").unwrap();
        assert!(!is_intact(&image).unwrap());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_image_without_a_checksum_is_not_intact() {
        let dir = scratch("unsummed");
        let image = image_with_sum(&dir);
        fs::remove_file(sum_file(&image)).unwrap();
        assert!(!is_intact(&image).unwrap());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn another_kernel_gives_another_key() {
        assert_ne!(key(&[], "linux=1").unwrap(), key(&[], "linux=2").unwrap());
    }

    #[test]
    fn an_edited_builder_gives_another_key() {
        let dir = scratch("key");
        let file = dir.join("mini");
        fs::write(&file, "one").unwrap();
        let before = key(std::slice::from_ref(&file), "").unwrap();
        fs::write(&file, "two").unwrap();
        assert_ne!(before, key(&[file], "").unwrap());
        fs::remove_dir_all(dir).unwrap();
    }
}
