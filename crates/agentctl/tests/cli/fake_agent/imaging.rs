//! The images of the fake agent: what is listed is what a test put there; each stream plays the next of
//! the prepared ones, and each verb notes what it was asked.

use std::collections::VecDeque;
use std::pin::Pin;

use ghost_proto::agentpb::{
    ImageInfo, ImageProgress, ListImagesResponse, RemoveImageResponse, VerifiedImage,
    VerifyImageResponse,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Status};

use super::watching::Ending;
use super::{State, error};

/// What PullImage and UpdateImages answer with.
pub(crate) type Told = Pin<Box<dyn Stream<Item = Result<ImageProgress, Status>> + Send>>;

/// What was asked about images, and what is to be answered.
#[derive(Debug, Default)]
pub(crate) struct Imaging {
    pub(crate) images: Vec<ImageInfo>,
    pub(crate) limit_bytes: i64,
    /// An agent of before there were images to be told of.
    pub(crate) is_old: bool,
    pub(crate) list_asks: usize,
    pub(crate) pulled: Vec<String>,
    pub(crate) updated: Vec<Vec<String>>,
    pub(crate) removed: Vec<String>,
    pub(crate) verified: Vec<String>,
    pub(crate) streams: VecDeque<(Vec<ImageProgress>, Ending)>,
    pub(crate) rotten: Vec<String>,
}

/// `sha256:` and 64 times the digit.
pub(crate) fn digest(digit: char) -> String {
    format!("sha256:{}", digit.to_string().repeat(64))
}

/// A cached image of 512 MiB that holds a disk of 2 GiB.
pub(crate) fn image(template: &str, status: &str, digit: char) -> ImageInfo {
    ImageInfo {
        template: template.to_owned(),
        status: status.to_owned(),
        digest: digest(digit),
        size_bytes: 512 << 20,
        disk_bytes: 2 << 30,
        url: format!("https://mirror.example/{template}.qcow2"),
        proof: "signed".to_owned(),
        fetched_at: "2026-01-01T00:00:00Z".to_owned(),
        ..Default::default()
    }
}

/// A template that was never fetched.
pub(crate) fn absent(template: &str) -> ImageInfo {
    ImageInfo { template: template.to_owned(), status: "absent".to_owned(), ..Default::default() }
}

/// So many MiB of 512 at this stage.
pub(crate) fn progress(template: &str, stage: &str, done_mib: i64) -> ImageProgress {
    ImageProgress {
        template: template.to_owned(),
        stage: stage.to_owned(),
        done_bytes: done_mib << 20,
        total_bytes: 512 << 20,
        url: format!("https://mirror.example/{template}.qcow2"),
        ..Default::default()
    }
}

/// The last word on a template.
pub(crate) fn outcome(template: &str, stage: &str, digit: char) -> ImageProgress {
    ImageProgress { digest: digest(digit), ..progress(template, stage, 512) }
}

/// Plays the next stream; without one it ends at once.
pub(super) fn stream(state: &mut State) -> Told {
    let (told, ending) =
        state.imaging.streams.pop_front().unwrap_or_else(|| (Vec::new(), Ending::HangUp));
    let told = tokio_stream::iter(told.into_iter().map(Ok));
    match ending {
        Ending::Open => Box::pin(told.chain(tokio_stream::pending())),
        Ending::HangUp => Box::pin(told),
        Ending::Refuse(status) => Box::pin(told.chain(tokio_stream::once(Err(status)))),
    }
}

pub(super) fn list(state: &mut State) -> Result<ListImagesResponse, Status> {
    state.imaging.list_asks += 1;
    if state.imaging.is_old {
        return Err(Status::unimplemented("unknown method ListImages"));
    }
    let images = state.imaging.images.clone();
    let total_bytes = images.iter().map(|image| image.size_bytes).sum();
    Ok(ListImagesResponse { images, total_bytes, limit_bytes: state.imaging.limit_bytes })
}

/// Is this image the one, or one of those, that was named?
fn is_named(image: &ImageInfo, name: &str) -> bool {
    image.template == name || (name.len() >= 19 && image.digest.starts_with(name))
}

fn nothing_named(name: &str) -> Status {
    error(
        Code::NotFound,
        "NOT_FOUND",
        &format!("there is no image {name}; agentctl image list shows all"),
    )
}

pub(super) fn remove(state: &mut State, name: String) -> Result<RemoveImageResponse, Status> {
    let imaging = &mut state.imaging;
    imaging.removed.push(name.clone());
    let named: Vec<ImageInfo> =
        imaging.images.iter().filter(|image| is_named(image, &name)).cloned().collect();
    let (kept, removed): (Vec<_>, Vec<_>) =
        named.into_iter().partition(|image| !image.used_by.is_empty());
    if kept.is_empty() && removed.is_empty() {
        return Err(nothing_named(&name));
    }
    imaging.images.retain(|image| !removed.contains(image));
    let digests = |images: Vec<ImageInfo>| images.into_iter().map(|image| image.digest).collect();
    let freed_bytes = removed.iter().map(|image| image.size_bytes).sum();
    Ok(RemoveImageResponse { removed: digests(removed), freed_bytes, kept: digests(kept) })
}

pub(super) fn verify(state: &mut State, name: String) -> Result<VerifyImageResponse, Status> {
    let imaging = &mut state.imaging;
    imaging.verified.push(name.clone());
    let verdict = |image: &ImageInfo| {
        let rotten = imaging.rotten.contains(&image.digest);
        VerifiedImage {
            digest: image.digest.clone(),
            templates: vec![image.template.clone()],
            status: if rotten { "quarantined" } else { "proven" }.to_owned(),
            reason: if rotten { "its digest is another".to_owned() } else { String::new() },
            read_bytes: image.size_bytes,
        }
    };
    let named = |image: &&ImageInfo| name.is_empty() || is_named(image, &name);
    let images: Vec<_> = imaging.images.iter().filter(named).map(verdict).collect();
    match images.as_slice() {
        [] if !name.is_empty() => Err(nothing_named(&name)),
        [..] => Ok(VerifyImageResponse { images }),
    }
}
