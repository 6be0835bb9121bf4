//! A thread that makes calls.

use std::sync::Arc;

use super::queue::{Place, Queue};
use crate::connections::Connections;
use crate::failure::Failure;
use crate::sys::LibvirtError;

/// Starts a worker. It ends when the queue is closed, or when its place was taken while it hung.
pub(super) fn spawn(queue: &Arc<Queue>, connections: &Arc<Connections>) -> std::io::Result<()> {
    let (work, connections) = (Arc::clone(queue), Arc::clone(connections));
    queue.enter();
    let started = std::thread::Builder::new().name("libvirt-call".to_owned()).spawn(move || {
        serve(&work, &connections);
        work.leave();
    });
    if started.is_err() {
        queue.leave();
    }
    started.map(drop)
}

fn serve(queue: &Queue, connections: &Connections) {
    while let Some(job) = queue.next() {
        if job.run(connections) == Place::Taken {
            return;
        }
    }
}

/// The system has no thread for us.
pub(super) fn no_thread(error: std::io::Error) -> Failure {
    let message = format!("no thread for calls of libvirt: {error}");
    Failure::Unavailable { source: LibvirtError::own(virt_sys::VIR_ERR_SYSTEM_ERROR, message) }
}
