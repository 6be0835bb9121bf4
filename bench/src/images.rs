//! Images: how fast they are fetched and hashed, and what they cost a create. Invariant: agent and peers
//! read the same bytes of one Debian 12, which all of them find in the page cache.

mod bytes;
mod creates;
mod peers;

use ghost_e2e::agent::{Agent, Home, Image};
use ghost_e2e::client::Client;
use ghost_e2e::publisher::Publisher;
use ghost_proto::agentpb::{PullImageRequest, RemoveImageRequest};

use crate::creates::interrupted;
use crate::report::Row;
use crate::tap::Tap;
use crate::{LEVEL, LIBVIRT};
use creates::Creates;

/// The template, and its file at the publisher.
const TEMPLATE: &str = "debian12";
const FILE: &str = "debian12.qcow2";
/// Pulls are changes, and a hundred of them come at once.
const CHANGES: &str = "100000";
/// Under TCG beside others a full Debian takes its address after a minute or more.
const PATIENT: &str = "600s";
/// The least: no guest boots in that time, so a create ends and takes everything back.
const IMPATIENT: &str = "1s";
const ADDRESS_TIMEOUT: &str = "VM__ADDRESS_TIMEOUT";

/// What is fetched.
#[derive(Debug)]
struct Source {
    publisher: Publisher,
    image: Image,
    /// In bytes.
    size: usize,
}

impl Source {
    fn open() -> anyhow::Result<Self> {
        let (publisher, image) = (Publisher::open()?, Image::debian12()?);
        let content = std::fs::read(&image.path)?;
        let size = content.len();
        publisher.offer(FILE, content);
        Ok(Self { publisher, image, size })
    }

    fn row(&self) -> String {
        let user = format!("default_user: {}", self.image.user);
        self.publisher.row(TEMPLATE, FILE).replace("default_user: root", &user)
    }

    /// Million bytes in a second, if all of it took so long.
    fn rate(&self, took: std::time::Duration) -> f64 {
        self.size as f64 / 1e6 / took.as_secs_f64()
    }
}

/// Fetches, hashes and creates; at the end nothing is left.
///
/// # Errors
/// If something can't be measured, or the agent's image is not what the publisher offers.
pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let home = Home::new().await?.leaves_vms().with(LEVEL, "info");
    let tap = Tap::open(home.path())?;
    let home = home
        .with(LIBVIRT, tap.uri())
        .with("RATES__CLIENT_CHANGES_PER_S", CHANGES)
        .with("RATES__ALL_CHANGES_PER_S", CHANGES);
    let source = Source::open()?;
    std::fs::write(home.path().join("catalog.yaml"), source.row())?;
    tokio::select! {
        rows = all(home, &tap, &source) => rows,
        by = interrupted() => Err(by.map_or_else(Into::into, |by| anyhow::anyhow!("stopped by {by}"))),
    }
}

async fn all(home: Home, tap: &Tap, source: &Source) -> anyhow::Result<Vec<Row>> {
    let home = home.with(ADDRESS_TIMEOUT, PATIENT);
    let agent = home.start().await?;
    let mut rows = bytes::measure(&home, &agent, source).await?;
    rows.extend(creates(&home, &agent, tap).await?.booted().await?);
    agent.stop().await?;
    // The next agent knows the image from what is written down beside it.
    let home = home.with(ADDRESS_TIMEOUT, IMPATIENT);
    let agent = home.start().await?;
    rows.extend(creates(&home, &agent, tap).await?.cut_short(source).await?);
    agent.stop().await?;
    home.ensure_nothing_left().await?;
    Ok(rows)
}

async fn creates<'a>(
    home: &'a Home,
    agent: &'a Agent,
    tap: &'a Tap,
) -> anyhow::Result<Creates<'a>> {
    Ok(Creates { home, agent, tap, api: home.api(agent).await? })
}

/// Has the image in the cache, and gives its digest.
async fn pull(api: &mut Client) -> anyhow::Result<String> {
    let request = PullImageRequest { template: TEMPLATE.to_owned() };
    let mut told = api.pull_image(request).await?.into_inner();
    let mut digest = String::new();
    while let Some(progress) = told.message().await? {
        digest = progress.digest;
    }
    anyhow::ensure!(!digest.is_empty(), "the pull of {TEMPLATE} ended without a digest");
    Ok(digest)
}

async fn remove(api: &mut Client) -> anyhow::Result<()> {
    api.remove_image(RemoveImageRequest { image: TEMPLATE.to_owned() }).await?;
    Ok(())
}
