//! Why the log can't be begun.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::config::{LogOutput, Logging};

/// Why the log can't be begun.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log file.
    #[error(
        "logging.file: {path} can't be opened for writing; make its folder writable for the agent's user (install -d -m 0750 -o ghost-agent -g ghost {folder}), name another file, or set logging.output to stdout",
        path = .path.display(), folder = folder(.path).display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The system gives no more threads or file descriptors.
    #[error(
        "the system gives the log no thread or file descriptor; raise TasksMax and LimitNOFILE of the service"
    )]
    Thread(#[source] io::Error),
}

/// Whether the log file, if there is to be one, could be written; changes nothing.
///
/// # Errors
/// [`LogError::File`].
pub fn look(logging: &Logging) -> Result<(), LogError> {
    let path = &logging.file;
    let writable = match logging.output {
        LogOutput::Stdout => Ok(()),
        LogOutput::File | LogOutput::Both => writable(path),
    };
    writable.map_err(|source| LogError::File { path: path.clone(), source })
}

fn writable(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(there) if !there.is_file() => Err(io::Error::other("it is not a regular file")),
        Ok(_) => Ok(access(path, Access::WRITE_OK | Access::READ_OK)?),
        Err(_) => {
            // What is missing of the folder is made at the start.
            let there = path.ancestors().skip(1).find(|folder| folder.exists());
            let there = there.unwrap_or(Path::new("/"));
            if !there.is_dir() {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            }
            Ok(access(there, Access::WRITE_OK | Access::EXEC_OK)?)
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
