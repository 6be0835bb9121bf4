//! The TLS handshakes under way. Invariant: at most [`MOST`], of which one address has at most its
//! share. A new one is never turned away: it ends the oldest of its own address, or of all.
//! An honest handshake takes milliseconds, so the oldest is one that stalls; callers who say
//! nothing push out each other and never those who speak.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Most at once: with a server's connections within the files that a process may open.
const MOST: usize = 512;
/// Longest handshake: three round trips by satellite fit.
const LIMIT: Duration = Duration::from_secs(3);

/// How many one address may have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Any but this host's.
    pub address: usize,
    /// This host's own, which all its users have in common.
    pub loopback: usize,
}

/// The table of those under way.
#[derive(Debug)]
pub struct Handshakes {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    shares: Shares,
    next: u64,
    pending: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// One handshake under way, until it is dropped.
#[derive(Debug)]
pub struct Handshake {
    all: Arc<Handshakes>,
    number: u64,
    pushed_out: CancellationToken,
}

impl Handshakes {
    /// None yet.
    #[must_use]
    pub fn new(shares: Shares) -> Arc<Self> {
        let table = Table { shares, next: 0, pending: BTreeMap::new() };
        Arc::new(Self { table: Mutex::new(table) })
    }

    /// Enters one more of that address.
    #[must_use]
    pub fn begin(self: &Arc<Self>, peer: IpAddr) -> Handshake {
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
        let share = if peer.is_loopback() { self.shares.loopback } else { self.shares.address };
        let mut of_peer = self.pending.iter().filter(|(_, (of, _))| *of == peer);
        let oldest = of_peer.next().map(|(number, _)| *number);
        if oldest.is_some() && 1 + of_peer.count() >= share {
            return oldest;
        }
        (self.pending.len() >= MOST).then(|| self.pending.keys().next().copied()).flatten()
    }
}

impl Handshake {
    /// The caller's TLS, within 3 s. The handshake is over then, and gives its share back.
    ///
    /// # Errors
    /// The handshake's, or `TimedOut` if it took too long or newer ones pushed it out.
    pub async fn tls(
        self,
        stream: TcpStream,
        config: Arc<ServerConfig>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let slow = |why| io::Error::new(io::ErrorKind::TimedOut, why);
        stream.set_nodelay(true)?;
        let accepting = TlsAcceptor::from(config).accept(stream);
        let accepting = tokio::time::timeout(LIMIT, accepting);
        self.pushed_out
            .run_until_cancelled(accepting)
            .await
            .ok_or_else(|| slow("newer TLS handshakes pushed this one out"))?
            .map_err(|_| slow("the TLS handshake took too long"))?
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

    const SHARES: Shares = Shares { address: 8, loopback: 64 };
    const SHARE: usize = SHARES.address;
    const SHARE_OF_LOOPBACK: usize = SHARES.loopback;

    fn begin(all: &Arc<Handshakes>, peer: [u8; 4], count: usize) -> Vec<Handshake> {
        (0..count).map(|_| all.begin(peer.into())).collect()
    }

    fn alive(some: &[Handshake]) -> Vec<bool> {
        some.iter().map(|one| !one.pushed_out.is_cancelled()).collect()
    }

    #[test]
    fn an_address_over_its_share_loses_its_own_oldest() {
        let all = Handshakes::new(SHARES);
        let other = begin(&all, [100, 64, 0, 1], 1);
        let mine = begin(&all, [100, 64, 0, 2], SHARE + 1);
        assert_eq!(alive(&other), [true]);
        assert_eq!(alive(&mine), [&[false][..], &[true; SHARE][..]].concat());
        assert_eq!(all.lock().pending.len(), 1 + SHARE);
    }

    #[test]
    fn another_way_to_write_an_address_gives_no_second_share() {
        for (peer, same, share) in [
            ([100, 64, 0, 2], "::ffff:100.64.0.2", SHARE),
            ([127, 0, 0, 1], "127.0.0.2", SHARE_OF_LOOPBACK),
            ([127, 0, 0, 1], "::1", SHARE_OF_LOOPBACK),
        ] {
            let all = Handshakes::new(SHARES);
            let mine = begin(&all, peer, share);
            let _one_more = all.begin(same.parse().unwrap());
            assert!(!alive(&mine)[0], "{same}");
        }
    }

    #[test]
    fn a_full_table_loses_the_oldest_of_all() {
        let all = Handshakes::new(SHARES);
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
        let all = Handshakes::new(SHARES);
        let mut mine = begin(&all, [127, 0, 0, 1], SHARE_OF_LOOPBACK);
        mine.pop();
        mine.extend(begin(&all, [127, 0, 0, 1], 1));
        assert!(alive(&mine).into_iter().all(|alive| alive));
        drop(mine);
        assert_eq!(all.lock().pending.len(), 0);
    }
}
