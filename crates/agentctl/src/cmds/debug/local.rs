//! What agentctl sees by itself, on the agent's host. Invariant: every look ends within [`LIMIT`], nothing is changed, and nothing that the
//! agent says leads to a file here: this may run as root.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::contents::{Contents, FILE, Kept};
use super::names::Name;
use crate::cli::Global;
use crate::cmds::doctor::{self, find_program};
use crate::cmds::version;

/// Of each look.
const LIMIT: Duration = Duration::from_secs(20);
/// Of the log file, from its end, in bytes.
const TAIL: u64 = 4 << 20;
/// Where the log is unless the configuration says otherwise (`logging.file`).
const LOG: &str = "/var/log/ghost/agent.log";
/// What is shown of each error in the journal (docs/observability/logs.md).
const ERROR_FIELDS: &str =
    "--output-fields=MESSAGE,PRIORITY,REQUEST_ID,VM_ID,ERROR,ERROR_CODE,ERROR_CHAIN,BACKTRACE";
/// Where the service has the enrolment secret from (packaging/systemd).
const ENVIRONMENT: &str = "/etc/ghost/agent.env";
/// The enrolment secret's variable.
const API_KEY: &str = "GHOST_API_KEY";

/// The secrets that can be known here.
pub(super) fn secrets() -> Vec<String> {
    let own = std::env::var(API_KEY).ok();
    let file = std::fs::read_to_string(ENVIRONMENT).unwrap_or_default();
    let of_file =
        file.lines().filter_map(|line| line.trim().strip_prefix(API_KEY)?.trim().strip_prefix('='));
    let of_file = of_file.map(|value| value.trim().trim_matches(['"', '\'']).to_owned());
    own.into_iter().chain(of_file).collect()
}

/// What `doctor` says, what a start would read as its configuration, and the service's log.
#[derive(Debug)]
pub(super) struct Looks {
    doctor: Result<String, String>,
    config: Result<String, String>,
    journal: Result<String, String>,
    errors: Result<String, String>,
}

impl Looks {
    pub(super) async fn take(global: &Global) -> Self {
        let journal =
            ["-u", "ghost-agent", "-n", "2000", "--no-pager", "-o", "short-iso-precise", "-q"];
        // The chain and the backtrace are fields of their own: of a dead agent nothing else has them.
        let errors = [
            "-u",
            "ghost-agent",
            "-n",
            "100",
            "-p",
            "err",
            "--no-pager",
            "-o",
            "verbose",
            "--all",
            "-q",
        ];
        let errors = [&errors[..], &[ERROR_FIELDS]].concat();
        let (doctor, config, journal, errors) = tokio::join!(
            timeout(LIMIT, doctor::text(global)),
            run("ghost-agent", &["check-config", "--show"]),
            run("journalctl", &journal),
            run("journalctl", &errors),
        );
        let doctor = doctor.map_err(|_| format!("did not end within {} s", LIMIT.as_secs()));
        Self { doctor, config, journal, errors }
    }

    pub(super) fn put_into(self, contents: &mut Contents) {
        let log = self.config.as_deref().ok().and_then(log_file).unwrap_or_else(|| LOG.into());
        let tail = tail(&log).map_err(|error| format!("{}: {error}", log.display()));
        let about = "# as a start by who runs agentctl would read it\n";
        let config = self.config.map(|text| format!("{about}{text}"));
        let files = [
            ("ctl/doctor.txt", "doctor", self.doctor, Kept::Beginning),
            ("ctl/check-config.txt", "ghost-agent check-config", config, Kept::Beginning),
            ("journal/ghost-agent.log", "the journal", self.journal, Kept::End),
            ("journal/errors.log", "the journal's errors", self.errors, Kept::End),
            ("journal/agent.log", "the log file", tail, Kept::End),
        ];
        for (name, what, found, kept) in files {
            match found {
                Ok(text) if text.trim().is_empty() => contents.miss(&format!("{what}: empty")),
                Ok(text) => contents.add(Name::own(name), &text, kept),
                Err(why) => contents.miss(&format!("{what}: {why}")),
            }
        }
    }
}

/// agentctl's own version.
pub(super) fn version(contents: &mut Contents) {
    let now = jiff::Timestamp::now();
    let text = format!("agentctl {}\ncollected at {now:.0}\n", version::LONG);
    contents.add(Name::own("ctl/version.txt"), &text, Kept::Beginning);
}

/// What the program prints, on both its outputs, in English; whatever its exit code.
async fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let path = find_program(program).ok_or_else(|| "not installed here".to_owned())?;
    let mut command = Command::new(path);
    command.args(args).env("LC_ALL", "C").env("NO_COLOR", "1").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let most = u64::try_from(2 * FILE).unwrap_or(u64::MAX);
    let read = async {
        let stdout = child.stdout.take().map(|stdout| stdout.take(most));
        let stderr = child.stderr.take().map(|stderr| stderr.take(most));
        tokio::try_join!(
            async {
                if let Some(mut from) = stdout { from.read_to_end(&mut out).await } else { Ok(0) }
            },
            async {
                if let Some(mut from) = stderr { from.read_to_end(&mut err).await } else { Ok(0) }
            },
        )
    };
    match timeout(LIMIT, read).await {
        Ok(Ok(_)) => Ok(String::from_utf8_lossy(&[out, err].concat()).into_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("did not end within {} s", LIMIT.as_secs())),
    }
}

/// `logging.file` of what `check-config --show` prints.
fn log_file(config: &str) -> Option<PathBuf> {
    let mut lines = config.lines().skip_while(|line| *line != "logging:").skip(1);
    let mut own = lines.by_ref().take_while(|line| line.starts_with("  "));
    let value = own.find_map(|line| line.trim().strip_prefix("file: "))?;
    let value = value.split("  # ").next()?.trim().trim_matches('"');
    value.starts_with('/').then(|| value.into())
}

/// The last whole lines. The folder is the agent's: what it put there as a link or a pipe is not followed.
fn tail(path: &Path) -> io::Result<String> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    let from = found.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let whole =
        if from == 0 { Some(text.as_str()) } else { text.split_once('\n').map(|(_, rest)| rest) };
    Ok(whole.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_file_is_the_configurations() {
        let config = "# x: OK\nagent:\n  file: /no\nlogging:\n  level: info  # default\n  file: /var/log/a.log  # default\nvm:\n";
        assert_eq!(log_file(config), Some("/var/log/a.log".into()));
        assert_eq!(log_file("logging:\n  level: x\nother:\n  file: /etc/shadow\n"), None);
    }

    #[test]
    fn no_link_and_no_pipe_is_read_as_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("log"), "one\ntwo\n").unwrap();
        std::os::unix::fs::symlink(path("log"), path("link")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert_eq!(tail(&path("log")).unwrap(), "one\ntwo\n");
        assert!(tail(&path("link")).is_err() && tail(&path("pipe")).is_err());
        std::fs::write(path("log"), format!("{}last\n", "line\n".repeat(1 << 20))).unwrap();
        let long = tail(&path("log")).unwrap();
        assert!(
            long.starts_with("line\n") && long.ends_with("line\nlast\n") && long.len() < 4 << 20
        );
    }

    #[test]
    fn what_a_program_prints_and_complains_is_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ran = runtime.block_on(run("sh", &["-c", "echo out; echo err >&2; exit 3"]));
        assert_eq!(ran, Ok("out\nerr\n".to_owned()));
        assert_eq!(
            runtime.block_on(run("no-such-program", &[])),
            Err("not installed here".to_owned())
        );
    }
}
