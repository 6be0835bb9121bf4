//! The cached images for people, and their upkeep. Invariant: an image is removed only if no template's new
//! VMs get it and no VM's disk is based on it, and that is asked while nobody can begin to use it.

mod collect;
mod entry;
mod upkeep;

use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::watch;

pub use collect::Retention;
pub use entry::{ImageEntry, ImageStatus};
pub use upkeep::{Upkeep, UpkeepPlan, a_fetch_ended};

use super::registry::Registry;
use crate::domain::{
    AppError, Bytes, CachedImage, Catalog, Checksum, Condition, ErrorKind, Fetching,
    FieldViolation, Invalid, Template, TemplateName, Update, Verified, VmName, VmStage, VmView,
    cause,
};
use crate::ports::Ports;

/// The fewest digits that name an image: 48 bits, unique by any measure.
const DIGITS: usize = 12;

/// How somebody names an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRef {
    /// A template: its images.
    Template(TemplateName),
    /// The first hexadecimal digits of an image's digest, lower case.
    Digest(String),
}

impl FromStr for ImageRef {
    type Err = Invalid;

    /// `sha256:` and at least 12 digits, or a template's name.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let Some(hex) = text.strip_prefix("sha256:") else {
            return text.parse().map(Self::Template);
        };
        if (DIGITS..=64).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self::Digest(hex.to_ascii_lowercase()))
        } else {
            Err(Invalid::new("must be sha256: and 12 to 64 hexadecimal digits, or a template"))
        }
    }
}

impl ImageRef {
    fn means(&self, image: &CachedImage) -> bool {
        match self {
            Self::Digest(hex) => image.checksum.hex().starts_with(hex),
            Self::Template(name) => {
                image.current_of.contains(name) || image.former_of.iter().any(|(n, _)| n == name)
            }
        }
    }
}

impl std::fmt::Display for ImageRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Template(name) => write!(f, "{name}"),
            Self::Digest(hex) => write!(f, "sha256:{hex}"),
        }
    }
}

/// An image that is gone, and what that freed.
pub type Removed = (Checksum, Bytes);

/// What became of the images that somebody wanted removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// These are gone.
    pub removed: Vec<Removed>,
    /// VMs are based on these, or are just being made on them.
    pub kept: Vec<Checksum>,
}

/// How an update of one template ended.
pub type Updated = (TemplateName, Result<Update, AppError>);

/// The cached images and the templates that they belong to.
#[derive(Debug, Clone)]
pub struct ImageLibrary {
    ports: Ports,
    registry: Arc<Registry>,
    catalog: Arc<Catalog>,
    retention: Retention,
}

impl ImageLibrary {
    /// Over the ports' images.
    #[must_use]
    pub fn new(
        ports: Ports,
        registry: Arc<Registry>,
        catalog: Arc<Catalog>,
        retention: Retention,
    ) -> Self {
        Self { ports, registry, catalog, retention }
    }

    /// The templates.
    #[must_use]
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// What the cache may hold.
    #[must_use]
    pub const fn retention(&self) -> Retention {
        self.retention
    }

    /// Templates with their images, then images without a template.
    ///
    /// # Errors
    /// The port's.
    pub async fn list(&self) -> Result<Vec<ImageEntry>, AppError> {
        let images = self.ports.images.list().await?;
        let fetching = self.ports.images.fetching().borrow().clone();
        Ok(entry::entries(&self.catalog, &images, &fetching, &|image| self.users(image)))
    }

    /// The fetches under way.
    #[must_use]
    pub fn fetching(&self) -> watch::Receiver<Vec<Fetching>> {
        self.ports.images.fetching()
    }

    /// Has the template's image in the cache.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for an unknown template; the port's.
    pub async fn pull(&self, template: &str) -> Result<Checksum, AppError> {
        let template = self.template("template", template)?;
        let held = self.ports.images.ensure_cached(template).await?;
        Ok(held.image.checksum)
    }

    /// Looks for new versions of these templates, each once, or of all that are cached, one after another,
    /// and tells each outcome; then removes what nothing refers to any more.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for unknown templates; the port's, if the images can't be listed.
    pub async fn update(
        &self,
        names: &[String],
        told: &(dyn Fn(Updated) + Send + Sync),
    ) -> Result<Vec<Removed>, AppError> {
        let mut named: Vec<&Template> = Vec::new();
        for name in names {
            let template = self.template("templates", name)?;
            if !named.iter().any(|known| known.name == template.name) {
                named.push(template);
            }
        }
        let wanted = if named.is_empty() { self.cached().await? } else { named };
        for template in wanted {
            told((template.name.clone(), self.ports.images.update(template).await));
        }
        self.collect().await
    }

    async fn cached(&self) -> Result<Vec<&Template>, AppError> {
        let images = self.ports.images.list().await?;
        let cached = |t: &&Template| images.iter().any(|i| i.current_of.contains(&t.name));
        Ok(self.catalog.iter().filter(cached).collect())
    }

    /// Removes the images that are meant, as far as no VM needs them.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` if all of them are needed, with the VMs' names; the port's.
    pub async fn remove(&self, image: &ImageRef) -> Result<Removal, AppError> {
        let meant = self.meant(image).await?;
        let mut removal = Removal::default();
        for image in &meant {
            if self.is_used(&image.checksum) {
                removal.kept.push(image.checksum.clone());
                continue;
            }
            for template in &image.current_of {
                self.ports.images.ensure_forgotten(template).await?;
            }
            match self.remove_unused(&image.checksum).await? {
                Some(freed) => removal.removed.push((image.checksum.clone(), freed)),
                None => removal.kept.push(image.checksum.clone()),
            }
        }
        if removal.removed.is_empty() {
            return Err(self.needed(image, &removal.kept));
        }
        Ok(removal)
    }

    fn needed(&self, image: &ImageRef, kept: &[Checksum]) -> AppError {
        let mut vms: Vec<String> =
            kept.iter().flat_map(|c| self.users(c)).map(|vm| vm.to_string()).collect();
        vms.sort();
        let unrecorded: Vec<String> = self
            .registry
            .views()
            .iter()
            .filter(|vm| is_unrecorded(vm))
            .map(|vm| vm.record.name.to_string())
            .collect();
        let why = match (vms.as_slice(), unrecorded.as_slice()) {
            ([], _) if !self.registry.is_complete() => {
                return AppError::new(
                    ErrorKind::WrongState,
                    format!("{image} cannot be removed: it is not known whether libvirt has VMs that are in no record"),
                )
                .remedy("see that libvirt runs, and the agent's log for domains that are in no record");
            }
            ([], []) => "a VM is just being made on it".to_owned(),
            ([], vms) => format!(
                "it is not recorded what these VMs are based on, so it may be this: {}",
                vms.join(", ")
            ),
            (vms, _) => format!("VMs are based on it: {}", vms.join(", ")),
        };
        AppError::new(ErrorKind::WrongState, format!("{image} cannot be removed: {why}")).remedy(
            "delete these VMs first; new VMs of the template get its newest image in any case",
        )
    }

    /// `None` if it came into use meanwhile.
    async fn remove_unused(&self, image: &Checksum) -> Result<Option<Bytes>, AppError> {
        let registry = Arc::clone(&self.registry);
        let users = move |image: &Checksum| is_used(&registry, image);
        match self.ports.images.ensure_removed(image, &users).await {
            Ok(freed) => Ok(Some(freed)),
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::WrongState) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Compares the images that are meant, or all, with their digests. Those that differ are in quarantine
    /// then. One that cannot be compared keeps no other from it: that is logged, and it is missing in what is
    /// returned.
    ///
    /// # Errors
    /// `NOT_FOUND`; the port's, if none could be compared.
    pub async fn verify(
        &self,
        image: Option<&ImageRef>,
    ) -> Result<Vec<(CachedImage, Verified)>, AppError> {
        let meant = match image {
            Some(image) => self.meant(image).await?,
            None => self.ports.images.list().await?,
        };
        let (mut all, mut failed) = (Vec::new(), None);
        for image in meant {
            let verified = match self.ports.images.verify(&image.checksum).await {
                Ok(verified) => verified,
                Err(error) => {
                    tracing::warn!(image = %image.checksum, error = cause(&error), "a cached image could not be compared with its digest");
                    failed.get_or_insert(error);
                    continue;
                }
            };
            if let Condition::Quarantined { why } = &verified.condition {
                tracing::error!(
                    image = %image.checksum, why, used_by = ?self.users(&image.checksum),
                    "a cached image is not what it was; it was put in quarantine: agentctl image pull brings it back"
                );
            }
            all.push((image, verified));
        }
        match failed {
            Some(error) if all.is_empty() => Err(error),
            Some(_) | None => Ok(all),
        }
    }

    /// Removes what no template and no VM refers to, and what goes beyond the limits.
    ///
    /// # Errors
    /// The port's.
    pub async fn collect(&self) -> Result<Vec<Removed>, AppError> {
        let images = self.ports.images.list().await?;
        let plan = collect::plan(&images, self.retention, &|image| self.is_used(image));
        let mut removed = Vec::new();
        for image in plan {
            for template in &image.current_of {
                self.ports.images.ensure_forgotten(template).await?;
            }
            if let Some(freed) = self.remove_unused(&image.checksum).await? {
                tracing::info!(image = %image.checksum, freed_bytes = freed.0, "removed an image that nothing refers to");
                removed.push((image.checksum.clone(), freed));
            }
        }
        Ok(removed)
    }

    async fn meant(&self, image: &ImageRef) -> Result<Vec<CachedImage>, AppError> {
        let all = self.ports.images.list().await?;
        let meant: Vec<_> = all.into_iter().filter(|i| image.means(i)).collect();
        if meant.is_empty() {
            return Err(AppError::new(
                ErrorKind::NotFound,
                format!("no image of {image} is cached"),
            )
            .remedy("agentctl image list --all shows what is"));
        }
        Ok(meant)
    }

    fn template(&self, field: &'static str, name: &str) -> Result<&Template, AppError> {
        let known = TemplateName::from_str(name).and_then(|name| self.catalog.get(&name));
        known.map_err(|why| {
            AppError::validation(vec![FieldViolation {
                field: field.into(),
                problem: why.to_string(),
            }])
        })
    }

    fn users(&self, image: &Checksum) -> Vec<VmName> {
        let views = self.registry.views();
        let based = views.iter().filter(|vm| vm.record.image.as_ref() == Some(image));
        based.map(|vm| vm.record.name.clone()).collect()
    }

    fn is_used(&self, image: &Checksum) -> bool {
        is_used(&self.registry, image)
    }
}

/// A VM whose image is not recorded may be based on any, and so may one that is in no record.
fn is_used(registry: &Registry, image: &Checksum) -> bool {
    let uses = |vm: &VmView| is_unrecorded(vm) || vm.record.image.as_ref() == Some(image);
    !registry.is_complete() || registry.views().iter().any(|vm| uses(vm))
}

/// While it is being made, the image is held.
fn is_unrecorded(vm: &VmView) -> bool {
    match (&vm.record.image, &vm.record.stage) {
        (Some(_), _) | (None, VmStage::Creating { .. }) => false,
        (None, VmStage::Ready { .. } | VmStage::Deleting) => true,
    }
}
