//! A real Prometheus on loopback, with the packaged rules, that scrapes one target every second. Dropping it kills it.
//!
//! It is the distribution's (`./dev setup` unpacks its package where none is installed), found on the `PATH`.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::agent::follow;
use crate::wait::eventually;

/// Longest start, and longest wait for what takes a few scrapes.
const LIMIT: Duration = Duration::from_secs(60);
/// The packaged rules.
const RULES: &str = include_str!("../../../packaging/prometheus/ghost-agent.rules.yaml");

/// Whether the distribution's programs are here. Without them a test says so and ends; in CI it fails.
///
/// # Errors
/// In CI, if they are not.
pub async fn is_here() -> anyhow::Result<bool> {
    for program in ["prometheus", "promtool"] {
        let mut asked = Command::new(program);
        asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        if !asked.status().await.is_ok_and(|status| status.success()) {
            let in_ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
            ensure!(!in_ci, "there is no {program} here; remedy: ./dev setup");
            eprintln!("NOT TESTED: there is no {program} here; remedy: ./dev setup");
            return Ok(false);
        }
    }
    Ok(true)
}

/// A Prometheus that runs.
#[derive(Debug)]
pub struct Prometheus {
    /// Its configuration and what it stored.
    _folder: TempDir,
    _process: Child,
    seen: watch::Receiver<Vec<String>>,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts it, and waits until it serves. Its one target is `target`, of job `ghost-agent` and instance `e2e`.
    ///
    /// # Errors
    /// With what it said, if it does not start.
    pub async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ghost-e2e-prometheus-").tempdir()?;
        std::fs::write(folder.path().join("rules.yaml"), RULES)?;
        std::fs::write(folder.path().join("prometheus.yml"), config(target))?;
        // Freed at once: Prometheus takes it. It can't tell which it chose itself.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut process = command(folder.path(), address).spawn().context("prometheus")?;
        let stderr = process.stderr.take().context("no stderr")?;
        let seen = follow([stderr]);
        let started = Self { _folder: folder, _process: process, seen, address };
        let ready = eventually("Prometheus", LIMIT, async || {
            let answer = get(address, "/-/ready").await;
            Ok(answer.ok().filter(|(status, _)| *status == 200).map(drop))
        });
        ready.await.with_context(|| started.log())?;
        Ok(started)
    }

    /// The series that an instant query gives now: `metric` and `value` of each.
    ///
    /// # Errors
    /// With Prometheus' own words, if it does not take the query.
    pub async fn query(&self, expression: &str) -> anyhow::Result<Vec<Value>> {
        let data = self.ask(&format!("/api/v1/query?query={}", escaped(expression))).await?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until that query gives exactly one series (or one number), of that value.
    ///
    /// # Errors
    /// With what it gives instead.
    pub async fn until(&self, expression: &str, wanted: f64) -> anyhow::Result<()> {
        let mut last = Vec::new();
        let reached = eventually(&format!("{expression} = {wanted}"), LIMIT, async || {
            last = self.query(expression).await?;
            let values: Vec<Option<f64>> = last.iter().map(value).collect();
            Ok((values == [Some(wanted)]).then_some(()))
        })
        .await;
        reached.with_context(|| format!("it is {last:?}"))
    }

    /// Waits until that query gives something.
    ///
    /// # Errors
    /// If it does not.
    pub async fn until_some(&self, expression: &str) -> anyhow::Result<()> {
        eventually(&format!("a series of {expression}"), LIMIT, async || {
            Ok((!self.query(expression).await?.is_empty()).then_some(()))
        })
        .await
    }

    /// Waits until each rule was evaluated, and gives them all.
    ///
    /// # Errors
    /// If they are not, or Prometheus has none.
    pub async fn rules(&self) -> anyhow::Result<Vec<Value>> {
        eventually("the evaluation of all rules", LIMIT, async || {
            let data = self.ask("/api/v1/rules").await?;
            let groups = data["groups"].as_array().context("no groups")?;
            let rules = groups.iter().filter_map(|group| group["rules"].as_array()).flatten();
            let rules: Vec<Value> = rules.cloned().collect();
            let all = !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown");
            Ok(all.then_some(rules))
        })
        .await
    }

    /// Waits until that query gives no series.
    ///
    /// # Errors
    /// With what it gives instead.
    pub async fn until_none(&self, expression: &str) -> anyhow::Result<()> {
        let mut last = Vec::new();
        let gone = eventually(&format!("the end of {expression}"), LIMIT, async || {
            last = self.query(expression).await?;
            Ok(last.is_empty().then_some(()))
        })
        .await;
        gone.with_context(|| format!("there are {last:?}"))
    }

    /// The `data` of what its API answers to that path.
    ///
    /// # Errors
    /// With Prometheus' own words, if it refuses.
    pub async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let (_status, body) = get(self.address, path).await?;
        let answer: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        ensure!(answer["status"] == "success", "{path}: {}", answer["error"]);
        Ok(answer["data"].clone())
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.seen.borrow().join("\n")
    }
}

/// `promtool check metrics` on the text of a page of metrics.
///
/// # Errors
/// With what it finds wrong.
pub async fn check_metrics(page: &str) -> anyhow::Result<()> {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).kill_on_drop(true);
    promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().context("promtool")?;
    let mut stdin = promtool.stdin.take().context("no stdin")?;
    let checking = async {
        stdin.write_all(page.as_bytes()).await?;
        drop(stdin);
        anyhow::Ok(promtool.wait_with_output().await?)
    };
    let ended = tokio::time::timeout(LIMIT, checking).await.context("promtool does not end")??;
    let said = [ended.stdout, ended.stderr].concat();
    ensure!(ended.status.success(), "promtool: {}", String::from_utf8_lossy(&said));
    Ok(())
}

/// One request by HTTP/1.1 to that address: the status and the body.
///
/// # Errors
/// If there is no whole answer in time.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        // 1.0: no chunks.
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(LIMIT, asking).await.context("no answer by HTTP")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no whole answer by HTTP")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no status: {head}"))?, body.to_owned()))
}

fn config(target: SocketAddr) -> String {
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [rules.yaml]\n\
         scrape_configs:\n\
         - job_name: ghost-agent\n  \
         static_configs: [{{targets: ['{target}'], labels: {{instance: e2e}}}}]\n"
    )
}

fn command(folder: &Path, address: SocketAddr) -> Command {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", file("prometheus.yml")));
    command.arg(format!("--storage.tsdb.path={}", file("data")));
    command.arg(format!("--web.listen-address={address}"));
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// The number of a sample.
fn value(series: &Value) -> Option<f64> {
    series["value"][1].as_str()?.parse().ok()
}

/// For a URL: every byte but letters and digits by its number.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
