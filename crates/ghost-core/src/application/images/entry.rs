//! The list of images as people read it.

use crate::domain::{
    CachedImage, Catalog, Checksum, Condition, Fetching, Template, TemplateName, VmName,
};

/// What an image is to a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageStatus {
    /// The template's image is not cached.
    Absent,
    /// New VMs get it.
    Current,
    /// New VMs got it before.
    Former,
    /// It is of no template.
    Unused,
    /// It is not what it was when it was proven.
    Quarantined,
}

impl ImageStatus {
    /// As it is told: `absent`, `current`, `former`, `unused`, `quarantined`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Current => "current",
            Self::Former => "former",
            Self::Unused => "unused",
            Self::Quarantined => "quarantined",
        }
    }
}

/// A template of the catalogue, or a cached image, or both.
#[derive(Debug, Clone)]
pub struct ImageEntry {
    /// What the image is or was the image of, in the catalogue or not.
    pub name: Option<TemplateName>,
    /// That row of the catalogue, if it has one.
    pub template: Option<Template>,
    /// What is cached.
    pub image: Option<CachedImage>,
    /// What it is to the template.
    pub status: ImageStatus,
    /// The VMs that are based on it.
    pub used_by: Vec<VmName>,
    /// The fetch for the template that is under way.
    pub fetching: Option<Fetching>,
}

/// One entry for each template and image: by template, its current image first, images without one last.
pub(super) fn entries(
    catalog: &Catalog,
    images: &[CachedImage],
    fetching: &[Fetching],
    users: &dyn Fn(&Checksum) -> Vec<VmName>,
) -> Vec<ImageEntry> {
    let of = |name: Option<&TemplateName>, image: Option<&CachedImage>, status| ImageEntry {
        name: name.cloned(),
        template: name.and_then(|name| catalog.get(name).ok()).cloned(),
        image: image.cloned(),
        status: match image.map(|image| &image.condition) {
            Some(Condition::Quarantined { .. }) => ImageStatus::Quarantined,
            Some(Condition::Proven) | None => status,
        },
        used_by: image.map(|image| users(&image.checksum)).unwrap_or_default(),
        fetching: None,
    };
    let mut all: Vec<(usize, ImageEntry)> = Vec::new();
    for image in images {
        let current = image.current_of.iter().map(|name| (name, 0, ImageStatus::Current));
        let former = image.former_of.iter().map(|(name, age)| (name, *age, ImageStatus::Former));
        let roles: Vec<_> = current.chain(former).collect();
        if roles.is_empty() {
            all.push((0, of(None, Some(image), ImageStatus::Unused)));
        }
        all.extend(roles.into_iter().map(|(name, age, s)| (age, of(Some(name), Some(image), s))));
    }
    for template in catalog.iter() {
        let current = images.iter().any(|image| image.current_of.contains(&template.name));
        if !current {
            all.push((0, of(Some(&template.name), None, ImageStatus::Absent)));
        }
    }
    all.sort_by(|(a, x), (b, y)| {
        (x.name.is_none(), &x.name, a).cmp(&(y.name.is_none(), &y.name, b))
    });
    let mut entries: Vec<ImageEntry> = all.into_iter().map(|(_, entry)| entry).collect();
    for fetch in fetching {
        let waits =
            |e: &&mut ImageEntry| e.name.as_ref().is_some_and(|n| fetch.templates.contains(n));
        // The first of a template is the one that the fetch is for.
        let mut told: Vec<TemplateName> = Vec::new();
        for entry in entries.iter_mut().filter(waits) {
            let Some(name) = &entry.name else { continue };
            if !told.contains(name) {
                told.push(name.clone());
                entry.fetching = Some(fetch.clone());
            }
        }
    }
    entries
}
