//! Agents that die, parts that others touch.

use super::part::{Opened, Part};
use super::*;

fn half_then_silent(n: usize, asked: &Asked) -> Reply {
    let reply = Reply::ranged(asked, &content(), "\"1\"");
    if n == 0 { reply.cut(HALF).then_silent() } else { reply }
}

/// A rig whose first fetch was dropped in the middle.
async fn rig_with_half(server: &Server) -> Rig {
    let rig = Rig::new(limits());
    let half_came = async {
        while fs::metadata(rig.part()).map_or(0, |part| part.len()) < HALF as u64 {
            tokio::task::yield_now().await;
        }
    };
    let digest = sha256(&content());
    tokio::select! {
        ended = rig.file(&server.url, &digest) => panic!("{ended:?}"),
        () = half_came => {}
    }
    rig
}

#[tokio::test]
async fn an_agent_killed_in_the_middle_goes_on_after_its_start() {
    let name = "an_agent_killed_in_the_middle_goes_on_after_its_start";
    if let Some(given) = alone::given() {
        let (url, parts) = given.split_once(' ').unwrap();
        let fetcher = Fetcher::new(limits(), Arc::<TestClock>::default());
        let url = url.parse().unwrap();
        fetcher.file(&url, &sha256(&content()), Path::new(parts), &|_| {}).await.unwrap();
        return;
    }
    let server = Server::start(half_then_silent);
    let rig = Rig::new(limits());
    let value = format!("{} {}", server.url, rig.parts.path().display());
    let mut agent = alone::command(module_path!(), name, &value).spawn().unwrap();
    while fs::metadata(rig.part()).map_or(0, |part| part.len()) < HALF as u64 {
        assert_eq!(agent.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    agent.kill().unwrap();
    agent.wait().unwrap();

    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(HALF)]);
}

#[tokio::test]
async fn a_part_that_was_tampered_with_is_found_out_and_downloaded_anew() {
    let server = Server::start(half_then_silent);
    let rig = rig_with_half(&server).await;
    let mut bytes = fs::read(rig.part()).unwrap();
    bytes[HALF / 2] ^= 1;
    fs::write(rig.part(), bytes).unwrap();
    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(HALF), None]);
}

#[tokio::test]
async fn a_part_that_grew_beyond_the_file_is_downloaded_anew() {
    let server = Server::start(half_then_silent);
    let rig = rig_with_half(&server).await;
    fs::write(rig.part(), vec![0; LENGTH + 1]).unwrap();
    let refused = Server::start(|_, asked| match asked.offset() {
        Some(_) => Reply::status("416 Range Not Satisfiable"),
        None => Reply::file(&content()),
    });
    rig.content_from(&refused.url).await;
}

#[tokio::test]
async fn a_part_without_its_origin_or_with_nonsense_for_it_is_downloaded_anew() {
    for nonsense in [None, Some("{"), Some("{\"url\":\"x\"}"), Some("[]")] {
        let server = Server::start(half_then_silent);
        let rig = rig_with_half(&server).await;
        let beside = rig.part().with_extension("json");
        match nonsense {
            None => fs::remove_file(beside).unwrap(),
            Some(nonsense) => fs::write(beside, nonsense).unwrap(),
        }
        rig.content_from(&server.url).await;
        assert_eq!(server.offsets(), [None, None], "{nonsense:?}");
    }
}

#[tokio::test]
async fn a_whole_part_is_proven_from_the_disk_without_asking_anyone() {
    let rig = Rig::new(limits());
    fs::write(rig.part(), content()).unwrap();
    let nobody = "http://127.0.0.1:1/a.qcow2";
    rig.content_from(nobody).await;
}

#[tokio::test]
async fn two_agents_do_not_write_to_one_part() {
    let server = Server::start(half_then_silent);
    let rig = rig_with_half(&server).await;
    let open = || Part::open(rig.parts.path(), &sha256(&content()), Bytes(1 << 30)).unwrap();
    let other = loop {
        // The dropped fetch's thread has yet to end.
        if let Opened::Ours(other) = open() {
            break other;
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(open(), Opened::Elsewhere));

    let (other, waited) = (Mutex::new(Some(other)), Mutex::new(Vec::new()));
    let told = |told| {
        if let Told::Waiting { failed } = told {
            waited.lock().unwrap().push(failed);
            other.lock().unwrap().take();
        }
    };
    let url = server.url.parse().unwrap();
    let digest = sha256(&content());
    let file = rig.fetcher.file(&url, &digest, rig.parts.path(), &told).await.unwrap();
    assert_eq!(fs::read(file.path).unwrap(), content());
    let waited = waited.into_inner().unwrap();
    assert_eq!(waited, [format!("another process is downloading {}", server.url)]);
}

#[tokio::test]
async fn a_part_that_another_agent_moved_away_is_not_written_to() {
    let rig = Rig::new(limits());
    let moved = rig.parts.path().join("moved");
    let open = || Part::open(rig.parts.path(), &sha256(&content()), Bytes(1 << 30)).unwrap();
    let Opened::Ours(first) = open() else { panic!("nobody else is at it") };
    fs::rename(rig.part(), &moved).unwrap();
    let Opened::Ours(second) = open() else { panic!("this is a new one") };
    drop((first, second));
    let server = Server::start(|_, _| Reply::file(&content()));
    rig.file(&server.url, &sha256(&content())).await.unwrap();
    assert_eq!(fs::metadata(moved).unwrap().len(), 0);
}

#[tokio::test]
async fn what_is_in_the_parts_place_and_no_file_is_named_and_left_alone() {
    let rig = Rig::new(limits());
    fs::create_dir(rig.part()).unwrap();
    let error = rig.failure_from("http://127.0.0.1:1/a.qcow2").await.to_string();
    assert!(error.contains("it is a folder"), "{error}");
    assert!(rig.part().is_dir());

    let rig = Rig::new(limits());
    let target = rig.parts.path().join("target");
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, rig.part()).unwrap();
    rig.failure_from("http://127.0.0.1:1/a.qcow2").await;
    assert_eq!(fs::read_to_string(target).unwrap(), "precious");
}

#[tokio::test]
async fn a_part_that_somebody_else_makes_longer_meanwhile_is_not_proven() {
    let server = Server::start(|_, _| Reply::file(&content()));
    let rig = Rig::new(limits());
    let whole = Bytes(LENGTH as u64);
    let told = |told| {
        if told == (Told::Downloading { done: whole, total: Some(whole) }) {
            let part = fs::File::options().write(true).open(rig.part()).unwrap();
            part.set_len(whole.0 + 1).unwrap();
        }
    };
    let (url, digest) = (server.url.parse().unwrap(), sha256(&content()));
    let error = rig.fetcher.file(&url, &digest, rig.parts.path(), &told).await.unwrap_err();
    assert!(matches!(error, ImageError::PartChanged { .. }), "{error}");
    assert!(rig.files().is_empty());
}
