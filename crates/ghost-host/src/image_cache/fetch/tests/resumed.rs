//! Parts that are gone on with, or not.

use super::*;

const DATE: &str = "Wed, 21 Oct 2026 12:00:00 GMT";

/// Cuts the first answer off in the middle.
fn cut_first(n: usize, reply: Reply) -> Reply {
    if n == 0 { reply.cut(HALF) } else { reply }
}

#[tokio::test]
async fn a_body_that_ends_early_is_gone_on_with_where_it_ended() {
    let server = Server::start(|n, asked| cut_first(n, Reply::ranged(asked, &content(), "\"1\"")));
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(HALF)]);
    assert_eq!(rig.waits(), 1);
    let again = Told::Downloading { done: Bytes(HALF as u64), total: Some(Bytes(LENGTH as u64)) };
    assert!(rig.told.lock().unwrap().contains(&again));
}

#[tokio::test]
async fn a_date_will_do_where_there_is_no_tag() {
    let server = Server::start(|n, asked| match n {
        0 => Reply::file(&content()).with(&format!("Last-Modified: {DATE}")).cut(HALF),
        _ => Reply::ranged(asked, &content(), DATE),
    });
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(HALF)]);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_sends_all_of_it_again() {
    let server = Server::start(|n, _| cut_first(n, Reply::file(&content()).with("ETag: \"1\"")));
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(HALF)]);
}

#[tokio::test]
async fn a_weak_tag_is_nothing_to_go_on_with() {
    let server = Server::start(|n, _| {
        let dated = Reply::file(&content()).with(&format!("Last-Modified: {DATE}"));
        cut_first(n, dated.with("ETag: W/\"1\""))
    });
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, None]);
}

#[tokio::test]
async fn content_that_changed_between_two_ranges_is_asked_for_anew() {
    let server = Server::start(|n, asked| match n {
        0 => Reply::ranged(asked, &vec![b'o'; LENGTH], "\"old\"").cut(HALF),
        _ => Reply::ranged(asked, &content(), "\"new\""),
    });
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!(server.asked()[1].header("if-range"), Some("\"old\""));
}

#[tokio::test]
async fn content_that_changed_behind_the_same_tag_is_found_out_and_asked_for_anew_once() {
    let server = Server::start(|n, asked| match n {
        0 => Reply::ranged(asked, &vec![b'o'; LENGTH], "\"1\"").cut(HALF),
        _ => Reply::ranged(asked, &content(), "\"1\""),
    });
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(HALF), None]);

    let never =
        Server::start(|n, asked| cut_first(n, Reply::ranged(asked, &vec![b'o'; LENGTH], "\"1\"")));
    let rig = Rig::new(limits());
    let error = rig.failure_from(&never.url).await;
    assert!(matches!(error, ImageError::WrongChecksum { .. }), "{error}");
    assert_eq!(never.offsets(), [None, Some(HALF), None]);
    assert!(rig.files().is_empty());
}

#[tokio::test]
async fn a_server_that_cannot_give_the_range_is_asked_for_all() {
    let server = Server::start(|n, asked| match asked.offset() {
        Some(_) => Reply::status("416 Range Not Satisfiable").with("Content-Range: bytes */10"),
        None => cut_first(n, Reply::ranged(asked, &content(), "\"1\"")),
    });
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(HALF), None]);
    assert_eq!(rig.waits(), 1);
}

#[tokio::test]
async fn another_range_than_the_one_asked_for_is_not_put_behind_the_part() {
    let server = Server::start(|n, asked| match asked.offset() {
        Some(_) => {
            let last = LENGTH - 1;
            let range = format!("Content-Range: bytes 0-{last}/{LENGTH}");
            Reply::file(&content()).with(&range).partial()
        }
        None => cut_first(n, Reply::ranged(asked, &content(), "\"1\"")),
    });
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!(server.offsets(), [None, Some(HALF), None]);
    assert_eq!(rig.waits(), 1, "the whole was asked for at once");
}

#[tokio::test]
async fn a_body_whose_last_byte_came_but_not_its_end_is_whole() {
    let server = Server::start(|_, _| Reply::file(&content()).announced(LENGTH + 1));
    let rig = Rig::new(limits());
    rig.content_from(&server.url).await;
    assert_eq!((server.asked().len(), rig.waits()), (1, 0));
}
