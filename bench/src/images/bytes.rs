//! Bytes per second. Invariant: agent and peers take turns; each had the same bytes, and came to the
//! same digest.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::ensure;
use ghost_e2e::agent::{Agent, Home};
use ghost_e2e::client::Client;
use ghost_proto::agentpb::VerifyImageRequest;

use super::{Source, TEMPLATE, peers, pull, remove};
use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;

/// Fetches, and as many verifications.
const ROUNDS: usize = 5;
/// Pulls of what is cached.
const PULLS: usize = 100;
/// What it may cost a create that the image is looked at.
const IMAGE_STEP: Budget = Budget::P99AtMost(20.0);
/// The peers.
const SHA256SUM: (&str, &[&str]) = ("sha256sum", &["sha256sum"]);
const OPENSSL: (&str, &[&str]) = ("openssl dgst", &["openssl", "dgst", "-sha256"]);

/// Fetches, verifies, and asks for what is cached.
pub(super) async fn measure(
    home: &Home,
    agent: &Agent,
    source: &Source,
) -> anyhow::Result<Vec<Row>> {
    let mut api = home.api(agent).await?;
    let mut rows = fetched(home, &mut api, source).await?;
    rows.extend(verified(home, &mut api, source).await?);
    rows.push(asked_for_again(&mut api).await?);
    Ok(rows)
}

async fn fetched(home: &Home, api: &mut Client, source: &Source) -> anyhow::Result<Vec<Row>> {
    let (mut ours, mut bare, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        if round > 0 {
            remove(api).await?;
        }
        let clock = Instant::now();
        let digest = pull(api).await?;
        ours.push(source.rate(clock.elapsed()));
        bare.push(source.rate(peers::download(source, &home.path().join("bare")).await?));
        let took = peers::hash(SHA256SUM.1, &source.image.path, &digest).await?;
        sums.extend(took.map(|took| source.rate(took)));
    }
    println!("pull: {ROUNDS} fetches of {:.1} MB", source.size as f64 / 1e6);
    let row = || -> anyhow::Result<Row> {
        let ours = Samples::new(ours.iter().copied())?;
        Ok(Row::new("pull: fetch, digest, inspection, fsync", Unit::MegabytesPerSecond, ours))
    };
    Ok(vec![
        row()?.beside("TCP → file, fsync", Samples::new(bare)?),
        row()?.beside(SHA256SUM.0, Samples::new(sums)?),
    ])
}

async fn verified(home: &Home, api: &mut Client, source: &Source) -> anyhow::Result<Vec<Row>> {
    let digest = pull(api).await?;
    let path = cached(home.path(), &digest);
    let (mut ours, peers) = (Vec::new(), [SHA256SUM, OPENSSL]);
    let mut theirs = peers.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, program), times) in peers.iter().zip(&mut theirs) {
            let took = peers::hash(program, &path, &digest).await?;
            times.extend(took.map(|took| source.rate(took)));
        }
        peers::warm(&path).await?;
        let clock = Instant::now();
        let request = VerifyImageRequest { image: TEMPLATE.to_owned() };
        let images = api.verify_image(request).await?.into_inner().images;
        ours.push(source.rate(clock.elapsed()));
        let read: i64 = images.iter().map(|image| image.read_bytes).sum();
        ensure!(usize::try_from(read)? == source.size, "it read {read} bytes: {images:?}");
        ensure!(images.iter().all(|image| image.status == "proven"), "{images:?}");
    }
    println!("verify: {ROUNDS} times");
    let beside = peers.into_iter().zip(theirs).filter(|(_, times)| !times.is_empty());
    let row = |((name, _), times)| -> anyhow::Result<Row> {
        let ours = Samples::new(ours.iter().copied())?;
        let row = Row::new("verify", Unit::MegabytesPerSecond, ours);
        Ok(row.beside(name, Samples::new(times)?))
    };
    beside.map(row).collect()
}

/// What a create pays for an image that is cached, and the call around it.
async fn asked_for_again(api: &mut Client) -> anyhow::Result<Row> {
    let mut times = Vec::new();
    for _ in 0..PULLS {
        let clock = Instant::now();
        pull(api).await?;
        times.push(clock.elapsed().as_secs_f64() * 1e3);
    }
    println!("pull: {PULLS} times what is cached");
    let row = Row::new("pull of what is cached, over mTLS", Unit::Millis, Samples::new(times)?);
    Ok(row.budget(IMAGE_STEP))
}

/// The file of the image with that digest.
pub(super) fn cached(home: &Path, digest: &str) -> PathBuf {
    home.join(format!("images/{}.qcow2", digest.trim_start_matches("sha256:")))
}
