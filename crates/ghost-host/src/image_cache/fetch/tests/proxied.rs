//! Proxies that the environment names.

use super::*;

const PUBLISHED: &str = "http://images.invalid/a.qcow2";

#[tokio::test]
async fn the_proxy_of_the_environment_is_asked_but_never_for_this_host() {
    let name = "the_proxy_of_the_environment_is_asked_but_never_for_this_host";
    if let Some(local) = alone::given() {
        let rig = Rig::new(limits());
        rig.content_from(PUBLISHED).await;
        Rig::new(limits()).content_from(&local).await;
        let none = Rig::new(Limits { attempts: 1, ..limits() });
        let error = none.failure_from("http://other.invalid/a.qcow2").await;
        assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
        return;
    }
    let proxy = Server::start(|_, _| Reply::file(&content()));
    let direct = Server::start(|_, _| Reply::file(&content()));
    let mut command = alone::command(module_path!(), name, &direct.url);
    command.env("http_proxy", proxy.url.trim_end_matches("/a.qcow2"));
    command.env("no_proxy", "other.invalid");
    alone::assert_passed(&command.output().unwrap());
    let targets = |server: &Server| -> Vec<String> {
        server.asked().into_iter().map(|asked| asked.target).collect()
    };
    assert_eq!(targets(&proxy), [PUBLISHED]);
    assert_eq!(targets(&direct), ["/a.qcow2"]);
}
