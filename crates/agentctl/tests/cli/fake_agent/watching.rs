//! WatchVMs and how it ends: each call plays the next of the prepared streams, or, when there is none,
//! tells all VMs and stays open.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;

use ghost_proto::agentpb::{GetVmStatusResponse, VmEvent, VmInfo, WatchVMsRequest};
use rustix::net::{Shutdown, shutdown};
use tokio::net::UnixStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::{State, detail, vm};

/// What WatchVMs answers with.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<VmEvent, Status>> + Send>>;

/// What happens behind the last event of a stream.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Nothing more, but the stream stays open.
    Open,
    /// The agent ends the stream well.
    HangUp,
    /// The agent says why not.
    Refuse(Status),
}

/// What was asked of WatchVMs, and what is to be answered.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    pub(crate) asked: Vec<String>,
    pub(crate) streams: VecDeque<(Vec<VmEvent>, Ending)>,
    /// What each VM has received more by each telling.
    pub(crate) rx_step: i64,
    connection: Option<OwnedFd>,
}

impl Watching {
    /// Remembers the newest connection, to be able to cut it.
    pub(super) fn connected(&mut self, stream: &UnixStream) {
        self.connection = Some(stream.as_fd().try_clone_to_owned().unwrap());
    }

    /// Cuts the newest connection.
    pub(crate) fn cut(&mut self) {
        shutdown(self.connection.take().unwrap(), Shutdown::Both).unwrap();
    }
}

/// An event that gave `token`, about a VM of this name and status.
pub(crate) fn event(kind: &str, token: &str, name: &str, status: &str) -> VmEvent {
    let vm = Some(detail(vm(name, status)));
    VmEvent { resume_token: token.to_owned(), kind: kind.to_owned(), vm, ..VmEvent::default() }
}

/// All were told.
pub(crate) fn synced(token: &str) -> VmEvent {
    VmEvent { resume_token: token.to_owned(), kind: "synced".to_owned(), ..VmEvent::default() }
}

/// Plays the next stream.
pub(super) fn watch(state: &mut State, request: WatchVMsRequest) -> Events {
    state.watching.asked.push(request.resume_token);
    let (events, ending) =
        state.watching.streams.pop_front().unwrap_or_else(|| (all(state), Ending::Open));
    let events = tokio_stream::iter(events.into_iter().map(Ok));
    match ending {
        Ending::Open => Box::pin(events.chain(tokio_stream::pending())),
        Ending::HangUp => Box::pin(events),
        Ending::Refuse(status) => Box::pin(events.chain(tokio_stream::once(Err(status)))),
    }
}

fn all(state: &State) -> Vec<VmEvent> {
    let told = i64::try_from(state.watching.asked.len()).unwrap();
    let tell = |info: &VmInfo| {
        let vm = GetVmStatusResponse {
            cpu_usage_percent: if info.name == "busy" { 80.0 } else { 1.0 },
            disk_used_bytes: 3 << 29,
            host_ram_bytes: 1 << 30,
            net_rx_bytes: told * state.watching.rx_step,
            ..detail(info.clone())
        };
        VmEvent {
            resume_token: "t".to_owned(),
            kind: "state".to_owned(),
            vm: Some(vm),
            ..VmEvent::default()
        }
    };
    state.vms.values().map(tell).chain([synced("t")]).collect()
}
