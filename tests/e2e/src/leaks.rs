//! Leak accounting: everything on a host, or in a lab, that an agent could leave behind.
//!
//! Invariant: each test ends with nothing that bears the agent's mark and was not there before it
//! began. [`Home`](crate::home::Home) sees to it when it is dropped; what is left is removed by force,
//! so that one test's leak does not fail the next.

mod thing;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::libvirt::Libvirt;
pub use thing::Thing;

/// The files of the agents of one home.
#[derive(Debug, Clone)]
pub struct Files {
    /// The agent's `state_dir`.
    pub state: PathBuf,
    /// Its `image_cache`.
    pub images: PathBuf,
}

/// All that there is at one moment, ours or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory(BTreeSet<Thing>);

impl Inventory {
    /// Looks at everything, with virsh, `/proc` and the file system alone.
    ///
    /// # Errors
    /// If libvirt can't tell.
    pub async fn take(libvirt: &Libvirt, files: &Files) -> anyhow::Result<Self> {
        let (libvirt, files) = (libvirt.clone(), files.clone());
        tokio::task::spawn_blocking(move || Self::take_now(&libvirt, &files)).await?
    }

    /// As [`Self::take`], where nothing can be awaited.
    pub(crate) fn take_now(libvirt: &Libvirt, files: &Files) -> anyhow::Result<Self> {
        let mut all = BTreeSet::new();
        all.extend(domains(libvirt)?);
        all.extend(libvirt.qemus().into_iter().map(Thing::qemu));
        all.extend(filters(libvirt)?);
        all.extend(volumes(libvirt)?);
        all.extend(dhcp_hosts(libvirt)?);
        all.extend(files_in(&files.state.join("vms"), |_any| true));
        all.extend(files_in(&files.state, |name| {
            name.ends_with(".tmp") || name.contains(".damaged-")
        }));
        all.extend(files_in(&files.images, |name| name.ends_with(".part")));
        Ok(Self(all))
    }

    /// What was not there before, whoever made it.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<&Thing> {
        self.0.iter().filter(|thing| !before.0.contains(thing)).collect()
    }

    /// What bears the agent's mark and was not there before.
    #[must_use]
    pub fn left_since(&self, before: &Self) -> Vec<&Thing> {
        self.since(before).into_iter().filter(|thing| thing.is_the_agents()).collect()
    }

    /// What was there before, is no agent's, lasts by its nature, and is no more.
    #[must_use]
    pub fn gone_since<'a>(&self, before: &'a Self) -> Vec<&'a Thing> {
        let gone = before.since(self).into_iter();
        gone.filter(|thing| thing.lasts() && !thing.is_the_agents()).collect()
    }
}

fn words(lines: &str) -> impl Iterator<Item = &str> {
    lines.lines().filter_map(|line| line.split_whitespace().next())
}

fn domains(libvirt: &Libvirt) -> anyhow::Result<Vec<Thing>> {
    let mut found = Vec::new();
    for line in libvirt.call(&["list", "--all", "--uuid", "--name"])?.lines() {
        let Some((uuid, name)) = line.trim().split_once(' ') else { continue };
        // Gone meanwhile: nothing that is left.
        let Ok(xml) = libvirt.call(&["dumpxml", uuid]) else { continue };
        found.push(Thing::domain(uuid, name.trim(), &xml));
    }
    Ok(found)
}

fn filters(libvirt: &Libvirt) -> anyhow::Result<Vec<Thing>> {
    let mut found = Vec::new();
    for device in words(&libvirt.call(&["nwfilter-binding-list"])?) {
        let Ok(xml) = libvirt.call(&["nwfilter-binding-dumpxml", device]) else { continue };
        found.push(Thing::filter(device, &xml));
    }
    Ok(found)
}

fn volumes(libvirt: &Libvirt) -> anyhow::Result<Vec<Thing>> {
    let mut found = Vec::new();
    for pool in words(&libvirt.call(&["pool-list", "--name"])?) {
        // libvirt knows only of what it made itself, until it looks.
        libvirt.call(&["pool-refresh", pool])?;
        let names = libvirt.call(&["vol-list", "--pool", pool])?;
        found.extend(words(&names).map(|name| Thing::volume(pool, name)));
    }
    Ok(found)
}

fn dhcp_hosts(libvirt: &Libvirt) -> anyhow::Result<Vec<Thing>> {
    let mut found = Vec::new();
    for network in words(&libvirt.call(&["net-list", "--all", "--name"])?) {
        let live = libvirt.call(&["net-dumpxml", network])?;
        let lasting = libvirt.call(&["net-dumpxml", "--inactive", network])?;
        let hosts = live.lines().chain(lasting.lines()).filter(|line| line.contains("<host "));
        found.extend(hosts.map(|host| Thing::dhcp_host(network, host.trim())));
    }
    Ok(found)
}

fn files_in(folder: &Path, counts: impl Fn(&str) -> bool) -> Vec<Thing> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let counted = entries.filter(|entry| entry.file_name().to_str().is_none_or(&counts));
    counted.map(|entry| Thing::file(entry.path())).collect()
}
