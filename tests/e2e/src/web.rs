//! The agent over HTTP, as monitoring asks it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::agent::Agent;

/// Longest answer.
const LIMIT: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug)]
pub struct Page {
    /// 200 and the like.
    pub status: u16,
    /// Behind the head.
    pub body: String,
    /// From the connection to the last byte.
    pub took: Duration,
}

impl Page {
    /// The body as JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| self.body.clone())
    }
}

/// Where an agent answers, by its log.
///
/// # Errors
/// If it does not say.
pub fn address(agent: &Agent) -> anyhow::Result<SocketAddr> {
    let lines = agent.log();
    let said = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut said = said.filter_map(|line| line.get("http")?.as_str()?.parse().ok());
    said.next().context("the agent's log names no http address")
}

/// Asks it.
///
/// # Errors
/// If it does not answer in time.
pub async fn get(agent: &Agent, path: &str) -> anyhow::Result<Page> {
    let (address, began) = (address(agent)?, Instant::now());
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(LIMIT, asking).await.context("no answer in time")??;
    let took = began.elapsed();
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Page { status, body: body.to_owned(), took })
}
