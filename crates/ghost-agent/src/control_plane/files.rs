//! Key and certificate on disk.
//!
//! Invariant: after a crash at any moment, [`recover`] leaves a pair that belongs together: the former or the new one. Two
//! files can't be replaced at once, so the new ones are first written beside the old ones, whole and durable, and then
//! renamed, the key first:
//!
//! ```text
//! key.new ▶ cert.new ▶ key.new→key ▶ cert.new→cert
//!         │          │             └ key fits cert.new: the second rename is made up for
//!         │          └ key.new fits cert.new: both renames are made up for
//!         └ no certificate for it: it is removed
//! ```
//! A folder for each version and a symlink to switch would need paths that the owner has not configured.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ghost_core::domain::cause;
use ghost_core::domain::control::ControlError;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use uuid::Uuid;

use super::issued::{Asked, Issued};
use crate::config::TlsFiles;

/// What [`recover`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// No write was cut off.
    Nothing,
    /// A new pair was there as a whole, and is in its place now.
    Finished,
    /// A part of a new pair was there, and is removed.
    Removed,
}

/// Ends a replacement that a crash cut off. To be called before the files are read for the first time. Blocks.
///
/// # Errors
/// One line: the folder can't be changed.
pub fn recover(files: &TlsFiles) -> Result<Recovered, ControlError> {
    let (key, cert) = (beside(&files.key), beside(&files.cert));
    let done = if !cert.exists() && !key.exists() {
        return Ok(Recovered::Nothing);
    } else if fits(&key, &cert) || fits(&files.key, &cert) {
        switch(files).map(|()| Recovered::Finished)
    } else {
        ensure_removed(&key).and_then(|()| ensure_removed(&cert)).map(|()| Recovered::Removed)
    };
    done.map_err(|error| not_written(&files.cert, &error))
}

/// Puts a new pair into the place of the former. Blocks.
///
/// # Errors
/// One line: what could not be written; the former pair is in use then.
pub(super) fn replace(files: &TlsFiles, new: &Issued) -> Result<(), ControlError> {
    stage_key(files, new)
        .and_then(|()| stage_cert(files, new))
        .and_then(|()| switch(files))
        .map_err(|error| not_written(&files.cert, &error))
}

/// Writes the authority. Blocks.
///
/// # Errors
/// As of [`replace`].
pub(super) fn write_authority(
    files: &TlsFiles,
    authority: &CertificateDer<'_>,
) -> Result<(), ControlError> {
    write(&files.ca, pem("CERTIFICATE", authority).as_bytes(), 0o644)
        .map_err(|error| not_written(&files.ca, &error))
}

/// What an enrolment asks for: the same after a crash, for an answer that got lost is given again to the same key
/// only. Blocks.
///
/// # Errors
/// One line: the key can't be made or written; the enrolment must not be tried then.
pub(super) fn asked(files: &TlsFiles, agent: Uuid) -> Result<Asked, ControlError> {
    let path = asked_key(files);
    let former = fs::read_to_string(&path).ok().and_then(|key| Asked::again(&key, agent));
    if let Some(former) = former {
        return Ok(former);
    }
    let asked = Asked::of(agent)?;
    write(&path, asked.key().as_bytes(), 0o600).map_err(|error| not_written(&path, &error))?;
    Ok(asked)
}

/// The enrolment is done. Blocks.
pub(super) fn forget_asked(files: &TlsFiles) {
    if let Err(error) = ensure_removed(&asked_key(files)) {
        // The next enrolment would ask for the certificate of a key that is in use.
        tracing::warn!(path = %asked_key(files).display(), error = cause(&error), "cannot remove it; remove it by hand");
    }
}

fn asked_key(files: &TlsFiles) -> PathBuf {
    with_suffix(&files.key, ".asked")
}

pub(super) fn stage_key(files: &TlsFiles, new: &Issued) -> io::Result<()> {
    write(&beside(&files.key), new.key.as_bytes(), 0o600)
}

pub(super) fn stage_cert(files: &TlsFiles, new: &Issued) -> io::Result<()> {
    let chain: String = new.chain.iter().map(|one| pem("CERTIFICATE", one)).collect();
    write(&beside(&files.cert), chain.as_bytes(), 0o644)
}

fn switch(files: &TlsFiles) -> io::Result<()> {
    switch_key(files).and_then(|()| rename(&beside(&files.cert), &files.cert))
}

pub(super) fn switch_key(files: &TlsFiles) -> io::Result<()> {
    match rename(&beside(&files.key), &files.key) {
        // It was renamed before the crash.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Whether key and certificate belong together; false if one can't be read.
pub(super) fn fits(key: &Path, cert: &Path) -> bool {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let key = PrivateKeyDer::from_pem_file(key).ok().and_then(|key| any_supported_type(&key).ok());
    match (chain, key) {
        (Ok(chain), Some(key)) if !chain.is_empty() => {
            CertifiedKey::new(chain, key).keys_match().is_ok()
        }
        _ => false,
    }
}

fn beside(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Replaces a file, whole and durable.
fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut temp = tempfile::Builder::new()
        .prefix(".ghost-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder(path))?;
    temp.write_all(content)?;
    // The umask may have taken some away.
    temp.as_file().set_permissions(Permissions::from_mode(mode))?;
    temp.as_file().sync_all()?;
    temp.persist(path).map_err(|error| error.error)?;
    sync(folder(path))
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync(folder(to))
}

fn ensure_removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn not_written(path: &Path, error: &io::Error) -> ControlError {
    ControlError::refused(format!(
        "cannot write in {}: {error}; let the agent's user write there",
        folder(path).display()
    ))
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = left;
    }
    pem + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests;
