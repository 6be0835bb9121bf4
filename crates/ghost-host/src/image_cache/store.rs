//! The cache's folder. Invariant: nothing gets its final name before it is proven, and nothing that
//! has one is written to.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ghost_core::domain::{BaseImage, Bytes, Checksum};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use super::ImageError;
use super::qcow2::{self, HEADER};
use crate::atomic_file;
use crate::disk_error::DiskError;

const PART: &str = ".part";
const READ_ONLY: u32 = 0o444;
const ANY_WRITE: u32 = 0o222;

/// The cache's folder, by its absolute path.
#[derive(Debug, Clone)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Makes the folder if there is none, and removes what broken fetches left.
    pub(super) fn open(dir: &Path) -> Result<Self, DiskError> {
        let dir = std::path::absolute(dir).map_err(DiskError::on("resolve", dir))?;
        atomic_file::ensure_dir(&dir, 0o755)?;
        for entry in fs::read_dir(&dir).map_err(DiskError::on("read", &dir))? {
            let path = entry.map_err(DiskError::on("read", &dir))?.path();
            if path.to_string_lossy().ends_with(PART) && is_abandoned(&path) {
                fs::remove_file(&path).map_err(DiskError::on("remove", &path))?;
            }
        }
        Ok(Self { dir })
    }

    fn path(&self, checksum: &Checksum) -> PathBuf {
        self.dir.join(format!("{}.qcow2", checksum.hex()))
    }

    /// The cached image, if there is one and it is still what it was.
    pub(super) async fn cached(
        &self,
        checksum: &Checksum,
    ) -> Result<Option<BaseImage>, ImageError> {
        let (path, checksum) = (self.path(checksum), checksum.clone());
        blocking(move || cached(path, checksum)).await
    }

    /// Fails if the folder's disk has less than `needed` free.
    pub(super) fn ensure_space(&self, needed: Bytes) -> Result<(), ImageError> {
        let space = rustix::fs::statvfs(&self.dir)
            .map_err(|error| DiskError::on("look at the free space of", &self.dir)(error.into()))?;
        let free = Bytes(space.f_bavail.saturating_mul(space.f_frsize));
        if needed > free {
            return Err(ImageError::NoSpace { dir: self.dir.clone(), needed, free });
        }
        Ok(())
    }

    /// A new file for the image, which is removed unless [`Part::prove`] keeps it. Each fetch has
    /// one of its own, so that agents that share the folder can't write into each other's.
    pub(super) fn part(&self, checksum: &Checksum) -> Result<Part, ImageError> {
        let temp = tempfile::Builder::new()
            .prefix(&format!("{}.", checksum.hex()))
            .suffix(PART)
            .tempfile_in(&self.dir)
            .map_err(DiskError::on("create a file in", &self.dir))?;
        // Marks the file as being written, for other agents that clean up.
        temp.as_file().lock_shared().map_err(DiskError::on("lock", temp.path()))?;
        let file = temp.as_file().try_clone().map_err(DiskError::on("open", temp.path()))?;
        Ok(Part {
            file: tokio::fs::File::from_std(file),
            temp,
            hash: Sha256::new(),
            length: 0,
            path: self.path(checksum),
            checksum: checksum.clone(),
        })
    }
}

fn is_abandoned(part: &Path) -> bool {
    File::open(part).is_ok_and(|file| file.try_lock().is_ok())
}

fn cached(path: PathBuf, checksum: Checksum) -> Result<Option<BaseImage>, ImageError> {
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::on("look at", &path)(error).into()),
    };
    if !found.is_file() {
        return Err(ImageError::Changed { path, why: "is not a regular file".to_owned() });
    }
    let mut file = File::open(&path).map_err(DiskError::on("read", &path))?;
    let header = virtual_size(&mut file).map_err(DiskError::on("read", &path))?;
    match header {
        Ok(virtual_size) if found.permissions().mode() & ANY_WRITE == 0 => {
            Ok(Some(BaseImage { path, checksum, virtual_size }))
        }
        Ok(virtual_size) => prove_again(file, path, checksum, virtual_size).map(Some),
        Err(why) => Err(ImageError::Changed { path, why: why.to_string() }),
    }
}

/// Someone made the file writable; only its digest can tell whether he wrote to it.
fn prove_again(
    mut file: File,
    path: PathBuf,
    checksum: Checksum,
    virtual_size: Bytes,
) -> Result<BaseImage, ImageError> {
    let mut hash = HashWriter(Sha256::new());
    io::Seek::rewind(&mut file)
        .and_then(|()| io::copy(&mut file, &mut hash))
        .map_err(DiskError::on("read", &path))?;
    if hex(hash.0) != checksum.hex() {
        let why = "is writable, and no longer has the digest that it is named by".to_owned();
        return Err(ImageError::Changed { path, why });
    }
    protect(&path)?;
    Ok(BaseImage { path, checksum, virtual_size })
}

fn protect(path: &Path) -> Result<(), DiskError> {
    fs::set_permissions(path, Permissions::from_mode(READ_ONLY))
        .map_err(DiskError::on("protect", path))
}

/// An image on its way into the cache; removed when dropped.
#[derive(Debug)]
pub(super) struct Part {
    file: tokio::fs::File,
    temp: NamedTempFile,
    hash: Sha256,
    length: u64,
    path: PathBuf,
    checksum: Checksum,
}

impl Part {
    /// Appends `chunk`.
    pub(super) async fn push(&mut self, chunk: &[u8]) -> Result<(), ImageError> {
        self.hash.update(chunk);
        self.length += chunk.len() as u64;
        self.file.write_all(chunk).await.map_err(DiskError::on("write", self.temp.path()))?;
        Ok(())
    }

    /// How much was appended.
    pub(super) fn length(&self) -> Bytes {
        Bytes(self.length)
    }

    /// Gives the image its name if it is what it should be; `url` is for the message.
    pub(super) async fn prove(mut self, url: &str) -> Result<BaseImage, ImageError> {
        self.file.flush().await.map_err(DiskError::on("write", self.temp.path()))?;
        let got = hex(self.hash);
        if got != self.checksum.hex() {
            let expected = self.checksum.hex().to_owned();
            return Err(ImageError::WrongChecksum { url: url.to_owned(), expected, got });
        }
        let (mut temp, path, checksum, url) = (self.temp, self.path, self.checksum, url.to_owned());
        blocking(move || {
            let file = temp.as_file_mut();
            let header = io::Seek::rewind(file).and_then(|()| virtual_size(file));
            let virtual_size = header
                .map_err(DiskError::on("read", temp.path()))?
                .map_err(|why| ImageError::Unfit { url, why })?;
            publish(temp, &path)?;
            Ok(BaseImage { path, checksum, virtual_size })
        })
        .await
    }
}

fn publish(temp: NamedTempFile, path: &Path) -> Result<(), DiskError> {
    temp.as_file().sync_all().map_err(DiskError::on("write", temp.path()))?;
    protect(temp.path())?;
    temp.persist(path).map_err(|e| DiskError::on("write", path)(e.error))?;
    atomic_file::sync_dir(path.parent().unwrap_or(path))
}

fn virtual_size(file: &mut File) -> io::Result<Result<Bytes, qcow2::Qcow2Error>> {
    let mut start = Vec::with_capacity(HEADER);
    file.take(HEADER as u64).read_to_end(&mut start)?;
    Ok(qcow2::virtual_size(&start))
}

struct HashWriter(Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn blocking<T, F>(work: F) -> Result<T, ImageError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, ImageError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(ImageError::Interrupted)?
}
