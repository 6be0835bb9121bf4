//! Admission by threads that really run at once: without an await in [`Registry::admit`] a runtime of one thread
//! can't interleave it with itself.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use ghost_core::application::Registry;
use ghost_core::application::registry::Admitted;
use ghost_core::domain::{
    Budget, Bytes, Capacity, ErrorKind, Gib, Overcommit, Reservation, VmId, VmRecord, VmRequest,
    VmSpec,
};
use ghost_core::testing::samples;

const THREADS: usize = 4;
/// 12 CPUs, of which the owner keeps 2.
const ROOM: u32 = 10;

fn budget() -> Budget {
    let plenty = Bytes(1_000_000 * Gib::BYTES);
    Budget {
        capacity: Capacity { cpus: 12, ram: plenty, disk: plenty },
        reserved: Reservation { cpus: 2, ..Reservation::default() },
        overcommit: Overcommit::default(),
    }
}

fn record(name: &str, vcpu: i32) -> VmRecord {
    let request = VmRequest { vcpu, ..samples::request(name) };
    let spec = VmSpec::parse(request, &samples::catalog()).unwrap();
    VmRecord::creating(VmId::generate(), &spec, jiff::Timestamp::UNIX_EPOCH)
}

/// Whether it is admitted; a refusal must be for want of room.
fn admitted(registry: &Registry, record: VmRecord) -> bool {
    match registry.admit(record, &budget()) {
        Ok(Admitted::New(_)) => true,
        Ok(Admitted::Same(..)) => unreachable!("no request has an id"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ResourceLimit, "{error}");
            false
        }
    }
}

#[test]
fn twenty_threads_with_room_for_ten_admit_exactly_ten() {
    for _ in 0..200 {
        let (registry, together, count) =
            (Registry::default(), Barrier::new(20), AtomicUsize::new(0));
        thread::scope(|scope| {
            for n in 0..20 {
                let (registry, together, count) = (&registry, &together, &count);
                scope.spawn(move || {
                    let record = record(&format!("vm-{n}"), 1);
                    together.wait();
                    count.fetch_add(usize::from(admitted(registry, record)), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(count.into_inner(), ROOM as usize);
    }
}

/// The VMs that one of the threads has, and what all of them hold.
struct Holder<'a> {
    registry: &'a Registry,
    held: &'a AtomicU32,
    most: &'a AtomicU32,
    mine: Vec<VmRecord>,
}

impl Holder<'_> {
    /// Whether there was room. A VM counts as held only while the registry must count it too, so no order of the threads
    /// makes more of them than were admitted.
    fn take(&mut self, record: VmRecord) -> bool {
        let admitted = admitted(self.registry, record.clone());
        if admitted {
            let before = self.held.fetch_add(record.shape.vcpus, Ordering::SeqCst);
            self.most.fetch_max(before + record.shape.vcpus, Ordering::SeqCst);
            self.mine.push(record);
        }
        admitted
    }

    fn give_back(&mut self, n: usize) {
        let gone = self.mine.swap_remove(n);
        self.held.fetch_sub(gone.shape.vcpus, Ordering::SeqCst);
        self.registry.forget(gone.id);
    }
}

#[test]
fn threads_that_take_and_give_back_never_hold_more_than_there_is() {
    const LIVES: usize = 5000;
    let (registry, held, most) = (Registry::default(), AtomicU32::new(0), AtomicU32::new(0));
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let mut holder =
                Holder { registry: &registry, held: &held, most: &most, mine: Vec::new() };
            let refused = &refused;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread as u64);
                for life in 0..LIVES {
                    let record = record(&format!("vm-{thread}-{life}"), random.i32(1..5));
                    refused.fetch_add(usize::from(!holder.take(record)), Ordering::SeqCst);
                    if random.bool() && !holder.mine.is_empty() {
                        holder.give_back(random.usize(0..holder.mine.len()));
                    }
                }
                while !holder.mine.is_empty() {
                    holder.give_back(0);
                }
            });
        }
    });
    assert_eq!(most.into_inner(), ROOM, "the most that was ever held at once");
    assert!(refused.into_inner() > LIVES / 10);
    assert!(admitted(&registry, record("all", 10)), "not all was given back");
}
