//! The bundle under attack: secrets in every source, parts that hang, callers that leave.

use std::collections::BTreeMap;
use std::sync::mpsc;

use futures_util::stream::StreamExt as _;
use ghost_proto::agentpb::DebugFile;

use super::*;

const KEY: &str = "enrol-me-4711";
const PASSWORD: &str = "hunter2-Zq9";

fn collector(parts: Vec<Part>) -> Collector {
    Collector::new(parts, Arc::new(|| vec![KEY.to_owned()]), CancellationToken::new())
}

fn sheets(name: &'static str, sheets: Vec<Sheet>) -> Part {
    Part::reading(name, move || Ok(sheets.clone()))
}

async fn pieces(collector: &Collector) -> Vec<DebugFile> {
    let told = collector.collect(100).unwrap().told();
    told.map(Result::unwrap).collect().await
}

async fn files(collector: &Collector) -> BTreeMap<String, String> {
    let mut files = BTreeMap::<String, String>::new();
    for piece in pieces(collector).await {
        files.entry(piece.name).or_default().push_str(&String::from_utf8(piece.content).unwrap());
    }
    files
}

#[tokio::test]
async fn no_planted_secret_leaves() {
    let padding = "{\"message\":\"x\"}\n".repeat(3800);
    let log = format!(
        "{padding}{{\"message\":\"-----BEGIN PRIVATE KEY-----\\n{PASSWORD}{}\\n-----END PRIVATE KEY-----\"}}\n\
         {{\"message\":\"enrols with {KEY}\",\"user_data\":\"#cloud-config\\npassword: {PASSWORD}\"}}\n",
        "A".repeat(4000)
    );
    let config = format!("images:\n  mirrors: [\"https://a/=https://me:{PASSWORD}@b/\"]\n");
    let parts = vec![
        sheets("config", vec![Sheet::new("agent/config.txt", config)]),
        Part::log(move |_| Ok(vec![Sheet::log("agent/log.jsonl", log.clone())])),
        sheets("names", vec![Sheet::new(format!("x/{KEY}\u{1b}[2J"), "\u{1b}]0;title\u{7}")]),
        Part::reading("trouble", || Err(format!("https://u:{PASSWORD}@host is away\n{KEY}"))),
    ];
    let files = files(&collector(parts)).await;
    let all = format!("{files:?}");
    for secret in [KEY, PASSWORD, "AAAAAAAA", "\\u{1b}"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
    assert_eq!(files["agent/config.txt"], "images:\n  mirrors: [\"https://███@b/\"]\n");
    assert!(files["agent/log.jsonl"].contains("enrols with ███\",\"user_data\":\"███\"}\n"));
    assert_eq!(files["agent/errors.txt"], "trouble: https://███@host is away ███\n");
}

#[tokio::test]
async fn pieces_are_small_and_those_of_a_file_come_one_after_another() {
    let big = |name: &'static str| sheets(name, vec![Sheet::new(name, "ä\n".repeat(100_000))]);
    let pieces =
        pieces(&collector(vec![big("a"), big("b"), sheets("e", vec![Sheet::new("e", "")])])).await;
    assert!(pieces.iter().all(|piece| piece.content.len() <= 64 * 1024));
    let mut order: Vec<_> = pieces.iter().map(|piece| piece.name.as_str()).collect();
    order.dedup();
    order.sort_unstable();
    assert_eq!(order, ["a", "agent/errors.txt", "b", "e"], "each name in one run");
}

#[tokio::test]
async fn a_part_that_hangs_costs_its_own_files_only_and_is_not_begun_again() {
    let (hangs, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let hanging = Part::reading("the disk", move || {
        let _hung = released.lock().map(|released| released.recv());
        Ok(Vec::new())
    });
    let silent = Part::asking("libvirt", || std::future::pending().boxed());
    let fine = sheets("ok", vec![Sheet::new("ok.txt", "fine\n")]);
    let mut collector = collector(vec![hanging, silent, fine]);
    collector.limit = Duration::from_millis(500);
    let first = files(&collector).await;
    assert_eq!(first["ok.txt"], "fine\n");
    let missing = &first["agent/errors.txt"];
    assert!(missing.contains("the disk: did not answer within 0.5 s\n"), "{missing}");
    assert!(missing.contains("libvirt: did not answer within 0.5 s\n"), "{missing}");
    let second = files(&collector).await;
    assert!(second["agent/errors.txt"].contains("the disk: still hangs since an earlier bundle\n"));
    drop(hangs);
}

#[tokio::test]
async fn a_part_that_panics_is_a_line_and_no_end() {
    let parts = vec![
        Part::reading("bad", || panic!("at the disco")),
        sheets("ok", vec![Sheet::new("ok.txt", "fine\n")]),
    ];
    let files = files(&collector(parts)).await;
    assert_eq!(files["ok.txt"], "fine\n");
    assert!(files["agent/errors.txt"].starts_with("bad: failed: "), "{files:?}");
}

#[tokio::test]
async fn one_bundle_at_a_time_and_who_leaves_makes_room() {
    let collector = collector(vec![Part::asking("silent", || std::future::pending().boxed())]);
    let told = collector.collect(1).unwrap().told();
    let refused = collector.collect(1).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    drop(told);
    until_there_is_room(&collector).await;
}

async fn until_there_is_room(collector: &Collector) {
    let room = async {
        while collector.collect(1).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), room).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_keeps_no_turn_and_is_told_that_it_is_not_all() {
    let collector = collector(vec![sheets("big", vec![Sheet::new("big", "x\n".repeat(3 << 20))])]);
    let mut told = collector.collect(1).unwrap().told();
    assert!(told.next().await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_secs(121)).await;
    until_there_is_room(&collector).await;
    let rest: Vec<_> = told.collect().await;
    assert!(rest.len() < 40, "{} pieces were kept", rest.len());
    assert_eq!(rest.last().unwrap().as_ref().unwrap_err().kind(), ErrorKind::Busy);
}

#[tokio::test]
async fn an_agent_that_closes_ends_it() {
    let closing = CancellationToken::new();
    let silent = Part::asking("silent", || std::future::pending().boxed());
    let collector = Collector::new(vec![silent], Arc::new(Vec::new), closing.clone());
    let mut told = collector.collect(1).unwrap().told();
    closing.cancel();
    let error = told.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShuttingDown);
    assert!(told.next().await.is_none());
}

#[tokio::test]
async fn a_file_and_a_bundle_have_an_end() {
    let sheet = |name| Sheet::log(name, format!("first {name}\n{}last\n", "x\n".repeat(5 << 20)));
    let names = ["a", "b", "c", "d", "e"];
    let parts =
        names.map(|name| Part::asking(name, move || async move { Ok(vec![sheet(name)]) }.boxed()));
    let files = files(&collector(parts.into())).await;
    let sizes: usize = files.values().map(String::len).sum();
    assert!(sizes <= (32 << 20) + 4096, "{sizes}");
    let whole = files.iter().filter(|(name, _)| names.contains(&name.as_str()));
    assert!(whole.clone().all(|(_, text)| text.ends_with("x\nlast\n") && text.starts_with('[')));
    assert_eq!(whole.count(), 3, "the bundle is full then");
    assert!(files["agent/errors.txt"].contains("left out, because the bundle is full"));
}

#[test]
fn labels_leave_the_ledger_as_their_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let id = "0190b5c6-7a1e-7d2c-9f00-0123456789ab";
    let record = format!(
        "{{\"id\":\"{id}\",\"request_id\":\"r-1\",\"metadata\":{{\"mail\":\"me@home\"}},\"next\":{{\"labels\":[\"me@home\"]}}}}"
    );
    std::fs::write(folder.path().join(format!("{id}.json")), record).unwrap();
    std::fs::write(folder.path().join("other\u{1b}.json"), "me@home").unwrap();
    let damaged = "0190b5c6-7a1e-7d2c-9f00-0123456789ac.json";
    std::fs::write(folder.path().join(damaged), "{\"metadata\":{\"mail\":\"me@home\"").unwrap();
    let sheets = vms::ledger(folder.path()).unwrap();
    let text: String =
        sheets.iter().map(|sheet| format!("{}\n{}\n", sheet.name, sheet.text)).collect();
    assert!(!text.contains("me@home"), "{text}");
    assert!(
        text.contains("\"mail\": \"[7 bytes]\"") && text.contains("\"request_id\": \"r-1\""),
        "{text}"
    );
    assert!(
        text.contains("ledger/others.txt\nother\\u{1b}.json\n")
            && text.contains("bytes that are no JSON")
    );
}

#[test]
fn a_certificate_is_described_and_its_key_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["agent.test".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("cert"), certificate.pem()).unwrap();
    std::fs::write(path("key"), key.serialize_pem()).unwrap();
    let files = crate::config::TlsFiles { cert: path("cert"), key: path("key"), ca: path("none") };
    let sheets = certificates::facts(&files).unwrap();
    let text = &sheets[0].text;
    assert!(
        text.contains("agent.test; from ")
            && text.contains("grpc.tls_ca: ")
            && text.contains("error: "),
        "{text}"
    );
    assert!(text.contains("mode 644, owner ") && !text.contains("BEGIN"), "{text}");
}
