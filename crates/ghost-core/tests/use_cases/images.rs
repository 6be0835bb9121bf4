//! The cached images: what stays, what goes, what is noticed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::rig::{Rig, by_name};
use futures_util::future::join_all;
use ghost_core::application::{ImageLibrary, ImageRef, Limits, Retention, Upkeep, UpkeepPlan};
use ghost_core::domain::{
    Arch, Bytes, Catalog, Checksum, Condition, DigestList, ErrorKind, FetchStage, Fetching,
    HashAlgorithm, ListFormat, Proof, Signature, Template, TemplateName, Update, VmSpec,
};
use ghost_core::ports::{Clock as _, Images as _};
use ghost_core::testing::samples;

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn name() -> TemplateName {
    "debian-12".parse().unwrap()
}

/// The template that its publisher replaces from time to time.
fn catalog() -> Catalog {
    let list = DigestList {
        url: "https://publisher.example/SHA256SUMS".parse().unwrap(),
        format: ListFormat::Gnu,
        algorithm: HashAlgorithm::Sha256,
        file: "debian-12.qcow2".to_owned(),
        signature: Signature::Unsigned { reason: String::new() },
    };
    let pinned = samples::catalog().get(&name()).unwrap().clone();
    Catalog::new(Arch::HOST, [Template { proof: Proof::Listed(Box::new(list)), ..pinned }])
}

fn spec(vm: &str) -> VmSpec {
    VmSpec { template: catalog().get(&name()).unwrap().clone(), ..samples::spec(vm) }
}

/// Of an agent that has compared its VMs with libvirt's domains.
fn library(rig: &Rig, retention: Retention) -> ImageLibrary {
    rig.registry.compared(true);
    let registry = Arc::clone(&rig.registry);
    ImageLibrary::new(rig.world.ports(), registry, Arc::new(catalog()), retention)
}

async fn cached(rig: &Rig) -> Vec<Checksum> {
    rig.world.list().await.unwrap().into_iter().map(|image| image.checksum).collect()
}

async fn update(library: &ImageLibrary) -> Vec<Update> {
    let told = Mutex::new(Vec::new());
    let note = |(_, outcome): (TemplateName, Result<Update, _>)| {
        told.lock().unwrap().push(outcome.unwrap());
    };
    library.update(&[], &note).await.unwrap();
    told.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_vm_keeps_its_base_for_life_and_an_image_that_nobody_needs_goes() {
    let rig = Rig::new();
    let library = library(&rig, Retention::default());
    rig.create.run(spec("anna"), &samples::origin("r")).await.unwrap();
    let first = cached(&rig).await.remove(0);
    let second = rig.world.publish_version(&name(), 2);

    let expected = Update::New { from: first.clone(), to: second.clone() };
    assert_eq!(update(&library).await, [expected]);
    assert_eq!(cached(&rig).await, [first.clone(), second.clone()]);
    rig.create.run(spec("bert"), &samples::origin("r")).await.unwrap();
    let base = |vm| rig.status.run(&by_name(vm)).unwrap().record.image.clone();
    assert_eq!((base("anna"), base("bert")), (Some(first), Some(second.clone())));

    rig.delete.run(&by_name("anna"), &samples::origin("r")).await.unwrap();
    assert_eq!(update(&library).await, [Update::Current(second.clone())]);
    assert_eq!(cached(&rig).await, [second]);
}

#[tokio::test(start_paused = true)]
async fn an_image_under_a_vm_is_not_removed_and_the_refusal_names_the_vm() {
    let rig = Rig::new();
    let library = library(&rig, Retention::default());
    rig.create.run(spec("anna"), &samples::origin("r")).await.unwrap();
    let image = ImageRef::Template(name());
    let refused = library.remove(&image).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WrongState);
    assert!(refused.to_string().contains("VMs are based on it: anna"), "{refused}");
    // New VMs still get it without another fetch.
    assert_eq!(rig.world.list().await.unwrap()[0].current_of, [name()]);

    rig.world.publish_version(&name(), 2);
    library.update(&["debian-12".to_owned()], &|_| {}).await.unwrap();
    let removal = library.remove(&image).await.unwrap();
    assert_eq!((removal.removed.len(), removal.kept.len()), (1, 1));
    rig.delete.run(&by_name("anna"), &samples::origin("r")).await.unwrap();
    assert_eq!(library.remove(&image).await.unwrap().kept, []);
    assert_eq!(cached(&rig).await, []);
    assert_eq!(library.remove(&image).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_vm_whose_image_is_not_recorded_keeps_all_images() {
    let rig = Rig::new();
    let library = library(&rig, Retention::default());
    rig.create.run(spec("anna"), &samples::origin("r")).await.unwrap();
    let view = rig.status.run(&by_name("anna")).unwrap();
    rig.registry
        .publish(Arc::new(ghost_core::domain::VmRecord { image: None, ..(*view.record).clone() }));
    rig.world.publish_version(&name(), 2);
    update(&library).await;
    assert_eq!(cached(&rig).await.len(), 2);
    let refused = library.remove(&ImageRef::Template(name())).await.unwrap_err().to_string();
    assert!(refused.contains("it may be this: anna"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_the_ledger_has_lost_keeps_its_image_before_libvirt_was_asked() {
    let rig = Rig::new();
    rig.create.run(spec("anna"), &samples::origin("r")).await.unwrap();
    let first = cached(&rig).await.remove(0);
    let anna = rig.status.run(&by_name("anna")).unwrap().record.id;
    rig.world.ports().ledger.ensure_removed(anna).await.unwrap();
    rig.world.publish_version(&name(), 2);

    let rig = Rig::on(Arc::clone(&rig.world), Limits::default());
    rig.reconcile.adopt().await.unwrap();
    let (ports, registry) = (rig.world.ports(), Arc::clone(&rig.registry));
    let library = ImageLibrary::new(ports, registry, Arc::new(catalog()), Retention::default());
    update(&library).await;
    assert!(cached(&rig).await.contains(&first));
    let refused = library.remove(&ImageRef::Template(name())).await.unwrap_err().to_string();
    assert!(
        refused.contains("it is not known whether libvirt has VMs that are in no record"),
        "{refused}"
    );

    rig.reconcile.look().await.unwrap();
    library.collect().await.unwrap();
    assert!(cached(&rig).await.contains(&first));
    rig.delete.run(&by_name("anna"), &samples::origin("r")).await.unwrap();
    library.collect().await.unwrap();
    assert!(!cached(&rig).await.contains(&first));
}

#[tokio::test(start_paused = true)]
async fn a_rotten_image_is_found_put_aside_and_brought_back() {
    let rig = Rig::new();
    let library = library(&rig, Retention::default());
    let image = library.pull("debian-12").await.unwrap();
    rig.world.let_rot(&image);
    let verified = library.verify(None).await.unwrap();
    assert!(matches!(verified[0].1.condition, Condition::Quarantined { .. }));
    assert_eq!(library.list().await.unwrap()[0].status.as_str(), "quarantined");
    assert_eq!(library.pull("debian-12").await.unwrap(), image);
    assert_eq!(library.list().await.unwrap()[0].status.as_str(), "current");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_compared_keeps_no_other_from_being_verified() {
    let rig = Rig::new();
    let library = library(&rig, Retention::default());
    rig.create.run(spec("anna"), &samples::origin("r")).await.unwrap();
    let second = rig.world.publish_version(&name(), 2);
    update(&library).await;
    // The list, and then the first image.
    rig.world.faults.fail_at(1, ghost_core::testing::FaultMoment::Before);
    let verified = library.verify(None).await.unwrap();
    let verified: Vec<_> = verified.into_iter().map(|(_, verified)| verified.checksum).collect();
    assert_eq!(verified, [second]);

    rig.world.faults.fail_always("verify");
    let failed = library.verify(None).await.unwrap_err();
    assert!(failed.to_string().contains("planned failure"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_template_that_is_named_twice_is_updated_once() {
    let rig = Rig::new();
    let library = library(&rig, Retention::default());
    library.pull("debian-12").await.unwrap();
    let told = Mutex::new(0);
    let twice = ["debian-12".to_owned(), "debian-12".to_owned()];
    library.update(&twice, &|_| *told.lock().unwrap() += 1).await.unwrap();
    assert_eq!((asked(&rig), *told.lock().unwrap()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn templates_are_listed_whether_they_are_cached_or_not() {
    let rig = Rig::new();
    let library = library(&rig, Retention { versions: 2, limit: None });
    let listed = |entries: Vec<ghost_core::application::ImageEntry>| -> Vec<String> {
        let line = |e: &ghost_core::application::ImageEntry| {
            let stage = e.fetching.as_ref().map_or("", |f| f.stage.as_str());
            format!("{} {:?} {stage}", e.status.as_str(), e.used_by.len())
        };
        entries.iter().map(line).collect()
    };
    let fetching = Fetching {
        templates: vec![name()],
        url: "https://publisher.example/debian-12.qcow2".to_owned(),
        stage: FetchStage::Downloading,
        done: Bytes(1),
        total: None,
    };
    rig.world.show_fetching(vec![fetching]);
    assert_eq!(listed(library.list().await.unwrap()), ["absent 0 downloading"]);
    rig.world.show_fetching(Vec::new());
    rig.create.run(spec("anna"), &samples::origin("r")).await.unwrap();
    rig.world.publish_version(&name(), 2);
    update(&library).await;
    assert_eq!(listed(library.list().await.unwrap()), ["current 0 ", "former 1 "]);
}

#[tokio::test(start_paused = true)]
async fn names_of_images_are_read_strictly() {
    let rig = Rig::new();
    let library = library(&rig, Retention::default());
    for wrong in ["sha256:", "sha256:0123456789a", "sha256:g123456789ab", "", "A", "../x"] {
        assert!(wrong.parse::<ImageRef>().is_err(), "{wrong}");
    }
    let image = library.pull("debian-12").await.unwrap();
    let short: ImageRef = format!("sha256:{}", &image.hex()[..12]).parse().unwrap();
    assert_eq!(library.verify(Some(&short)).await.unwrap().len(), 1);
    let unknown = library.pull("windows").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Validation);
    let unknown = library.update(&["windows".to_owned()], &|_| {}).await.unwrap_err();
    assert!(unknown.to_string().starts_with("templates: 'windows' is unknown"), "{unknown}");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_fails_for_one_template_goes_on_and_loses_nothing() {
    let rig = Rig::new();
    let library = library(&rig, Retention::default());
    let image = library.pull("debian-12").await.unwrap();
    rig.world.faults.fail_at(1, ghost_core::testing::FaultMoment::Before);
    let told = Mutex::new(Vec::new());
    let note = |(_, outcome): (_, Result<Update, _>)| told.lock().unwrap().push(outcome.is_err());
    library.update(&[], &note).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [true]);
    assert_eq!(cached(&rig).await, [image]);
}

/// An hour's looks for so long, by a process that was just started.
async fn upkeep(rig: &Rig, plan: UpkeepPlan, time: Duration) {
    let upkeep = Upkeep::new(library(rig, Retention::default()), plan);
    let ended = tokio::time::timeout(time, upkeep.run(|| 0.5)).await;
    assert!(ended.is_err());
}

fn asked(rig: &Rig) -> usize {
    rig.world.faults.calls().iter().filter(|call| **call == "update").count()
}

const WEEKLY: UpkeepPlan = UpkeepPlan { update: Some(WEEK), verify: None };

#[tokio::test(start_paused = true)]
async fn publishers_are_asked_weekly_though_the_host_is_off_every_night() {
    let rig = Rig::new();
    library(&rig, Retention::default()).pull("debian-12").await.unwrap();
    for _day in 0..7 {
        assert_eq!(asked(&rig), 0);
        upkeep(&rig, WEEKLY, Duration::from_secs(8 * 60 * 60)).await;
        rig.world.clock.sleep(Duration::from_secs(16 * 60 * 60)).await;
    }
    upkeep(&rig, WEEKLY, Duration::from_secs(8 * 60 * 60)).await;
    assert_eq!(asked(&rig), 1);
}

#[tokio::test(start_paused = true)]
async fn an_owner_who_wants_no_upkeep_has_none() {
    let rig = Rig::new();
    library(&rig, Retention::default()).pull("debian-12").await.unwrap();
    upkeep(&rig, UpkeepPlan::default(), 9 * WEEK).await;
    let calls = rig.world.faults.calls();
    assert!(!calls.contains(&"update") && !calls.contains(&"verify"), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_went_back_years_does_not_put_the_upkeep_off_for_years() {
    let rig = Rig::new();
    library(&rig, Retention::default()).pull("debian-12").await.unwrap();
    rig.world.clock.jump(-9 * 365 * 24 * 60 * 60);
    upkeep(&rig, WEEKLY, Duration::from_secs(60 * 60)).await;
    assert_eq!(asked(&rig), 1);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_who_cannot_be_reached_is_asked_again_within_hours() {
    let rig = Rig::new();
    library(&rig, Retention::default()).pull("debian-12").await.unwrap();
    rig.world.clock.sleep(WEEK).await;
    // The list, and then the update.
    rig.world.faults.fail_at(1, ghost_core::testing::FaultMoment::Before);
    upkeep(&rig, WEEKLY, Duration::from_secs(3 * 60 * 60)).await;
    assert_eq!(asked(&rig), 2);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_who_fails_for_good_is_asked_less_and_less_often() {
    let rig = Rig::new();
    library(&rig, Retention::default()).pull("debian-12").await.unwrap();
    rig.world.clock.sleep(WEEK).await;
    rig.world.faults.fail_always("update");
    upkeep(&rig, WEEKLY, WEEK).await;
    assert!((9..=14).contains(&asked(&rig)), "{}", asked(&rig));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_read_keeps_no_other_from_being_looked_after() {
    let rig = Rig::new();
    let library = library(&rig, Retention::default());
    rig.create.run(spec("anna"), &samples::origin("r")).await.unwrap();
    rig.world.publish_version(&name(), 2);
    update(&library).await;
    assert_eq!(cached(&rig).await.len(), 2);
    rig.world.clock.sleep(WEEK).await;
    rig.world.faults.fail_always("verify");
    Upkeep::new(library, UpkeepPlan { update: None, verify: Some(WEEK) }).look().await;
    let calls = rig.world.faults.calls();
    assert_eq!(calls.iter().filter(|call| **call == "verify").count(), 2, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn fetches_that_come_and_go_do_not_put_the_upkeep_off() {
    let rig = Rig::new();
    library(&rig, Retention::default()).pull("debian-12").await.unwrap();
    rig.world.clock.sleep(WEEK).await;
    let fetch = Fetching {
        templates: vec![name()],
        url: String::new(),
        stage: FetchStage::Asking,
        done: Bytes(0),
        total: None,
    };
    let world = Arc::clone(&rig.world);
    let fetching = async {
        for _ in 0..100 {
            world.show_fetching(vec![fetch.clone()]);
            world.clock.sleep(Duration::from_secs(1)).await;
            world.show_fetching(Vec::new());
            world.clock.sleep(Duration::from_secs(300)).await;
        }
    };
    tokio::select! {
        () = upkeep(&rig, WEEKLY, WEEK) => {}
        () = fetching => {}
    }
    assert_eq!(asked(&rig), 1);
}

#[tokio::test(start_paused = true)]
async fn rot_is_found_by_the_upkeep() {
    let rig = Rig::new();
    let library = library(&rig, Retention::default());
    let image = library.pull("debian-12").await.unwrap();
    rig.world.let_rot(&image);
    let plan = UpkeepPlan { update: None, verify: Some(WEEK) };
    upkeep(&rig, plan, WEEK + Duration::from_secs(2 * 60 * 60)).await;
    assert_eq!(library.list().await.unwrap()[0].status.as_str(), "quarantined");
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_kept_as_soon_as_a_fetch_has_ended() {
    let rig = Rig::new();
    let library = library(&rig, Retention { versions: 1, limit: Some(Bytes(1)) });
    library.pull("debian-12").await.unwrap();
    let upkeep = Upkeep::new(library, UpkeepPlan::default());
    let fetch = Fetching {
        templates: vec![name()],
        url: String::new(),
        stage: FetchStage::Downloading,
        done: Bytes(0),
        total: None,
    };
    let world = Arc::clone(&rig.world);
    let fetching = async {
        world.show_fetching(vec![fetch]);
        world.clock.sleep(Duration::from_secs(1)).await;
        world.show_fetching(Vec::new());
        world.clock.sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        () = upkeep.run(|| 0.5) => {}
        () = fetching => {}
    }
    assert_eq!(cached(&rig).await, []);
}

/// 200 rounds of creates, deletes, updates, removals and collections at once, each following from its seed.
#[tokio::test(start_paused = true)]
async fn whatever_happens_at_once_no_image_goes_from_under_a_vm() {
    let mut removals = 0;
    for seed in 0..200 {
        let rig = Rig::new();
        let library = library(&rig, Retention { versions: 1, limit: Some(Bytes(1)) });
        rig.world.faults.interleave(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let operate = |n: usize| {
            let (kind, wait) = (random.u8(0..6), Duration::from_millis(random.u64(0..400)));
            let (rig, library) = (&rig, &library);
            async move {
                rig.world.clock.sleep(wait).await;
                match kind {
                    0 | 1 => {
                        drop(rig.create.run(spec(&format!("vm-{n}")), &samples::origin("r")).await)
                    }
                    2 => drop(
                        rig.delete
                            .run(&by_name(&format!("vm-{}", n / 2)), &samples::origin("r"))
                            .await,
                    ),
                    3 => {
                        rig.world.publish_version(&name(), u8::try_from(n).unwrap());
                        drop(library.update(&[], &|_| {}).await);
                    }
                    4 => drop(library.remove(&ImageRef::Template(name())).await),
                    _ => drop(library.collect().await),
                }
            }
        };
        let all: Vec<_> = (0..12).map(operate).collect();
        join_all(all).await;
        let there = cached(&rig).await;
        for view in rig.registry.views() {
            let base = view.record.image.clone().unwrap();
            assert!(there.contains(&base), "seed {seed}: {} lost its base", view.record.name);
        }
        removals += rig.world.faults.calls().iter().filter(|c| **c == "ensure_removed").count();
    }
    assert!(removals > 200, "the rounds hardly remove anything: {removals}");
}
