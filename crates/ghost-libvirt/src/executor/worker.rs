//! A thread that makes calls.

use std::sync::Arc;

use super::queue::Queue;
use crate::connections::Connections;
use crate::failure::Failure;
use crate::sys::LibvirtError;
use crate::threads::Threads;

/// Starts a worker. It ends when the queue is closed, or when its place was taken while it hung.
pub(super) fn spawn(
    threads: &Arc<Threads>,
    queue: &Arc<Queue>,
    connections: &Arc<Connections>,
) -> std::io::Result<()> {
    let (work, connections) = (Arc::clone(queue), Arc::clone(connections));
    queue.enter();
    let started = threads.spawn("libvirt-call", move || serve(&work, &connections));
    if started.is_err() {
        queue.leave();
    }
    started
}

fn serve(queue: &Queue, connections: &Connections) {
    while let Some(job) = queue.next() {
        job.run(connections, queue);
    }
    if queue.is_closed() {
        // Here, and not by whoever stops us: only threads that are joined may have used libvirt.
        connections.close_idle();
    }
}

/// The system has no thread for us.
pub(super) fn no_thread(error: std::io::Error) -> Failure {
    let message = format!("no thread for calls of libvirt: {error}");
    Failure::Unavailable { source: LibvirtError::own(virt_sys::VIR_ERR_SYSTEM_ERROR, message) }
}
