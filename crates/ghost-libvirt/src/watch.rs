//! The watch: one thread that keeps a connection for libvirt's events, and says what happens.
//!
//! ```text
//!   Connecting ──▶ Connected ──lost──▶ Disconnected(why) ──backoff, for ever──▶ Connected
//!        └──────────failed─────────────▲                   any ──stop──▶ Stopped
//! ```
//!
//! Invariant: `Connected` is sent after the events of the new connection are registered and our domains
//! are known, so that whoever looks at everything then misses nothing. Only our domains are reported. The
//! event loop's thread only hands notes over; whatever asks libvirt is done here.

mod reports;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use ghost_core::ports::{Events, HypervisorEvent};
use tokio::sync::{broadcast, watch};

use crate::backoff::{Backoff, jitter};
use crate::connections::Connections;
use crate::sys::{Conn, DomainEvent, LibvirtError, Subscription};
use crate::threads::{self, Threads};
pub(crate) use reports::Memory;
use reports::Reports;

/// Events that a slow receiver may be behind before it has to resync.
const BACKLOG: usize = 1024;
/// Pauses between attempts to connect.
const RECONNECT: Backoff =
    Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };

/// How the watch's connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// Not tried yet, or being tried for the first time.
    Connecting,
    /// Up, with events.
    Connected,
    /// Down, being tried again; the text is libvirt's reason.
    Disconnected(String),
    /// The agent is shutting down.
    Stopped,
}

/// What the watch learns of libvirt before anybody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    /// A connection is up.
    Made,
    /// It was lost; the reason in words.
    Lost(&'static str),
}

enum Note {
    Domain(DomainEvent),
    /// A connection was lost; the number tells which one.
    Closed(u64, &'static str),
    Stop,
}

/// The hold on the watch's thread.
#[derive(Debug)]
pub(crate) struct Watch {
    notes: Sender<Note>,
    events: broadcast::Sender<HypervisorEvent>,
    state: watch::Receiver<ConnectionState>,
    threads: Arc<Threads>,
}

impl Watch {
    /// Starts the thread; `on_contact` is called whenever a connection is up, or lost.
    pub(crate) fn start(
        connections: Arc<Connections>,
        memory: Memory,
        on_contact: impl Fn(Contact) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (notes, inbox) = mpsc::channel();
        let (events, _) = broadcast::channel(BACKLOG);
        let (say_state, state) = watch::channel(ConnectionState::Connecting);
        let reports = Reports { memory, events: events.clone() };
        let outlet = Outlet { events: events.clone(), state: say_state };
        let mut watcher =
            Watcher { connections, reports, notes: notes.clone(), inbox, outlet, generation: 0 };
        let threads = Arc::new(Threads::default());
        threads.spawn("libvirt-watch", move || watcher.run(on_contact))?;
        Ok(Self { notes, events, state, threads })
    }

    /// How the connection stands, and every change of it.
    pub(crate) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Lets the thread end, after what it does now.
    pub(crate) fn stop(&self) {
        // It may have ended already.
        let _ = self.notes.send(Note::Stop);
    }

    /// To be joined after the stop.
    pub(crate) fn threads(&self) -> Arc<Threads> {
        Arc::clone(&self.threads)
    }
}

impl Events for Watch {
    fn subscribe(&self) -> broadcast::Receiver<HypervisorEvent> {
        self.events.subscribe()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
        threads::warn_of(self.threads.join_before(Instant::now() + threads::PATIENCE));
    }
}

/// Where the watch tells what it saw.
struct Outlet {
    events: broadcast::Sender<HypervisorEvent>,
    state: watch::Sender<ConnectionState>,
}

impl Outlet {
    fn send(&self, event: HypervisorEvent) {
        // Nobody may listen yet.
        let _ = self.events.send(event);
    }

    fn connected(&self) {
        self.state.send_replace(ConnectionState::Connected);
        self.send(HypervisorEvent::Connected);
    }

    /// Says so once, however often connecting fails.
    fn disconnected(&self, reason: &str) {
        let before = self.state.send_replace(ConnectionState::Disconnected(reason.to_owned()));
        if !matches!(before, ConnectionState::Disconnected(_)) {
            // Whoever follows the events says it aloud.
            tracing::debug!(reason, "libvirt is away; connecting again until it is back");
            self.send(HypervisorEvent::Disconnected(reason.to_owned()));
        }
    }
}

struct Watcher {
    connections: Arc<Connections>,
    reports: Reports,
    notes: Sender<Note>,
    inbox: Receiver<Note>,
    outlet: Outlet,
    generation: u64,
}

/// Why the watch of one connection ended.
enum End {
    Lost(&'static str),
    Stop,
}

impl Watcher {
    fn run(&mut self, on_contact: impl Fn(Contact)) {
        let mut failures = 0;
        loop {
            match self.connect() {
                Ok((conn, _subscription)) => {
                    failures = 0;
                    on_contact(Contact::Made);
                    self.outlet.connected();
                    match self.watch(&conn) {
                        End::Lost(reason) => {
                            on_contact(Contact::Lost(reason));
                            self.outlet.disconnected(reason);
                        }
                        End::Stop => break,
                    }
                }
                Err(error) => self.outlet.disconnected(&error.message),
            }
            if self.stopped_within(RECONNECT.pause(failures, jitter())) {
                break;
            }
            failures = failures.saturating_add(1);
        }
        self.outlet.state.send_replace(ConnectionState::Stopped);
    }

    fn connect(&mut self) -> Result<(Arc<Conn>, Subscription), LibvirtError> {
        self.generation += 1;
        let generation = self.generation;
        let conn = self.connections.take()?;
        let (events, closed) = (self.notes.clone(), self.notes.clone());
        let subscription = Subscription::new(
            Arc::clone(&conn),
            Arc::new(move |event| drop(events.send(Note::Domain(event)))),
            Box::new(move |reason| drop(closed.send(Note::Closed(generation, reason)))),
        )?;
        self.reports.memory.relearn(&conn)?;
        Ok((conn, subscription))
    }

    /// Reports events until the connection is lost.
    fn watch(&self, conn: &Conn) -> End {
        loop {
            match self.inbox.recv() {
                Ok(Note::Domain(event)) => self.reports.report(conn, event),
                Ok(Note::Closed(generation, reason)) if generation == self.generation => {
                    return End::Lost(reason);
                }
                Ok(Note::Closed(..)) => {}
                Ok(Note::Stop) | Err(_) => return End::Stop,
            }
        }
    }

    /// Waits; true if it is to stop.
    fn stopped_within(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) => return false,
                Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                // Left over from the lost connection.
                Ok(Note::Domain(_) | Note::Closed(..)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::tests::slow_end;

    #[tokio::test]
    async fn a_dropped_watch_has_destroyed_what_its_thread_kept_for_itself() {
        let (slow, told) = slow_end();
        let connections = Arc::new(Connections::new("test:///default"));
        let watch = Watch::start(connections, Memory::default(), move |_| slow()).unwrap();
        let mut state = watch.state();
        let connected = state.wait_for(|state| *state == ConnectionState::Connected);
        tokio::time::timeout(Duration::from_secs(20), connected).await.unwrap().unwrap();
        drop(watch);
        assert_eq!(told.try_recv(), Ok(()));
    }
}
