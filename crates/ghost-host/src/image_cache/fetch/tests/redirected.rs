//! Servers that send elsewhere.

use super::*;

#[tokio::test]
async fn a_redirect_is_followed_and_says_nothing_of_where_we_come_from() {
    let target = Server::start(|n, asked| {
        let reply = Reply::ranged(asked, &content(), "\"1\"");
        if n == 0 { reply.cut(HALF) } else { reply }
    });
    let to = target.url.clone();
    let server = Server::start(move |_, _| Reply::redirect(&to));
    let rig = Rig::new(limits());
    let url = server.url.replace("http://", "http://me:secret@");
    let file = rig.content_from(&url).await;
    assert_eq!(file.shown, server.url);
    assert_eq!(target.offsets(), [None, Some(HALF)]);
    assert_eq!(server.asked()[0].header("authorization"), Some("Basic bWU6c2VjcmV0"));
    for asked in target.asked() {
        assert_eq!((asked.header("authorization"), asked.header("referer")), (None, None));
    }
}

#[tokio::test]
async fn the_same_host_keeps_its_password_on_the_way() {
    let server = Server::start(|n, _| match n {
        0 => Reply::redirect("/moved"),
        _ => Reply::file(&content()),
    });
    let rig = Rig::new(limits());
    rig.content_from(&server.url.replace("http://", "http://me:secret@")).await;
    let asked = server.asked();
    assert_eq!(
        (asked[1].path(), asked[1].header("authorization")),
        ("/moved", Some("Basic bWU6c2VjcmV0"))
    );
}

#[tokio::test]
async fn a_loop_of_redirects_is_left_at_once_and_for_good() {
    let server = Server::start(|_, asked| match asked.path() {
        "/a.qcow2" => Reply::redirect("/b"),
        _ => Reply::redirect("/a.qcow2"),
    });
    let rig = Rig::new(limits());
    let error = rig.failure_from(&server.url).await.to_string();
    let b = server.at("/b");
    assert_eq!(error, format!("{b} redirects in a loop, again to {}", server.url));
    assert_eq!((server.asked().len(), rig.waits()), (2, 0));
}

#[tokio::test]
async fn an_endless_way_is_left_after_ten_redirects() {
    let server = Server::start(|n, _| Reply::redirect(&format!("/{n}")));
    let rig = Rig::new(limits());
    let error = rig.failure_from(&server.url).await.to_string();
    assert!(error.contains("redirects more than 10 times"), "{error}");
    assert_eq!(server.asked().len(), 11);

    let short = Server::start(|n, _| match n {
        0..10 => Reply::redirect(&format!("/{n}")),
        _ => Reply::file(&content()),
    });
    rig.content_from(&short.url).await;
}

#[tokio::test]
async fn a_redirect_to_nowhere_or_out_of_the_web_is_refused() {
    let server = Server::start(|_, asked| match asked.path() {
        "/a.qcow2" => Reply::status("302 Found"),
        _ => Reply::redirect("file:///etc/hostname"),
    });
    let rig = Rig::new(limits());
    let error = rig.failure_from(&server.url).await.to_string();
    assert!(error.ends_with("redirects without saying where to"), "{error}");
    let error = rig.fetcher.document(&server.at("/file")).await.unwrap_err().to_string();
    assert!(error.ends_with("file:///etc/hostname, which is neither http nor https"), "{error}");
}
