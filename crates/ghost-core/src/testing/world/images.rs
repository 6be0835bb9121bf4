//! The image cache of a [`World`]: publishers that bring out new versions, files that rot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use super::World;
use crate::domain::{
    AppError, BaseImage, Bytes, CachedImage, Checksum, Condition, ErrorKind, Fetching, HeldImage,
    Hold, ImageUsers, Proof, Template, TemplateName, Update, Verified,
};
use crate::ports::{Clock, Images, PortResult};

/// What every image's file takes.
const SIZE: Bytes = Bytes(512 << 20);

#[derive(Debug, Default)]
pub(super) struct Cache {
    /// What the publisher offers, where he lists it.
    offered: BTreeMap<TemplateName, Checksum>,
    /// Oldest first; the last is the current one unless it was forgotten.
    versions: BTreeMap<TemplateName, Vec<Checksum>>,
    forgotten: Vec<TemplateName>,
    asked: BTreeMap<TemplateName, Timestamp>,
    files: BTreeMap<Checksum, File>,
}

#[derive(Debug)]
struct File {
    fetched_at: Timestamp,
    used_at: Timestamp,
    verified_at: Timestamp,
    rotten: bool,
    condition: Condition,
    token: Arc<()>,
}

impl Cache {
    fn offered(&self, template: &Template) -> Checksum {
        match &template.proof {
            Proof::Pinned(digest) => digest.hex().parse().unwrap_or_else(|_| checksum(1)),
            Proof::Listed(_) => {
                self.offered.get(&template.name).cloned().unwrap_or_else(|| checksum(1))
            }
        }
    }

    fn current(&self, template: &TemplateName) -> Option<&Checksum> {
        let known = self.versions.get(template).filter(|_| !self.forgotten.contains(template));
        known.and_then(|versions| versions.last())
    }

    fn usable(&self, checksum: &Checksum) -> bool {
        self.files.get(checksum).is_some_and(|file| file.condition == Condition::Proven)
    }

    /// Fetches what is not there, and lets the template point to it.
    fn take(&mut self, template: &TemplateName, checksum: &Checksum, now: Timestamp) {
        if !self.usable(checksum) {
            let file = File {
                fetched_at: now,
                used_at: now,
                verified_at: now,
                rotten: false,
                condition: Condition::Proven,
                token: Arc::default(),
            };
            self.files.insert(checksum.clone(), file);
        }
        self.forgotten.retain(|name| name != template);
        self.asked.insert(template.clone(), now);
        let versions = self.versions.entry(template.clone()).or_default();
        versions.retain(|version| version != checksum);
        versions.push(checksum.clone());
    }

    fn describe(&self, checksum: &Checksum, file: &File, virtual_size: Bytes) -> CachedImage {
        let age_in =
            |versions: &[Checksum]| versions.iter().rev().position(|version| version == checksum);
        let (mut current_of, mut former_of) = (Vec::new(), Vec::new());
        for (name, versions) in &self.versions {
            match (age_in(versions), self.current(name)) {
                (Some(0), Some(_)) => current_of.push(name.clone()),
                (Some(age), _) => former_of.push((name.clone(), age)),
                (None, _) => {}
            }
        }
        let asked_at = current_of.iter().filter_map(|name| self.asked.get(name)).min().copied();
        CachedImage {
            checksum: checksum.clone(),
            size: SIZE,
            virtual_size,
            current_of,
            former_of,
            fetched_at: file.fetched_at,
            used_at: file.used_at,
            verified_at: file.verified_at,
            asked_at,
            condition: file.condition.clone(),
        }
    }
}

/// A digest that is as good as any other.
fn checksum(n: u8) -> Checksum {
    #[expect(clippy::unwrap_used, reason = "64 hexadecimal digits")]
    format!("{n:064x}").parse().unwrap()
}

impl World {
    /// Lets the publisher of a listed template bring out its `n`th version; 1 is there from the begin.
    /// Gives the version's digest.
    pub fn publish_version(&self, template: &TemplateName, n: u8) -> Checksum {
        self.state().images.offered.insert(template.clone(), checksum(n));
        checksum(n)
    }

    /// Alters a cached image's file, which nobody notices until it is verified.
    pub fn let_rot(&self, image: &Checksum) {
        if let Some(file) = self.state().images.files.get_mut(image) {
            file.rotten = true;
        }
    }

    /// Shows these fetches as under way.
    pub fn show_fetching(&self, fetching: Vec<Fetching>) {
        self.fetching.send_replace(fetching);
    }
}

#[async_trait]
impl Images for World {
    async fn ensure_cached(&self, template: &Template) -> PortResult<HeldImage> {
        let work = || {
            let (now, mut state) = (self.clock.now(), self.state());
            let virtual_size = state.image;
            let cache = &mut state.images;
            let pinned = matches!(template.proof, Proof::Pinned(_));
            let current = cache.current(&template.name).filter(|c| !pinned && cache.usable(c));
            let checksum = current.cloned().unwrap_or_else(|| cache.offered(template));
            cache.take(&template.name, &checksum, now);
            let mut hold = Hold::default();
            if let Some(file) = cache.files.get_mut(&checksum) {
                file.used_at = now;
                hold = Hold::on(&file.token);
            }
            let path = PathBuf::from("/images/base.qcow2");
            Ok(HeldImage { image: BaseImage { path, checksum, virtual_size }, hold })
        };
        self.faults.call("ensure_cached", work).await
    }

    async fn update(&self, template: &Template) -> PortResult<Update> {
        let work = || {
            let (now, mut state) = (self.clock.now(), self.state());
            let cache = &mut state.images;
            let Some(from) = cache.current(&template.name).cloned() else {
                return Ok(Update::NotCached);
            };
            let to = cache.offered(template);
            cache.take(&template.name, &to, now);
            Ok(if from == to { Update::Current(to) } else { Update::New { from, to } })
        };
        self.faults.call("update", work).await
    }

    async fn list(&self) -> PortResult<Vec<CachedImage>> {
        let work = || {
            let state = self.state();
            let describe = |(c, f)| state.images.describe(c, f, state.image);
            Ok(state.images.files.iter().map(describe).collect())
        };
        self.faults.call("list", work).await
    }

    async fn verify(&self, image: &Checksum) -> PortResult<Verified> {
        let work = || {
            let (now, mut state) = (self.clock.now(), self.state());
            let file = state.images.files.get_mut(image).ok_or_else(|| {
                AppError::new(ErrorKind::NotFound, format!("no image {image} is cached"))
            })?;
            if file.rotten {
                file.condition = Condition::Quarantined { why: "it was altered".to_owned() };
            }
            file.verified_at = now;
            let condition = file.condition.clone();
            Ok(Verified { checksum: image.clone(), read: SIZE, condition })
        };
        self.faults.call("verify", work).await
    }

    async fn ensure_forgotten(&self, template: &TemplateName) -> PortResult<()> {
        let work = || {
            self.state().images.forgotten.push(template.clone());
            Ok(())
        };
        self.faults.call("ensure_forgotten", work).await
    }

    async fn ensure_removed(&self, image: &Checksum, users: &ImageUsers) -> PortResult<Bytes> {
        let work = || {
            let refuse = |kind, why| Err(AppError::new(kind, format!("{image} {why}")));
            let mut state = self.state();
            let cache = &mut state.images;
            let Some(file) = cache.files.get(image) else { return Ok(Bytes(0)) };
            if !cache.describe(image, file, SIZE).current_of.is_empty() {
                return refuse(ErrorKind::WrongState, "is what a template's new VMs get");
            }
            let refused = if Arc::strong_count(&file.token) > 1 {
                Some((ErrorKind::Busy, "is being used for a new VM"))
            } else if users(image) {
                Some((ErrorKind::WrongState, "is under the disk of a VM"))
            } else {
                None
            };
            if let Some((kind, why)) = refused {
                let Cache { versions, forgotten, .. } = cache;
                forgotten.retain(|name| versions.get(name).and_then(|v| v.last()) != Some(image));
                return refuse(kind, why);
            }
            cache.files.remove(image);
            Ok(SIZE)
        };
        self.faults.call("ensure_removed", work).await
    }

    fn fetching(&self) -> watch::Receiver<Vec<Fetching>> {
        self.fetching.subscribe()
    }
}
