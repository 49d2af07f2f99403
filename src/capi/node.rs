//! Nodes: open, address, connect, close.

use std::ffi::c_char;

use tokio_util::sync::CancellationToken;

use super::{
    guard::{guard, handle_out, timeout},
    handles::{self, Object},
    host, operation, settings, strings,
    types::{CStrArg, p2p_error, p2p_node, p2p_operation, p2p_options, p2p_status},
};
use crate::{fault, node::Node};

/// Opens a node: makes or loads its key, binds its listening addresses, and returns when it is ready. options 0 is all
/// defaults: a new key, a free port of every transport on all interfaces (of the loopback interface with network=local), and
/// listeners that admit every peer. To be closed with p2p_node_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_node_open(options: p2p_options, node: *mut p2p_node, error: *mut p2p_error) -> p2p_status {
    guard(error, || {
        let node = handle_out(node, "node")?;
        let options = handles::options(options)?;
        settings::runtime()?;
        let opened = operation::wait(async move { Node::open(&options, &host::environment).await })?;
        node.set(handles::add(Object::Node(opened), 0));
        Ok(())
    })
}

/// Closes a node: stops accepting, lets streams finish for at most drain_ms (-1: as long as they take, 0: not at all), resets
/// the rest, closes all mounts, operations and connections, and wakes every call that waits on them. Returns when the local
/// ports are free. Its queues keep their events until p2p_queue_close. A close of a node that is being closed waits for
/// that and succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_node_close(node: p2p_node, drain_ms: i32, error: *mut p2p_error) -> p2p_status {
    guard(error, || {
        let drain = timeout(drain_ms, "drain_ms")?;
        handles::close(node, handles::NODE, |object| {
            let Object::Node(node) = object else { return Ok(()) };
            operation::wait(async move {
                node.close(drain).await;
                Ok(())
            })
        })
    })
}

/// p2p_node_close in the background. Cancelling the operation ends the draining: the streams that are left are reset, the
/// node is closed all the same, and the event says P2P_ERROR_CANCELLED. Closing the node again waits for it. A node that has
/// failed gives its failure, since its queues have ended: p2p_node_close closes it, and has nothing to wait for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_node_close_start(
    node: p2p_node,
    drain_ms: i32,
    operation: *mut p2p_operation,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let operation = handle_out(operation, "operation")?;
        let drain = timeout(drain_ms, "drain_ms")?;
        let opened = handles::node(node)?;
        opened.check()?;
        operation.set(operation::start_close(node, opened, drain)?);
        Ok(())
    })
}

/// Writes the node's peer id, such as "12D3KooW...", to a buffer of size bytes; P2P_PEER_ID_SIZE is enough.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_node_peer_id(
    node: p2p_node,
    buffer: *mut c_char,
    size: usize,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        fault::point("entry");
        let node = handles::node(node)?;
        strings::write(&node.peer_id().to_string(), buffer, size)
    })
}

/// Writes the node's listening addresses to a buffer of size bytes (P2P_ADDRESS_SIZE is enough for most machines): full
/// multiaddrs, comma separated, as another node's p2p_forward and p2p_connect take them. Without a listening address it is
/// the bare peer id.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_node_address(
    node: p2p_node,
    buffer: *mut c_char,
    size: usize,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let node = handles::node(node)?;
        node.check()?;
        let addresses: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
        let text = if addresses.is_empty() { node.peer_id().to_string() } else { addresses.join(",") };
        strings::write(&text, buffer, size)
    })
}

/// Connects to a peer and remembers its addresses for as long as the node lives. Returns when it is connected, at once if it
/// is already. timeout_ms: -1 waits for ever, 0 only looks. Errors: P2P_ERROR_UNREACHABLE with every address tried and why,
/// P2P_ERROR_TIMED_OUT, P2P_ERROR_BAD_PEER, P2P_ERROR_BAD_ADDRESS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_connect(
    node: p2p_node,
    peer: CStrArg<'_>,
    timeout_ms: i32,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let node = handles::node(node)?;
        let peer = strings::text(peer, "peer")?.to_owned();
        let timeout = timeout(timeout_ms, "timeout_ms")?;
        operation::wait(async move { node.connect(&peer, timeout, &CancellationToken::new()).await })
    })
}

/// p2p_connect in the background.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_connect_start(
    node: p2p_node,
    peer: CStrArg<'_>,
    timeout_ms: i32,
    operation: *mut p2p_operation,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let operation = handle_out(operation, "operation")?;
        let opened = handles::node(node)?;
        let peer = strings::text(peer, "peer")?.to_owned();
        let id = opened.check_peer(&peer)?.peer;
        let timeout = timeout(timeout_ms, "timeout_ms")?;
        let connecting = opened.clone();
        let what = format!("connecting to peer {id}");
        operation.set(operation::start((node, &opened), what, |cancel| async move {
            connecting.connect(&peer, timeout, &cancel).await.map(|()| 0)
        })?);
        Ok(())
    })
}
