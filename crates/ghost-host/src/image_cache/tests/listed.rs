//! The whole way, with a publisher's folder on this host.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use ghost_core::domain::{HeldImage, Update};
use ghost_core::ports::PortResult;

use super::super::origin::Word;
use super::*;

/// A publisher whose list is signed as `signature` says.
struct Folder {
    rig: Rig,
    template: Template,
    list: PathBuf,
    file: PathBuf,
}

impl Folder {
    fn new(signature: Signature) -> Self {
        let rig = Rig::new();
        let (list, file) = (rig.dir.path().join("SHA256SUMS"), rig.dir.path().join("a.qcow2.gz"));
        let at = |path: &Path| url::Url::from_file_path(path).unwrap();
        let proof = Proof::Listed(Box::new(DigestList {
            url: at(&list),
            format: ListFormat::Gnu,
            algorithm: HashAlgorithm::Sha256,
            file: "a.qcow2.gz".to_owned(),
            signature,
        }));
        let template = Template { url: at(&file), ..template("debian-12", proof) };
        Self { rig, template, list, file }
    }

    fn unsigned() -> Self {
        Self::new(Signature::Unsigned { reason: "for a test".to_owned() })
    }

    fn publish(&self, image: &[u8]) {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(image).unwrap();
        let packed = gzip.finish().unwrap();
        fs::write(&self.list, format!("{}  a.qcow2.gz\n", sha256(&packed).hex())).unwrap();
        fs::write(&self.file, packed).unwrap();
    }

    fn open(&self) -> ImageCache {
        let (limits, clock, no_mirrors) =
            (Limits::default(), self.rig.clock.clone(), Default::default());
        ImageCache::open(&self.rig.images(), limits, no_mirrors, clock).unwrap()
    }

    /// Of the first try.
    async fn outcome(&self) -> PortResult<HeldImage> {
        self.open().ensure_cached(&self.template).await
    }
}

#[tokio::test]
async fn a_packed_image_of_a_publishers_list_is_fetched_unpacked_and_updated() {
    let publisher = Folder::unsigned();
    publisher.publish(&version(1));
    let cache = publisher.open();
    let one = cache.ensure_cached(&publisher.template).await.unwrap().image;
    assert_eq!(fs::read(&one.path).unwrap(), version(1));
    publisher.publish(&version(2));
    let (from, to) = (one.checksum, sha256(&version(2)));
    assert_eq!(cache.update(&publisher.template).await.unwrap(), Update::New { from, to });
    assert_eq!(publisher.rig.names("parts"), Vec::<String>::new());
}

#[tokio::test]
async fn a_list_that_lacks_the_file_or_states_another_digest_brings_nothing() {
    let publisher = Folder::unsigned();
    publisher.publish(&version(1));
    let right = fs::read_to_string(&publisher.list).unwrap();
    let wrong = [
        (
            right.replace("a.qcow2.gz", "b.qcow2.gz"),
            "SHA256SUMS: the list does not name 'a.qcow2.gz'",
        ),
        (format!("{}  a.qcow2.gz\n", "7".repeat(64)), "a.qcow2.gz has the digest"),
        (String::new(), "SHA256SUMS"),
    ];
    for (list, words) in wrong {
        fs::write(&publisher.list, list).unwrap();
        let error = publisher.outcome().await.unwrap_err();
        assert_says(&error, ErrorKind::NetworkUnavailable, words);
        assert_eq!(publisher.rig.cached(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_list_that_is_not_signed_with_the_catalogues_key_brings_nothing() {
    let clearsigned = |key: &str| Signature::Clearsigned { key: key.to_owned() };
    let publisher = Folder::new(clearsigned("rocky-9"));
    publisher.publish(&version(1));
    let error = publisher.outcome().await.unwrap_err();
    assert_says(&error, ErrorKind::NetworkUnavailable, "signature");

    let unknown = Folder::new(clearsigned("nobody"));
    unknown.publish(&version(1));
    let error = unknown.outcome().await.unwrap_err();
    assert_says(
        &error,
        ErrorKind::NetworkUnavailable,
        "the key 'nobody' of the publisher of file:",
    );
    for publisher in [publisher, unknown] {
        assert_eq!(publisher.rig.cached(), Vec::<String>::new());
        assert_eq!(publisher.rig.names("parts"), Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_offer_says_on_whose_word_it_is_and_when_a_list_was_signed() {
    let ubuntu = include_bytes!("../../publisher/fixtures/ubuntu-24.04.SHA256SUMS").as_slice();
    let made = include_bytes!("../../publisher/fixtures/ubuntu-24.04.SHA256SUMS.gpg");
    let fedora = include_bytes!("../../publisher/fixtures/fedora-44-aarch64.CHECKSUM").as_slice();
    let (of_ubuntu, of_fedora) = (
        "ubuntu-24.04-server-cloudimg-amd64.img",
        "Fedora-Cloud-Base-Generic-44-1.7.aarch64.qcow2",
    );
    let signed = |at: &str| Word::Signed(at.parse().unwrap());
    let beside = tempfile::NamedTempFile::new().unwrap();
    fs::write(&beside, made).unwrap();
    let url = url::Url::from_file_path(beside.path()).unwrap();
    let detached = Signature::Detached { url, key: "ubuntu-cloud-images".to_owned() };
    let clearsigned = Signature::Clearsigned { key: "fedora-44".to_owned() };
    let unsigned = Signature::Unsigned { reason: "for a test".to_owned() };
    let cases = [
        (detached, ubuntu, ListFormat::Gnu, of_ubuntu, signed("2026-07-25T22:34:07Z")),
        (clearsigned, fedora, ListFormat::Bsd, of_fedora, signed("2026-04-24T15:34:18Z")),
        (unsigned, ubuntu, ListFormat::Gnu, of_ubuntu, Word::Unsigned),
    ];
    for (signature, text, format, file, word) in cases {
        let mut folder = Folder::new(signature);
        fs::write(&folder.list, text).unwrap();
        let Proof::Listed(list) = &mut folder.template.proof else { panic!("it is listed") };
        (list.format, list.file) = (format, file.to_owned());
        folder.rig.clock.jump(365 * 24 * 60 * 60);
        let clock = folder.rig.clock.clone();
        let publishers = Publishers::new(Limits::default(), Mirrors::default(), clock);
        assert_eq!(publishers.offer(&folder.template).await.unwrap().word, word);
    }
}
