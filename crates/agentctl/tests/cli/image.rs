//! Every verb of `image`, in every format; those that fetch are in [`fetching`].

mod fetching;

use serde_json::Value;

use crate::fake_agent::{FakeAgent, absent, digest, image, progress};
use crate::run::{Outcome, on_socket};

fn run(agent: &FakeAgent, args: &[&str]) -> Outcome {
    on_socket(&agent.socket(), &[&["image"], args].concat())
}

/// Four images, one of them in use, and a template without one.
fn with_images() -> FakeAgent {
    let agent = FakeAgent::on_socket();
    let mut used = image("debian-12", "former", 'b');
    used.used_by = ["web-1", "web-2", "web-3"].map(str::to_owned).to_vec();
    let mut fetching = absent("ubuntu-22.04");
    fetching.progress = Some(progress("ubuntu-22.04", "downloading", 221));
    let mut rotten = image("debian-11", "quarantined", 'c');
    rotten.reason = "its size changed\u{1b}[2J".to_owned();
    let images = vec![
        image("debian-12", "current", 'a'),
        used,
        rotten,
        absent("centos-stream-9"),
        fetching,
        image("", "unused", 'd'),
    ];
    let mut state = agent.state.lock().unwrap();
    state.imaging.images = images;
    state.imaging.limit_bytes = 20 << 30;
    drop(state);
    agent
}

#[test]
fn list_is_a_table_of_what_new_vms_can_have() {
    let shown = run(&with_images(), &["list"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let lines: Vec<&str> = shown.stdout.lines().collect();
    let cells = |line: &str| -> Vec<String> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(
        cells(lines[0]),
        ["TEMPLATE", "STATUS", "SIZE", "DISK", "FETCHED", "USED BY", "DIGEST"]
    );
    let debian = cells(lines[1]);
    assert_eq!(debian[..4], ["debian-12", "current", "512 MiB", "2 GiB"]);
    assert!(debian[4].contains(" d "), "{debian:?}");
    assert_eq!(debian[5..], ["-", "sha256:aaaaaaaaaaaa"]);
    assert_eq!(cells(lines[2])[..2], ["debian-11", "quarantined"]);
    assert_eq!(cells(lines[3]), ["centos-stream-9", "absent", "-", "-", "-", "-", "-"]);
    assert_eq!(cells(lines[4])[..2], ["ubuntu-22.04", "fetching 43 %"]);
    assert_eq!(lines[5], "debian-11: its size changed\u{fffd}[2J");
    assert_eq!(lines[6], "2 GiB on disk, at most 20 GiB; 2 former or unused not shown (--all)");
    assert_eq!(lines.len(), 7);
}

#[test]
fn list_all_has_former_and_unused_ones_too() {
    let shown = run(&with_images(), &["list", "--all"]).stdout;
    assert!(shown.contains("web-1, web-2, +1  sha256:bbbbbbbbbbbb\n"), "{shown}");
    assert!(shown.contains("\n-                unused"), "{shown}");
    assert!(shown.ends_with("2 GiB on disk, at most 20 GiB\n"), "{shown}");
}

#[test]
fn documents_have_every_image_and_every_fact() {
    let agent = with_images();
    let json = run(&agent, &["ls", "-o", "json"]).json();
    assert_eq!(
        (&json["total_bytes"], &json["limit_bytes"]),
        (&(2_i64 << 30).into(), &(20_i64 << 30).into())
    );
    let images = json["images"].as_array().unwrap();
    assert_eq!(images.len(), 6);
    assert_eq!(images[1]["used_by"].as_array().unwrap().len(), 3);
    assert_eq!(images[0]["digest"], digest('a'));
    assert_eq!(
        (&images[0]["proof"], &images[0]["url"]),
        (&"signed".into(), &"https://mirror.example/debian-12.qcow2".into())
    );
    assert_eq!(images[4]["progress"]["stage"], "downloading");
    assert!(images[0].get("progress").is_none() && images[0].get("reason").is_none());
    assert_eq!(images[2]["reason"], "its size changed\u{1b}[2J");
    let yaml = run(&agent, &["list", "-o", "yaml"]).stdout;
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), json);
}

#[test]
fn an_agent_without_images_is_to_be_upgraded() {
    let agent = FakeAgent::on_socket();
    agent.state.lock().unwrap().imaging.is_old = true;
    let run = run(&agent, &["list"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.contains("upgrade the older"), "{run:?}");
}

#[test]
fn remove_says_what_went_and_what_stays_and_why() {
    let agent = with_images();
    let shown = run(&agent, &["remove", "debian-12", "--yes"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert_eq!(
        shown.stdout,
        "removed sha256:aaaaaaaaaaaa\nfreed 512 MiB\n\
         kept sha256:bbbbbbbbbbbb: web-1, web-2, web-3 are based on it\n"
    );
    let json = run(&agent, &["rm", &digest('d')[..19], "-y", "-o", "json"]).json();
    assert_eq!(
        (&json["removed"][0], &json["freed_bytes"]),
        (&digest('d').into(), &(512 << 20).into())
    );
    assert_eq!(json["kept"], Value::Array(vec![]));
    let kept = run(&agent, &["rm", "debian-12", "-y", "-o", "json"]).json();
    assert_eq!(
        (&kept["kept"][0]["digest"], &kept["kept"][0]["used_by"][2]),
        (&digest('b').into(), &"web-3".into())
    );
}

#[test]
fn a_script_must_say_that_it_means_to_remove() {
    let agent = with_images();
    let run = run(&agent, &["remove", "debian-12"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(run.stderr.contains("add --yes if you mean it"), "{run:?}");
    assert!(agent.state.lock().unwrap().imaging.removed.is_empty());
}

#[test]
fn a_removal_that_is_refused_is_told_by_the_agents_words() {
    let agent = with_images();
    for (image, code) in [("nothing", 3), ("wrong-state", 5), ("busy", 5), ("no-libvirt", 7)] {
        let run = run(&agent, &["remove", image, "--yes"]);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{image}: {run:?}");
        assert!(run.stderr.starts_with("error: "), "{run:?}");
    }
}

#[test]
fn verify_shows_each_verdict_and_fails_when_one_is_in_quarantine() {
    let agent = with_images();
    let proven = run(&agent, &["verify", "debian-12"]);
    assert_eq!(proven.code, 0, "{proven:?}");
    let cells: Vec<&str> = proven.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(cells, ["sha256:aaaaaaaaaaaa", "debian-12", "proven", "512", "MiB"]);

    agent.state.lock().unwrap().imaging.rotten = vec![digest('b')];
    let rotten = run(&agent, &["verify", "debian-12"]);
    assert_eq!(rotten.code, 1, "{rotten:?}");
    assert!(rotten.stdout.contains("  quarantined  "), "{rotten:?}");
    assert!(rotten.stdout.ends_with("sha256:bbbbbbbbbbbb: its digest is another\n"), "{rotten:?}");
    let json = run(&agent, &["verify", "-o", "json"]);
    assert_eq!(json.code, 1);
    let verdicts = json.json();
    let status = |n: usize| verdicts[n]["status"].as_str().unwrap().to_owned();
    assert_eq!((status(0), status(1)), ("proven".to_owned(), "quarantined".to_owned()));
    assert_eq!(agent.state.lock().unwrap().imaging.verified, ["debian-12", "debian-12", ""]);
}

#[test]
fn a_verify_that_fails_or_hangs_says_why() {
    let agent = with_images();
    assert_eq!(run(&agent, &["verify", "nothing"]).code, 3);
    assert_eq!(run(&agent, &["verify", "hang", "--timeout", "1s"]).code, 8);
}

#[test]
fn wrong_usage_is_refused_before_anything_is_sent() {
    let agent = with_images();
    for args in [
        ["pull"].as_slice(),
        &["pull", "a", "b"],
        &["remove", "--yes"],
        &["remove", "a", "b", "--yes"],
        &["verify", "a", "b"],
        &["list", "debian-12"],
        &["list", "-o", "xml"],
    ] {
        assert_eq!(run(&agent, args).code, 2, "{args:?}");
    }
    let state = agent.state.lock().unwrap();
    assert_eq!((state.imaging.list_asks, state.imaging.pulled.len()), (0, 0));
}
