//! The level at run time.

use super::super::level::LevelNow;
use super::*;

fn say() {
    tracing::debug!("debug");
    tracing::info!("info");
    tracing::error!("error");
    tracing::info!(target: "h2::client", "a library's");
    tracing::debug!(target: "hyper", "a library's");
    tracing::warn!(target: "rustls", "a library warns");
}

fn messages(rig: &Rig) -> Vec<String> {
    rig.lines().iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_level_that_is_set_for_a_time_ends_by_itself_and_both_are_told() {
    let rig = Rig::new(|_| {});
    say();
    rig.log.set_level(Some(LogLevel::Debug), Some(Duration::from_secs(600)));
    say();
    let now = rig.log.level();
    assert_eq!((now.level, now.configured), (LogLevel::Debug, LogLevel::Info));
    assert_eq!(now.until.unwrap().to_string()[..16], *"2026-01-01T00:10");
    rig.log.keep_level().await;
    let back = LevelNow { level: LogLevel::Info, configured: LogLevel::Info, until: None };
    assert_eq!(rig.log.level(), back);
    say();
    let once = ["info", "error", "a library warns"];
    let set = "the level of the log was set";
    let over = "the level of the log is the configuration's again";
    let all = [&once[..], &[set, "debug"], &once, &[over], &once].concat();
    assert_eq!(messages(&rig), all);
}

#[tokio::test(start_paused = true)]
async fn a_later_setting_takes_the_place_of_an_earlier_one_and_of_its_end() {
    let rig = Rig::new(|_| {});
    rig.log.set_level(Some(LogLevel::Debug), Some(Duration::from_secs(600)));
    let log = rig.log.clone();
    let over = async { log.keep_level().await };
    let change = async {
        rig.log.set_level(Some(LogLevel::Error), Some(Duration::from_secs(3600)));
        tokio::time::sleep(Duration::from_secs(700)).await;
        assert_eq!(rig.log.level().level, LogLevel::Error);
        rig.log.set_level(Some(LogLevel::Warn), None);
        assert_eq!(rig.log.level().until, None);
        tokio::time::sleep(Duration::from_secs(86_400)).await;
    };
    tokio::select! {
        () = over => panic!("what holds until the agent ends has ended"),
        () = change => {}
    }
    rig.log.set_level(None, None);
    assert_eq!(rig.log.level().level, LogLevel::Info);
}

#[tokio::test]
async fn a_change_is_told_and_a_line_has_its_spans_fields_whatever_the_level() {
    let rig = Rig::new(|logging| logging.level = LogLevel::Error);
    let span = tracing::info_span!("call", request_id = "r-1");
    span.in_scope(|| {
        rig.log.set_level(Some(LogLevel::Error), None);
        say();
    });
    assert_eq!(messages(&rig), ["the level of the log was set", "error"]);
    assert!(rig.lines().iter().all(|line| line["request_id"] == "r-1"), "{:?}", rig.lines());
}
