//! A tailscaled that says what it is told to: its LocalAPI on a unix socket, as far as the agent uses it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// A tailscaled. When it is dropped its socket stays, and nobody answers there.
#[derive(Debug)]
pub struct Tailscaled {
    says: Arc<Mutex<String>>,
    serving: JoinHandle<()>,
}

impl Tailscaled {
    /// One that needs a login, in the place of a former one.
    ///
    /// # Errors
    /// If it can't listen there.
    pub fn listen(socket: &Path) -> anyhow::Result<Self> {
        if socket.exists() {
            std::fs::remove_file(socket)?;
        }
        let listener = UnixListener::bind(socket)?;
        let says = Arc::new(Mutex::new(status("NeedsLogin", &[])));
        let saying = Arc::clone(&says);
        #[expect(clippy::disallowed_methods, reason = "aborted when the value is dropped")]
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let body = saying.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Who hangs up is asked no more.
                let _answered = answer(stream, &body).await;
            }
        });
        Ok(Self { says, serving })
    }

    /// Changes what it says from now on: `BackendState` and this host's addresses.
    pub fn says(&self, state: &str, addresses: &[&str]) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = status(state, addresses);
    }
}

impl Drop for Tailscaled {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn status(state: &str, addresses: &[&str]) -> String {
    let own = serde_json::json!({ "HostName": "pc", "DNSName": "pc.ghost.internal.", "TailscaleIPs": addresses });
    let status = serde_json::json!({
        "Version": "1.80.2", "BackendState": state, "TailscaleIPs": addresses, "Self": own, "Peer": {},
    });
    status.to_string()
}

async fn answer(stream: UnixStream, body: &str) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.flush().await
}
