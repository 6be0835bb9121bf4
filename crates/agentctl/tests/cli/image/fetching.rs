//! `image pull` and `image update`: told as they go, and ended as they should.

use serde_json::Value;
use tonic::Code;

use super::{run, with_images};
use crate::fake_agent::{Ending, FakeAgent, ImageProgress, digest, error, outcome, progress};
use crate::run::BINARY;
use crate::running::Running;

fn play(agent: &FakeAgent, told: Vec<ImageProgress>, ending: Ending) {
    agent.state.lock().unwrap().imaging.streams.push_back((told, ending));
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn pull_tells_each_stage_as_a_line_and_ends_with_the_digest() {
    let agent = FakeAgent::on_socket();
    let mut evil = progress("debian-12", "waiting", 0);
    evil.message = "503\u{1b}[2J\nagain".to_owned();
    let told = vec![
        progress("debian-12", "asking", 0),
        progress("debian-12", "downloading", 0),
        progress("debian-12", "downloading", 1),
        evil,
        progress("debian-12", "downloading", 221),
        progress("debian-12", "unpacking", 0),
        outcome("debian-12", "updated", 'a'),
    ];
    play(&agent, told, Ending::HangUp);
    let run = run(&agent, &["pull", "debian-12"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.stdout, format!("debian-12: cached now, {}\n", digest('a')));
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(
        lines,
        [
            "debian-12: asking the publisher",
            "debian-12: downloading https://mirror.example/debian-12.qcow2, 0 % of 512 MiB",
            "debian-12: waiting to try again (503\u{fffd}[2J\u{fffd}again)",
            "debian-12: downloading https://mirror.example/debian-12.qcow2, 43 % of 512 MiB",
            "debian-12: unpacking, 0 % of 512 MiB",
        ]
    );
    assert_eq!(agent.state.lock().unwrap().imaging.pulled, ["debian-12"]);
}

#[test]
fn pull_of_a_cached_image_says_so() {
    let agent = FakeAgent::on_socket();
    play(&agent, vec![outcome("debian-12", "current", 'a')], Ending::HangUp);
    let run = run(&agent, &["pull", "debian-12"]);
    assert_eq!(run.stdout, format!("debian-12: cached already, {}\n", digest('a')));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}

#[test]
fn pull_as_json_is_one_object_an_event() {
    let agent = FakeAgent::on_socket();
    let told = || vec![progress("a\nb", "downloading", 1), outcome("a\nb", "updated", 'a')];
    play(&agent, told(), Ending::HangUp);
    let json = run(&agent, &["pull", "debian-12", "-o", "json"]);
    assert_eq!((json.code, json.stderr.as_str()), (0, ""), "{json:?}");
    let events = json_lines(&json.stdout);
    assert_eq!(events.len(), 2);
    assert_eq!(
        (&events[0]["template"], &events[0]["done_bytes"]),
        (&"a\nb".into(), &(1 << 20).into())
    );
    assert_eq!(
        (&events[1]["stage"], &events[1]["digest"]),
        (&"updated".into(), &digest('a').into())
    );
    let time: Result<jiff::Timestamp, _> = events[0]["time"].as_str().unwrap().parse();
    assert!(time.is_ok(), "{events:?}");
    play(&agent, told(), Ending::HangUp);
    let yaml = run(&agent, &["pull", "debian-12", "-o", "yaml"]).stdout;
    assert_eq!(yaml.matches("---\n").count(), 2, "{yaml}");
}

#[test]
fn a_pull_that_fails_is_told_by_the_agents_words_and_exit_code() {
    let agent = FakeAgent::on_socket();
    let refused = error(Code::InvalidArgument, "VALIDATION_ERROR", "'windows' is unknown");
    play(&agent, vec![], Ending::Refuse(refused));
    let unknown = run(&agent, &["pull", "windows"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (4, ""));
    assert_eq!(unknown.stderr, "error: 'windows' is unknown\n");

    let mut failed = outcome("debian-12", "failed", ' ');
    failed.message = "the server says 404; correct the url".to_owned();
    play(&agent, vec![failed.clone()], Ending::HangUp);
    let gone = run(&agent, &["pull", "debian-12"]);
    assert_eq!((gone.code, gone.stdout.as_str()), (1, ""));
    assert_eq!(gone.stderr, "error: debian-12: the server says 404; correct the url\n");
    play(&agent, vec![failed], Ending::HangUp);
    let json = run(&agent, &["pull", "debian-12", "-o", "json"]);
    assert_eq!(json_lines(&json.stdout)[0]["stage"], "failed");
    assert_eq!(json.error_json()["exit_code"], 1);

    assert_eq!(run(&agent, &["pull", "full"]).code, 6);
    assert_eq!(run(&agent, &["pull", "foreign"]).code, 9);
}

#[test]
fn a_pull_without_an_outcome_is_no_success() {
    let agent = FakeAgent::on_socket();
    play(&agent, vec![progress("debian-12", "downloading", 1)], Ending::HangUp);
    let run = run(&agent, &["pull", "debian-12"]);
    assert_eq!((run.code, run.stdout.as_str()), (7, ""), "{run:?}");
    assert!(run.stderr.contains("hung up"), "{run:?}");
}

#[test]
fn a_connection_that_breaks_says_that_the_agent_may_go_on() {
    let agent = FakeAgent::on_socket();
    play(&agent, vec![progress("debian-12", "downloading", 1)], Ending::Open);
    let pull = Running::start(&agent, &["image", "pull", "debian-12"], &[]);
    assert!(pull.remark().contains("downloading"));
    agent.state.lock().unwrap().watching.cut();
    let (_, err, code) = pull.end();
    assert_eq!(code, Some(7), "{err:?}");
    assert!(err[0].contains("may go on fetching: see agentctl image list"), "{err:?}");
}

#[test]
fn ctrl_c_leaves_the_agent_fetching_and_says_so() {
    for args in [["image", "pull", "debian-12"].as_slice(), &["image", "update"]] {
        let agent = FakeAgent::on_socket();
        play(&agent, vec![progress("debian-12", "downloading", 1)], Ending::Open);
        let running = Running::start(&agent, args, &[]);
        assert!(running.remark().contains("downloading"));
        running.interrupt();
        let (out, err, code) = running.end();
        assert_eq!((out.len(), code), (0, Some(1)), "{err:?}");
        assert_eq!(
            err,
            ["error: interrupted; the agent goes on fetching; see agentctl image list"]
        );
    }
}

#[test]
fn a_pull_that_takes_too_long_ends_with_the_timeout() {
    let agent = FakeAgent::on_socket();
    play(&agent, vec![progress("debian-12", "downloading", 1)], Ending::Open);
    let run = run(&agent, &["pull", "debian-12", "--timeout", "1s"]);
    assert_eq!(run.code, 8, "{run:?}");
    assert!(run.stderr.contains("no answer in 1 s; the agent goes on fetching"), "{run:?}");
}

/// Without a reader the end without an outcome is not even seen.
#[test]
fn a_reader_that_hangs_up_ends_the_pull() {
    let agent = FakeAgent::on_socket();
    play(&agent, vec![progress("debian-12", "downloading", 1)], Ending::HangUp);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = std::process::Command::new(BINARY)
        .args(["--socket", agent.socket().to_str().unwrap(), "image", "pull", "t", "-o", "json"])
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn update_tells_each_template_and_what_was_removed() {
    let agent = with_images();
    let mut failed = outcome("debian-11", "failed", ' ');
    failed.message = "no answer; try later".to_owned();
    let told = vec![
        progress("debian-12", "downloading", 0),
        outcome("debian-12", "updated", 'e'),
        failed,
        outcome("centos-stream-9", "current", 'f'),
        outcome("", "removed", 'd'),
    ];
    play(&agent, told.clone(), Ending::HangUp);
    let shown = run(&agent, &["update", "debian-12", "debian-11"]);
    assert_eq!(shown.code, 1, "{shown:?}");
    assert_eq!(
        shown.stdout,
        "debian-12: updated sha256:aaaaaaaaaaaa -> sha256:eeeeeeeeeeee\n\
         debian-11: failed: no answer; try later\n\
         centos-stream-9: current sha256:ffffffffffff\n\
         removed sha256:dddddddddddd, freed 512 MiB\n"
    );
    assert_eq!(agent.state.lock().unwrap().imaging.updated, [["debian-12", "debian-11"]]);

    play(&agent, told, Ending::HangUp);
    let json = run(&agent, &["update", "-o", "json"]);
    let events = json_lines(&json.stdout);
    assert_eq!((json.code, events.len()), (1, 5));
    assert_eq!(
        (&events[1]["from"], &events[1]["digest"]),
        (&digest('a').into(), &digest('e').into())
    );
    assert!(events[3].get("from").is_none(), "{events:?}");
}

#[test]
fn an_update_of_which_nothing_failed_is_a_success() {
    let agent = with_images();
    play(&agent, vec![outcome("debian-12", "current", 'a')], Ending::HangUp);
    let current = run(&agent, &["update"]);
    assert_eq!((current.code, current.stderr.as_str()), (0, ""), "{current:?}");
    play(&agent, vec![], Ending::HangUp);
    let nothing = run(&agent, &["update"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""));
    assert!(nothing.stderr.starts_with("no template is cached yet"), "{nothing:?}");
    play(
        &agent,
        vec![outcome("a", "current", 'a')],
        Ending::Refuse(error(Code::Internal, "INTERNAL_ERROR", "x")),
    );
    assert_eq!(run(&agent, &["update"]).code, 1);
}
