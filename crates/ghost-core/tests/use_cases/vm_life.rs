//! What the use cases promise when nothing fails.

use std::time::Duration;

use crate::rig::{Rig, by_name};
use ghost_core::application::{Limits, OnAddressTimeout, PageRequest, StopMode};
use ghost_core::domain::{Bytes, ErrorKind, Gib, OffCause, PowerState, Sighting, VmRef, VmStatus};
use ghost_core::ports::Clock as _;
use ghost_core::testing::{Guest, samples};

#[tokio::test(start_paused = true)]
async fn a_created_vm_runs_at_its_address() {
    let rig = Rig::new();
    let created = rig.vm("web").await.unwrap();
    let view = rig.status.run(&VmRef::Id(created.id)).unwrap();
    assert_eq!((created.status, view.status), (VmStatus::Running, VmStatus::Running));
    assert_eq!(view.record.address, created.address);
    assert!(created.address.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_vm_leaves_nothing() {
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    rig.assert_nothing_left();
    assert_eq!(
        rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test(start_paused = true)]
async fn stop_then_start_keeps_the_address() {
    let rig = Rig::new();
    let _watch = rig.watch();
    let created = rig.vm("web").await.unwrap();
    let stopped =
        rig.stop.run(&by_name("web"), StopMode::Graceful, &samples::origin("r")).await.unwrap();
    assert_eq!((stopped.note, rig.status_of("web")), (None, Some("stopped")));
    let started = rig.start.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    assert_eq!((started.note, rig.status_of("web")), (None, Some("running")));
    assert_eq!(rig.status.run(&by_name("web")).unwrap().record.address, created.address);
}

#[tokio::test(start_paused = true)]
async fn stopping_a_stopped_vm_and_starting_a_running_one_change_nothing() {
    let rig = Rig::new();
    let _watch = rig.watch();
    rig.vm("web").await.unwrap();
    let before = rig.world.faults.calls().len();
    rig.start.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    assert_eq!(rig.world.faults.calls().len(), before);
    rig.stop.run(&by_name("web"), StopMode::Force, &samples::origin("r")).await.unwrap();
    rig.stop.run(&by_name("web"), StopMode::Graceful, &samples::origin("r")).await.unwrap();
    assert!(!rig.world.faults.calls().contains(&"ask_to_power_off"));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_ignores_the_question_is_cut_off_after_the_limit() {
    let rig = Rig::new();
    let _watch = rig.watch();
    rig.world.guests(Guest::IgnoresPowerOff(Duration::from_secs(1)));
    rig.vm("web").await.unwrap();
    let before = tokio::time::Instant::now();
    let stopped =
        rig.stop.run(&by_name("web"), StopMode::Graceful, &samples::origin("r")).await.unwrap();
    assert!(stopped.note.unwrap().contains("within 30 s"));
    assert_eq!(before.elapsed().as_secs(), 30);
    assert_eq!(rig.status_of("web"), Some("stopped"));
}

#[tokio::test(start_paused = true)]
async fn a_held_guest_is_cut_off_at_once_because_it_cannot_hear() {
    let rig = Rig::new();
    let _watch = rig.watch();
    let id = rig.vm("web").await.unwrap().id;
    rig.world.pause(id, "I/O error");
    rig.registry.until_power(id, |power| *power == PowerState::Paused("I/O error")).await;
    assert_eq!(rig.status_of("web"), Some("paused"));
    let stopped =
        rig.stop.run(&by_name("web"), StopMode::Graceful, &samples::origin("r")).await.unwrap();
    assert!(stopped.note.unwrap().contains("I/O error"));
}

#[tokio::test(start_paused = true)]
async fn a_guest_without_an_address_is_undone_with_its_console_in_the_error() {
    let rig = Rig::new();
    rig.world.guests(Guest::TakesNoAddress);
    let error = rig.vm("web").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressTimeout);
    assert!(error.context().contains(&("console", "no carrier".to_owned())));
    rig.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_guest_without_an_address_is_kept_if_the_owner_wants_it() {
    let rig = Rig::with(Limits { on_address_timeout: OnAddressTimeout::Keep, ..Limits::default() });
    rig.world.guests(Guest::TakesNoAddress);
    let created = rig.vm("web").await.unwrap();
    assert_eq!(created.status, VmStatus::Error);
    assert!(created.failure.unwrap().contains("took no address within 120 s"));
    assert_eq!(rig.status_of("web"), Some("error"));
}

#[tokio::test(start_paused = true)]
async fn a_start_without_an_address_succeeds_and_says_so() {
    let rig = Rig::new();
    let _watch = rig.watch();
    rig.vm("web").await.unwrap();
    rig.stop.run(&by_name("web"), StopMode::Graceful, &samples::origin("r")).await.unwrap();
    rig.world.guests(Guest::TakesNoAddress);
    let started = rig.start.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    assert!(started.note.unwrap().contains("took no address"));
    assert_eq!(rig.status_of("web"), Some("running"));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_goes_down_while_its_address_is_awaited_is_undone_at_once() {
    let rig = Rig::new();
    let _watch = rig.watch();
    rig.world.guests(Guest::TakesNoAddress);
    let before = tokio::time::Instant::now();
    let create = rig.vm("web");
    let dies = async {
        rig.world.faults.until_called("lease").await;
        let id = rig.status.run(&by_name("web")).unwrap().record.id;
        rig.world.crash(id);
    };
    let error = futures_util::future::join(create, dies).await.0.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HypervisorFailed);
    assert!(error.to_string().contains("it is crashed"), "{error}");
    assert!(before.elapsed().as_secs() < 10);
    rig.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_stale_sighting_does_not_undo_a_guest_that_boots() {
    let rig = Rig::new();
    let create = rig.vm("web");
    let stale = async {
        rig.world.faults.until_called("lease").await;
        let id = rig.status.run(&by_name("web")).unwrap().record.id;
        rig.registry.see(id, Sighting::Power(PowerState::Off(OffCause::Guest)));
    };
    futures_util::future::join(create, stale).await.0.unwrap();
    assert_eq!(rig.status_of("web"), Some("running"));
}

#[tokio::test(start_paused = true)]
async fn a_vm_can_be_stopped_while_its_start_awaits_the_address() {
    let rig = Rig::new();
    let _watch = rig.watch();
    rig.vm("web").await.unwrap();
    rig.stop.run(&by_name("web"), StopMode::Force, &samples::origin("r")).await.unwrap();
    rig.world.guests(Guest::TakesNoAddress);
    let web = by_name("web");
    let stops = async {
        rig.world.faults.until_called("lease").await;
        rig.stop.run(&web, StopMode::Force, &samples::origin("r")).await.unwrap();
    };
    let (started, ()) =
        futures_util::future::join(rig.start.run(&web, &samples::origin("r")), stops).await;
    assert_eq!(started.unwrap().note.unwrap(), "the VM was started, and is off again");
}

#[tokio::test(start_paused = true)]
async fn a_kept_vm_is_seen_to_power_off_although_its_status_stays() {
    let rig = Rig::with(Limits { on_address_timeout: OnAddressTimeout::Keep, ..Limits::default() });
    let _watch = rig.watch();
    rig.world.guests(Guest::TakesNoAddress);
    rig.vm("web").await.unwrap();
    let stopped =
        rig.stop.run(&by_name("web"), StopMode::Graceful, &samples::origin("r")).await.unwrap();
    assert_eq!(stopped.note, None);
}

#[tokio::test(start_paused = true)]
async fn a_sample_corrects_what_no_event_told() {
    let rig = Rig::new();
    let _watch = rig.watch();
    let id = rig.vm("web").await.unwrap().id;
    rig.registry.see(id, Sighting::Power(PowerState::Crashed));
    assert_eq!(rig.status_of("web"), Some("error"));
    rig.world.clock.sleep(Duration::from_secs(6)).await;
    assert_eq!(rig.status_of("web"), Some("running"));
}

#[tokio::test(start_paused = true)]
async fn a_name_has_one_vm_whatever_its_case() {
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    assert_eq!(rig.vm("WEB").await.unwrap_err().kind(), ErrorKind::NameTaken);
}

#[tokio::test(start_paused = true)]
async fn fifty_creates_of_one_name_at_once_make_one_vm() {
    let rig = Rig::new();
    let all = futures_util::future::join_all((0..50).map(|_| rig.vm("web"))).await;
    assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1);
    assert_eq!(rig.registry.views().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_request_gives_the_same_vm_now_and_later() {
    let rig = Rig::new();
    let spec = || {
        let mut request = samples::request("web");
        request.request_id = "r-1".to_owned();
        ghost_core::domain::VmSpec::parse(request, &samples::catalog()).unwrap()
    };
    let (first, joined) = futures_util::future::join(
        rig.create.run(spec(), &samples::origin("r")),
        rig.create.run(spec(), &samples::origin("r")),
    )
    .await;
    let first = first.unwrap();
    assert_eq!(joined.unwrap(), first);
    assert_eq!(rig.create.run(spec(), &samples::origin("r")).await.unwrap(), first);

    let restarted = Rig::on(rig.world.clone(), Limits::default());
    restarted.reconcile.adopt().await.unwrap();
    assert_eq!(restarted.create.run(spec(), &samples::origin("r")).await.unwrap(), first);

    let mut other = spec();
    other.name = "other".parse().unwrap();
    assert_eq!(
        rig.create.run(other, &samples::origin("r")).await.unwrap_err().kind(),
        ErrorKind::NameTaken
    );
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_tells_what_the_vm_is_by_now() {
    let rig = Rig::new();
    let _watch = rig.watch();
    let spec = || {
        let mut spec = samples::spec("web");
        spec.request_id = Some("r-1".parse().unwrap());
        spec
    };
    rig.create.run(spec(), &samples::origin("r")).await.unwrap();
    rig.stop.run(&by_name("web"), StopMode::Force, &samples::origin("r")).await.unwrap();
    assert_eq!(
        rig.create.run(spec(), &samples::origin("r")).await.unwrap().status,
        VmStatus::Stopped
    );
}

#[tokio::test(start_paused = true)]
async fn starting_a_held_vm_lets_it_go_on_at_once() {
    let rig = Rig::new();
    let _watch = rig.watch();
    let id = rig.vm("web").await.unwrap().id;
    rig.world.pause(id, "I/O error");
    rig.registry.until_power(id, |power| *power == PowerState::Paused("I/O error")).await;
    let before = tokio::time::Instant::now();
    assert_eq!(rig.start.run(&by_name("web"), &samples::origin("r")).await.unwrap().note, None);
    assert_eq!((before.elapsed().as_secs(), rig.status_of("web")), (0, Some("running")));
}

#[tokio::test(start_paused = true)]
async fn those_who_joined_a_failed_create_are_told_why() {
    let rig = Rig::new();
    rig.world.guests(Guest::TakesNoAddress);
    let spec = || {
        let mut spec = samples::spec("web");
        spec.request_id = Some("r-1".parse().unwrap());
        spec
    };
    let (one, two) = futures_util::future::join(
        rig.create.run(spec(), &samples::origin("r")),
        rig.create.run(spec(), &samples::origin("r")),
    )
    .await;
    assert_eq!(one.unwrap_err().kind(), ErrorKind::AddressTimeout);
    assert_eq!(two.unwrap_err().kind(), ErrorKind::AddressTimeout);
}

#[tokio::test(start_paused = true)]
async fn twenty_creates_with_room_for_ten_make_exactly_ten() {
    let rig = Rig::new();
    rig.world.has_cpus(10);
    let names: Vec<String> = (0..20).map(|i| format!("vm-{i}")).collect();
    let all = futures_util::future::join_all(names.iter().map(|name| rig.vm(name))).await;
    assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 10);
    let refusal = all.into_iter().find_map(Result::err).unwrap();
    assert!(
        refusal
            .to_string()
            .starts_with("asked 1 vCPU, 0 available (10 − 0 reserved − 10 allocated)")
    );
}

#[tokio::test(start_paused = true)]
async fn an_image_larger_than_the_disk_is_the_callers_mistake_and_leaves_nothing() {
    let rig = Rig::new();
    rig.world.image_size(Bytes(11 * Gib::BYTES));
    let error = rig.vm("web").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "disk_gb: must be at least 11: the template's image is that large"
    );
    rig.assert_nothing_left();
}

#[tokio::test(start_paused = true)]
async fn a_second_operation_on_a_vm_is_refused_while_the_first_is_under_way() {
    let rig = Rig::new();
    rig.world.faults.pause_at("define");
    let create = rig.vm("web");
    let meanwhile = async {
        rig.world.faults.until_paused().await;
        let refused = rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap_err();
        assert_eq!((refused.kind(), rig.status_of("web")), (ErrorKind::Busy, Some("creating")));
        rig.world.faults.heal();
    };
    futures_util::future::join(create, meanwhile).await.0.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_list_is_ordered_paged_and_filtered() {
    let rig = Rig::new();
    let _watch = rig.watch();
    for name in ["carl", "anna", "bert"] {
        rig.vm(name).await.unwrap();
    }
    rig.stop.run(&by_name("bert"), StopMode::Force, &samples::origin("r")).await.unwrap();
    let names = |size, token: &str, status| {
        let page = rig.list.run(&PageRequest::parse(size, token, status).unwrap());
        (
            page.vms.iter().map(|vm| vm.record.name.to_string()).collect::<Vec<_>>().join(" "),
            page.next,
        )
    };
    assert_eq!(names(0, "", ""), ("anna bert carl".to_owned(), String::new()));
    assert_eq!(names(2, "", ""), ("anna bert".to_owned(), "bert".to_owned()));
    assert_eq!(names(2, "bert", ""), ("carl".to_owned(), String::new()));
    assert_eq!(names(0, "", "stopped"), ("bert".to_owned(), String::new()));
}

#[test]
fn every_wrong_field_of_a_list_is_reported_at_once() {
    let error = PageRequest::parse(-1, "no such token", "sleeping").unwrap_err();
    assert_eq!(error.violations().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_page_token_that_was_made_up_is_refused_or_a_place_in_the_order() {
    for made_up in ["?", "a b", "../x", "anna\n", "-1"] {
        let refused = PageRequest::parse(0, made_up, "").unwrap_err().to_string();
        assert!(refused.starts_with("page_token: "), "{made_up}: {refused}");
    }
    let rig = Rig::new();
    for name in ["anna", "carl"] {
        rig.vm(name).await.unwrap();
    }
    let page = rig.list.run(&PageRequest::parse(0, "bert", "").unwrap());
    let names: Vec<_> = page.vms.iter().map(|vm| vm.record.name.as_str()).collect();
    assert_eq!((names, page.next), (vec!["carl"], String::new()));
}

#[tokio::test(start_paused = true)]
async fn usage_comes_from_two_samples() {
    let rig = Rig::new();
    let _watch = rig.watch();
    rig.vm("web").await.unwrap();
    rig.world.clock.sleep(Duration::from_secs(11)).await;
    let view = rig.status.run(&by_name("web")).unwrap();
    assert!((view.cpu_percent - 50.0).abs() < 0.5, "{}", view.cpu_percent);
    assert!((view.ram_percent - 25.0).abs() < 0.1, "{}", view.ram_percent);
}
