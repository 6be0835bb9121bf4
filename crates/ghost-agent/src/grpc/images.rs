//! The images' part of the API. A fetch belongs to the cache: it goes on when the client that asked for it
//! leaves, and its part is kept when the agent ends.

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use ghost_core::application::{ImageEntry, ImageLibrary, ImageRef, ImageStatus};
use ghost_core::domain::validation::Violations;
use ghost_core::domain::{
    AppError, Bytes, Checksum, Condition, Fetching, Proof, Signature, TemplateName, Update,
    shown_url,
};
use ghost_proto::agentpb::{
    ImageInfo, ImageProgress, ListImagesResponse, RemoveImageResponse, VerifiedImage,
    VerifyImageResponse,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

type Told = BoxStream<'static, Result<ImageProgress, AppError>>;

pub(super) async fn list(library: &ImageLibrary) -> Result<ListImagesResponse, AppError> {
    let entries = library.list().await?;
    let mut sizes: Vec<_> =
        entries.iter().filter_map(|e| e.image.as_ref()).map(|i| (&i.checksum, i.size.0)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    Ok(ListImagesResponse {
        total_bytes: bytes(Bytes(sizes.iter().map(|(_, size)| size).sum())),
        limit_bytes: library.retention().limit.map(bytes).unwrap_or_default(),
        images: entries.iter().map(info).collect(),
    })
}

/// Its progress while it is fetched, then the image.
pub(super) fn pull(
    library: Arc<ImageLibrary>,
    template: String,
    closing: CancellationToken,
) -> Told {
    let ended = closing.child_token();
    let mine = template.clone();
    let progress = progress(library.fetching(), ended.clone(), move |fetch| {
        fetch.templates.iter().find(|name| name.as_str() == mine).cloned()
    });
    let work = async move {
        let _ended = ended.drop_guard();
        let before = current(&library, &template).await;
        let digest = library.pull(&template).await?;
        let stage = if before.as_ref() == Some(&digest) { "current" } else { "updated" };
        let (stage, digest) = (stage.to_owned(), digest.to_string());
        Ok(ImageProgress { template, stage, digest, ..ImageProgress::default() })
    };
    stream::select(progress.map(Ok), stream::once(work))
        .take_until(closing.cancelled_owned())
        .boxed()
}

/// What the template's new VMs get without a fetch; nothing if that can't be told.
async fn current(library: &ImageLibrary, template: &str) -> Option<Checksum> {
    let entries = library.list().await.ok()?;
    let is_it = |entry: &ImageEntry| {
        let of = entry.name.as_ref().is_some_and(|name| name.as_str() == template);
        of && entry.status == ImageStatus::Current
    };
    entries.into_iter().find(is_it)?.image.map(|image| image.checksum)
}

/// The progress of each template's fetch, how each ended, and what was removed then.
pub(super) fn update(
    library: Arc<ImageLibrary>,
    templates: Vec<String>,
    closing: CancellationToken,
) -> Told {
    let ended = closing.child_token();
    let named = templates.clone();
    let progress = progress(library.fetching(), ended.clone(), move |fetch| {
        let meant =
            |name: &&TemplateName| named.is_empty() || named.iter().any(|n| n == name.as_str());
        fetch.templates.iter().find(meant).cloned()
    });
    let (tell, told) = mpsc::unbounded_channel();
    let outcomes = stream::unfold(told, |mut told| async { Some((Ok(told.recv().await?), told)) });
    let work = async move {
        let _ended = ended.drop_guard();
        let note = |(name, outcome)| drop(tell.send(updated(&name, outcome)));
        library.update(&templates, &note).await
    };
    let removed = stream::once(work).flat_map(|outcome| match outcome {
        Ok(removed) => stream::iter(removed)
            .map(|(digest, freed)| {
                Ok(ImageProgress {
                    stage: "removed".to_owned(),
                    digest: digest.to_string(),
                    total_bytes: bytes(freed),
                    ..ImageProgress::default()
                })
            })
            .boxed(),
        Err(error) => stream::once(async { Err(error) }).boxed(),
    });
    // What was told about the templates comes before what was removed.
    let outcomes =
        stream::select_with_strategy(outcomes, removed, |(): &mut ()| stream::PollNext::Left);
    stream::select(progress.map(Ok), outcomes).take_until(closing.cancelled_owned()).boxed()
}

fn updated(name: &TemplateName, outcome: Result<Update, AppError>) -> ImageProgress {
    let (stage, digest, message) = match outcome {
        Ok(Update::Current(digest)) => ("current", digest.to_string(), String::new()),
        Ok(Update::New { to, .. }) => ("updated", to.to_string(), String::new()),
        Ok(Update::NotCached) => (
            "failed",
            String::new(),
            format!(
                "it is not cached, so there is nothing to update; fetch it with: agentctl image pull {name}"
            ),
        ),
        Err(error) => ("failed", String::new(), super::call::chain(&error)),
    };
    let (template, stage) = (name.to_string(), stage.to_owned());
    ImageProgress { template, stage, digest, message, ..ImageProgress::default() }
}

pub(super) async fn remove(
    library: &ImageLibrary,
    image: &str,
) -> Result<RemoveImageResponse, AppError> {
    let removal = library.remove(&image_ref(image)?).await?;
    Ok(RemoveImageResponse {
        freed_bytes: bytes(Bytes(removal.removed.iter().map(|(_, freed)| freed.0).sum())),
        removed: removal.removed.iter().map(|(digest, _)| digest.to_string()).collect(),
        kept: removal.kept.iter().map(ToString::to_string).collect(),
    })
}

pub(super) async fn verify(
    library: &ImageLibrary,
    image: &str,
) -> Result<VerifyImageResponse, AppError> {
    let image = if image.is_empty() { None } else { Some(image_ref(image)?) };
    let verified = library.verify(image.as_ref()).await?;
    let images = verified.into_iter().map(|(image, verified)| {
        let former = image.former_of.iter().map(|(name, _)| name);
        let (status, reason) = match verified.condition {
            Condition::Proven => ("proven", String::new()),
            Condition::Quarantined { why } => ("quarantined", why),
        };
        VerifiedImage {
            digest: verified.checksum.to_string(),
            templates: image.current_of.iter().chain(former).map(ToString::to_string).collect(),
            status: status.to_owned(),
            reason,
            read_bytes: bytes(verified.read),
        }
    });
    Ok(VerifyImageResponse { images: images.collect() })
}

fn image_ref(image: &str) -> Result<ImageRef, AppError> {
    let mut wrong = Violations::default();
    let image = wrong.check("image", image.parse());
    wrong.finish(image)
}

fn info(entry: &ImageEntry) -> ImageInfo {
    let template = entry.template.as_ref();
    let mut info = ImageInfo {
        template: entry.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        status: entry.status.as_str().to_owned(),
        url: template.map(|t| shown_url(&t.url)).unwrap_or_default(),
        proof: template.map(|t| proof(&t.proof).to_owned()).unwrap_or_default(),
        default_user: template.map(|t| t.default_user.clone()).unwrap_or_default(),
        used_by: entry.used_by.iter().map(ToString::to_string).collect(),
        ..ImageInfo::default()
    };
    if let Some(image) = &entry.image {
        info.digest = image.checksum.to_string();
        info.size_bytes = bytes(image.size);
        info.disk_bytes = bytes(image.virtual_size);
        info.fetched_at = image.fetched_at.to_string();
        info.used_at = image.used_at.to_string();
        info.verified_at = image.verified_at.to_string();
        if let Condition::Quarantined { why } = &image.condition {
            info.reason.clone_from(why);
        }
    }
    if let (Some(fetch), Some(name)) = (&entry.fetching, &entry.name) {
        info.progress = Some(under_way(name, fetch));
    }
    info
}

const fn proof(proof: &Proof) -> &'static str {
    match proof {
        Proof::Pinned(_) => "pinned",
        Proof::Listed(list) => match list.signature {
            Signature::Unsigned { .. } => "listed",
            Signature::Detached { .. } | Signature::Clearsigned { .. } => "signed",
        },
    }
}

/// What `which` picks of the fetches under way, each time it changed, until `ended`.
fn progress(
    fetching: watch::Receiver<Vec<Fetching>>,
    ended: CancellationToken,
    which: impl Fn(&Fetching) -> Option<TemplateName> + Send + 'static,
) -> impl Stream<Item = ImageProgress> + Send {
    let told = stream::unfold((fetching, which, None), |(mut fetching, which, mut last)| async {
        loop {
            let now = fetching
                .borrow_and_update()
                .iter()
                .find_map(|fetch| which(fetch).map(|name| under_way(&name, fetch)));
            if now.is_some() && now != last {
                last.clone_from(&now);
                return Some((now?, (fetching, which, last)));
            }
            fetching.changed().await.ok()?;
        }
    });
    told.take_until(ended.cancelled_owned())
}

fn under_way(name: &TemplateName, fetch: &Fetching) -> ImageProgress {
    ImageProgress {
        template: name.to_string(),
        stage: fetch.stage.as_str().to_owned(),
        done_bytes: bytes(fetch.done),
        total_bytes: fetch.total.map(bytes).unwrap_or_default(),
        url: fetch.url.clone(),
        ..ImageProgress::default()
    }
}

fn bytes(n: Bytes) -> i64 {
    i64::try_from(n.0).unwrap_or(i64::MAX)
}
