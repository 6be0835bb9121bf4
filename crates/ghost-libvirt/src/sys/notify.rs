//! What libvirt tells unasked. The callbacks run on the event loop's thread: they must not block
//! and must not call libvirt.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use uuid::Uuid;
use virt_sys as c;

use super::conn::Conn;
use super::domain::uuid_of;
use super::error::LibvirtError;
use super::handle::{check, copy_string};

/// Why a connection ended whose other end fell silent.
pub(crate) const LIBVIRTD_HANGS: &str = "libvirtd does not answer";

/// A change of a domain's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LifecycleEvent {
    /// Whose.
    pub(crate) uuid: Uuid,
    /// `virDomainEventType`.
    pub(crate) event: i32,
    /// Its detail; the meaning depends on the event.
    pub(crate) detail: i32,
}

/// An I/O error of a guest's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IoErrorEvent {
    /// Whose.
    pub(crate) uuid: Uuid,
    /// `virDomainEventIOErrorAction`.
    pub(crate) action: i32,
    /// Why, in libvirt's word; may be empty.
    pub(crate) reason: String,
}

/// Something that happened to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DomainEvent {
    /// Its life changed.
    Lifecycle(LifecycleEvent),
    /// Its disk failed; told before the change that follows from it.
    IoError(IoErrorEvent),
}

type OnEvent = Arc<dyn Fn(DomainEvent) + Send + Sync>;
type OnClose = Box<dyn Fn(&'static str) + Send + Sync>;
/// A callback as libvirt stores it (`VIR_DOMAIN_EVENT_CALLBACK`), before it casts it back.
type Stored = unsafe extern "C" fn(c::virConnectPtr, c::virDomainPtr, *mut c_void);

/// Callbacks of one connection, registered until this is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    conn: Arc<Conn>,
    events: Vec<c_int>,
    close: Closing,
}

/// Whether libvirt took the close callback: a driver without a server has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    Reported,
    Never,
}

impl Subscription {
    /// Calls `on_event` for whatever happens to any domain, and `on_close` with the reason when the
    /// connection is lost.
    pub(crate) fn new(
        conn: Arc<Conn>,
        on_event: OnEvent,
        on_close: OnClose,
    ) -> Result<Self, LibvirtError> {
        let close = register_close(&conn, on_close)?;
        // Whole at once: its drop takes back what was registered, should the next one fail.
        let mut new = Self { conn, events: Vec::new(), close };
        for (id, callback) in [
            (c::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, stored_io_error()),
            (c::VIR_DOMAIN_EVENT_ID_LIFECYCLE, stored_lifecycle()),
        ] {
            new.events.push(register(&new.conn, id, callback, Arc::clone(&on_event))?);
        }
        Ok(new)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for event in &self.events {
            // SAFETY: registered by `new`, on this connection. It fails if the connection is lost; libvirt
            // then frees the callback with the connection.
            unsafe { c::virConnectDomainEventDeregisterAny(self.conn.raw(), *event) };
        }
        unregister_close(&self.conn, self.close);
    }
}

fn stored_lifecycle() -> Stored {
    type Typed =
        unsafe extern "C" fn(c::virConnectPtr, c::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
    // SAFETY: the documented cast: libvirt casts it back before the call.
    unsafe { std::mem::transmute::<Typed, Stored>(lifecycle) }
}

fn stored_io_error() -> Stored {
    type Typed = unsafe extern "C" fn(
        c::virConnectPtr,
        c::virDomainPtr,
        *const c_char,
        *const c_char,
        c_int,
        *const c_char,
        *mut c_void,
    );
    // SAFETY: the documented cast: libvirt casts it back before the call.
    unsafe { std::mem::transmute::<Typed, Stored>(io_error) }
}

fn register(
    conn: &Conn,
    id: c::virDomainEventID,
    callback: Stored,
    sink: OnEvent,
) -> Result<c_int, LibvirtError> {
    let sink: *mut OnEvent = Box::into_raw(Box::new(sink));
    // SAFETY: a null domain stands for all; libvirt owns the sink until it calls `free_event`.
    let registered = check(unsafe {
        c::virConnectDomainEventRegisterAny(
            conn.raw(),
            std::ptr::null_mut(),
            id.cast_signed(),
            Some(callback),
            sink.cast(),
            Some(free_event),
        )
    });
    if registered.is_err() {
        // SAFETY: libvirt did not take it.
        drop(unsafe { Box::from_raw(sink) });
    }
    registered
}

fn register_close(conn: &Conn, sink: OnClose) -> Result<Closing, LibvirtError> {
    let sink: *mut OnClose = Box::into_raw(Box::new(sink));
    // SAFETY: libvirt owns the sink until it calls `free_close`.
    let returned = unsafe {
        c::virConnectRegisterCloseCallback(conn.raw(), Some(closed), sink.cast(), Some(free_close))
    };
    let Err(error) = check(returned) else { return Ok(Closing::Reported) };
    // SAFETY: libvirt did not take it.
    drop(unsafe { Box::from_raw(sink) });
    if error.is_unsupported() { Ok(Closing::Never) } else { Err(error) }
}

fn unregister_close(conn: &Conn, close: Closing) {
    if close == Closing::Reported {
        // SAFETY: registered on this connection, which it would keep open otherwise.
        unsafe { c::virConnectUnregisterCloseCallback(conn.raw(), Some(closed)) };
    }
}

unsafe extern "C" fn lifecycle(
    _conn: c::virConnectPtr,
    domain: c::virDomainPtr,
    event: c_int,
    detail: c_int,
    sink: *mut c_void,
) -> c_int {
    // SAFETY: the sink that was registered with this callback; the domain lives during the call.
    let (sink, uuid) = unsafe { (&*sink.cast::<OnEvent>(), uuid_of(domain)) };
    if let Ok(uuid) = uuid {
        sink(DomainEvent::Lifecycle(LifecycleEvent { uuid, event, detail }));
    }
    0
}

unsafe extern "C" fn io_error(
    _conn: c::virConnectPtr,
    domain: c::virDomainPtr,
    _path: *const c_char,
    _device: *const c_char,
    action: c_int,
    reason: *const c_char,
    sink: *mut c_void,
) {
    // SAFETY: the sink that was registered with this callback; domain and reason live during the call.
    let (sink, uuid, reason) =
        unsafe { (&*sink.cast::<OnEvent>(), uuid_of(domain), copy_string(reason)) };
    if let Ok(uuid) = uuid {
        sink(DomainEvent::IoError(IoErrorEvent { uuid, action, reason }));
    }
}

unsafe extern "C" fn closed(_conn: c::virConnectPtr, reason: c_int, sink: *mut c_void) {
    // SAFETY: the sink that was registered with this callback.
    let sink = unsafe { &*sink.cast::<OnClose>() };
    sink(match u32::try_from(reason) {
        Ok(c::VIR_CONNECT_CLOSE_REASON_EOF) => "libvirtd closed the connection",
        Ok(c::VIR_CONNECT_CLOSE_REASON_KEEPALIVE) => LIBVIRTD_HANGS,
        Ok(c::VIR_CONNECT_CLOSE_REASON_CLIENT) => "closed by the agent",
        _ => "the connection to libvirtd failed",
    });
}

unsafe extern "C" fn free_event(sink: *mut c_void) {
    // SAFETY: made by `register`, and libvirt calls this once, after the last callback.
    drop(unsafe { Box::from_raw(sink.cast::<OnEvent>()) });
}

unsafe extern "C" fn free_close(sink: *mut c_void) {
    // SAFETY: made by `register_close`, and libvirt calls this once, after the last callback.
    drop(unsafe { Box::from_raw(sink.cast::<OnClose>()) });
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use super::*;

    #[test]
    fn real_qemu_a_subscription_that_is_dropped_frees_its_callbacks_and_its_connection() {
        let (alive, freed) = channel::<()>();
        let (in_events, in_close) = (alive.clone(), alive);
        let conn = Arc::new(Conn::open("qemu:///system").unwrap());
        let subscription = Subscription::new(
            Arc::clone(&conn),
            Arc::new(move |_| in_events.send(()).unwrap_or_default()),
            Box::new(move |_| in_close.send(()).unwrap_or_default()),
        );
        drop((subscription.unwrap(), conn));
        let end = std::iter::repeat_with(|| freed.recv_timeout(Duration::from_secs(10)))
            .find(|got| got.is_err());
        assert_eq!(end, Some(Err(RecvTimeoutError::Disconnected)));
    }
}
