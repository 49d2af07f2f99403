//! Queues of events.

use std::{ffi::c_int, os::fd::IntoRawFd, sync::Arc};

use super::{
    guard::{bits, guard, handle_out, out, timeout},
    handles::{self, Object},
    types::{P2P_EVENT_ALL, p2p_error, p2p_event, p2p_node, p2p_options, p2p_queue, p2p_status},
};
use crate::error::{Error, Status};

/// Makes a queue that gets the node's events of the kinds given (P2P_EVENT_ bits, P2P_EVENT_ALL for every kind) from now on.
/// options: queue.capacity. To be closed with p2p_queue_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_subscribe(
    node: p2p_node,
    kinds: u32,
    options: p2p_options,
    queue: *mut p2p_queue,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let queue = handle_out(queue, "queue")?;
        let opened = handles::node(node)?;
        bits(kinds, P2P_EVENT_ALL, "kinds")?;
        if kinds == 0 {
            return Err(Error::new(
                Status::InvalidArgument,
                "kinds is 0; it must have at least one of the P2P_EVENT_ bits",
            ));
        }
        let made = opened.subscribe(kinds, &handles::options(options)?)?;
        queue.set(handles::add(Object::Queue(Arc::downgrade(&opened), made), 0));
        Ok(())
    })
}

/// Takes the next event from a queue, waiting for it up to timeout_ms (-1: for ever, 0: not at all). P2P_ERROR_TIMED_OUT if
/// none came, P2P_ERROR_CLOSED if none can come any more. The event is a row, read with p2p_row_text and p2p_row_int, and is
/// to be freed with p2p_event_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_next_event(
    queue: p2p_queue,
    timeout_ms: i32,
    event: *mut p2p_event,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let event = handle_out(event, "event")?;
        let queue = handles::queue(queue)?;
        let row = queue.next(timeout(timeout_ms, "timeout_ms")?)?;
        event.set(handles::add(Object::Event(vec![row].into()), 0));
        Ok(())
    })
}

/// Gives a descriptor that is readable exactly while events wait in the queue or no more can come. Close-on-exec,
/// non-blocking, the caller's to close. Its bytes mean nothing; a loop that reads them away must do so
/// before it takes the events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_queue_fd(queue: p2p_queue, fd: *mut c_int, error: *mut p2p_error) -> p2p_status {
    guard(error, || {
        let fd = out(fd, "fd")?;
        fd.set(handles::queue(queue)?.descriptor()?.into_raw_fd());
        Ok(())
    })
}

/// Closes a queue, forgets its events and wakes who waits on it with P2P_ERROR_CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_queue_close(queue: p2p_queue) -> p2p_status {
    guard(std::ptr::null_mut(), || {
        handles::close(queue, handles::QUEUE, |object| {
            if let Object::Queue(node, queue) = object {
                queue.close("the queue");
                if let Some(node) = node.upgrade() {
                    node.unsubscribe(&queue);
                }
            }
            Ok(())
        })
    })
}

/// Frees an event and the strings read from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_event_free(event: p2p_event) -> p2p_status {
    guard(std::ptr::null_mut(), || handles::close(event, handles::EVENT, |_| Ok(())))
}
