//! The TLS handshakes under way. Invariant: at most [`MOST`], of which one address has at most its
//! share. A new one is never turned away: it ends the oldest of its own address, or of all.
//! An honest handshake takes milliseconds, so the oldest is one that stalls; callers who say
//! nothing push out each other and never those who speak.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Most at once: of 10,000 agents that come back together, those behind try again by their backoff.
const MOST: usize = 512;
/// Most of one address.
const SHARE: usize = 8;
/// Most of this host's own address, which all its users have in common, and which many simulated agents do.
const SHARE_OF_LOOPBACK: usize = 256;

/// The table of those under way.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    pending: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// One handshake under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    all: Arc<Handshakes>,
    number: u64,
    pushed_out: CancellationToken,
}

impl Handshakes {
    /// Enters one more of that address.
    pub(super) fn begin(self: &Arc<Self>, peer: IpAddr) -> Handshake {
        let peer = one_per_host(peer);
        let pushed_out = CancellationToken::new();
        let mut table = self.lock();
        if let Some(oldest) = table.in_the_way_of(peer)
            && let Some((_, token)) = table.pending.remove(&oldest)
        {
            token.cancel();
        }
        let number = table.next;
        table.next += 1;
        table.pending.insert(number, (peer, pushed_out.clone()));
        Handshake { all: Arc::clone(self), number, pushed_out }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address that stands for all of the same host: loopback has millions of its own.
fn one_per_host(peer: IpAddr) -> IpAddr {
    let peer = peer.to_canonical();
    if peer.is_loopback() { Ipv4Addr::LOCALHOST.into() } else { peer }
}

impl Table {
    /// The one that has to go before `peer` may have one more.
    fn in_the_way_of(&self, peer: IpAddr) -> Option<u64> {
        let share = if peer.is_loopback() { SHARE_OF_LOOPBACK } else { SHARE };
        let mut of_peer = self.pending.iter().filter(|(_, (of, _))| *of == peer);
        let oldest = of_peer.next().map(|(number, _)| *number);
        if oldest.is_some() && 1 + of_peer.count() >= share {
            return oldest;
        }
        (self.pending.len() >= MOST).then(|| self.pending.keys().next().copied()).flatten()
    }
}

impl Handshake {
    /// The work's result, or `None` if newer handshakes pushed this one out.
    pub(super) async fn unless_pushed_out<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.pushed_out.run_until_cancelled(work).await
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.all.lock().pending.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(all: &Arc<Handshakes>, peer: [u8; 4], count: usize) -> Vec<Handshake> {
        (0..count).map(|_| all.begin(peer.into())).collect()
    }

    fn alive(some: &[Handshake]) -> Vec<bool> {
        some.iter().map(|one| !one.pushed_out.is_cancelled()).collect()
    }

    #[test]
    fn an_address_over_its_share_loses_its_own_oldest() {
        let all = Arc::<Handshakes>::default();
        let other = begin(&all, [100, 64, 0, 1], 1);
        let mine = begin(&all, [100, 64, 0, 2], SHARE + 1);
        assert_eq!(alive(&other), [true]);
        assert_eq!(alive(&mine), [&[false][..], &[true; SHARE][..]].concat());
        assert_eq!(all.lock().pending.len(), 1 + SHARE);
    }

    #[test]
    fn a_full_table_loses_the_oldest_of_all() {
        let all = Arc::<Handshakes>::default();
        let addresses = (0..=u8::MAX).flat_map(|c| [[10, 0, 0, c], [10, 0, 1, c]]);
        let silent: Vec<_> = addresses.take(MOST).flat_map(|peer| begin(&all, peer, 1)).collect();
        let late = begin(&all, [100, 64, 0, 1], 1);
        assert_eq!(alive(&late), [true]);
        assert_eq!(alive(&silent).iter().filter(|alive| !**alive).count(), 1);
        assert!(!alive(&silent)[0]);
        assert_eq!(all.lock().pending.len(), MOST);
    }

    #[test]
    fn one_that_has_ended_makes_room() {
        let all = Arc::<Handshakes>::default();
        let mut mine = begin(&all, [127, 0, 0, 1], SHARE_OF_LOOPBACK);
        mine.pop();
        mine.extend(begin(&all, [127, 0, 0, 1], 1));
        assert!(alive(&mine).into_iter().all(|alive| alive));
        drop(mine);
        assert_eq!(all.lock().pending.len(), 0);
    }
}
