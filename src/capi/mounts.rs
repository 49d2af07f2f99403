//! Mounts: listen, forward, close.

use std::{ffi::c_char, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    guard::{bits, guard, handle_out, out},
    handles::{self, Object},
    operation, settings, strings,
    types::{
        CStrArg, P2P_CLOSE_ALL, P2P_CLOSE_FORWARDS, P2P_CLOSE_LISTENERS, P2P_CLOSE_STREAMS, p2p_error, p2p_mount,
        p2p_node, p2p_operation, p2p_options, p2p_status,
    },
};
use crate::{
    error::Result,
    mounts::{Filters, Kind, Mount, PreparedForward},
    node::Node,
    options::Options,
};

/// Exposes a local service: streams that peers open for protocol are connected to target_address, each by a connection of
/// its own. Contacts nobody; a target that is down shows in events and the mount's error, and is tried again for each
/// stream.
///
/// protocol: "name" means "/x/name". target_address: "127.0.0.1:8080", "[::1]:8080", "localhost:8080", "8080" (127.0.0.1),
/// "/ip4/127.0.0.1/tcp/8080", "unix:/path". mount may not be NULL. Errors: P2P_ERROR_ALREADY_REGISTERED,
/// P2P_ERROR_BAD_PROTOCOL, P2P_ERROR_BAD_ADDRESS, P2P_ERROR_BAD_OPTION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_listen(
    node: p2p_node,
    protocol: CStrArg<'_>,
    target_address: CStrArg<'_>,
    options: p2p_options,
    mount: *mut p2p_mount,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let mount = handle_out(mount, "mount")?;
        let opened = handles::node(node)?;
        let protocol = strings::text(protocol, "protocol")?;
        let target = strings::text(target_address, "target_address")?;
        let made = opened.listen(protocol, target, &handles::options(options)?)?;
        mount.set(register(node, &opened, &made)?);
        Ok(())
    })
}

/// Ties a local address to a protocol of a peer: each client that connects to listen_address gets a stream of its own to
/// peer. Binds at once. The peer is dialled when the first client comes, or now with the option verify=true: then the call
/// waits up to open.timeout and fails if the peer cannot be reached or does not offer the protocol.
///
/// listen_address: as for p2p_listen; port 0 takes a free one, which p2p_mount_address tells. peer: full multiaddrs, comma
/// separated, as p2p_node_address gives them, or a peer id that is connected or was given addresses before. Errors:
/// P2P_ERROR_ADDRESS_IN_USE, P2P_ERROR_BAD_PEER, P2P_ERROR_UNREACHABLE, P2P_ERROR_PROTOCOL_REFUSED, P2P_ERROR_TIMED_OUT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_forward(
    node: p2p_node,
    protocol: CStrArg<'_>,
    listen_address: CStrArg<'_>,
    peer: CStrArg<'_>,
    options: p2p_options,
    mount: *mut p2p_mount,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let mount = handle_out(mount, "mount")?;
        let opened = handles::node(node)?;
        let request = ForwardRequest::new(protocol, listen_address, peer, options)?;
        let prepared = request.prepare(&opened)?;
        mount.set(operation::wait(start(node, opened, prepared, CancellationToken::new()))?);
        Ok(())
    })
}

/// p2p_forward in the background. Binds at once, as p2p_forward does; the event of its end carries the mount.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_forward_start(
    node: p2p_node,
    protocol: CStrArg<'_>,
    listen_address: CStrArg<'_>,
    peer: CStrArg<'_>,
    options: p2p_options,
    operation: *mut p2p_operation,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let operation = handle_out(operation, "operation")?;
        let opened = handles::node(node)?;
        let request = ForwardRequest::new(protocol, listen_address, peer, options)?;
        let prepared = request.prepare(&opened)?;
        let what = prepared.to_string();
        operation.set(operation::start((node, &opened.clone()), what, |cancel| start(node, opened, prepared, cancel))?);
        Ok(())
    })
}

/// The arguments of a forward.
struct ForwardRequest<'a> {
    texts: [&'a str; 3],
    options: Options,
}

impl<'a> ForwardRequest<'a> {
    fn new(
        protocol: CStrArg<'a>,
        listen: CStrArg<'a>,
        peer: CStrArg<'a>,
        options: p2p_options,
    ) -> Result<ForwardRequest<'a>> {
        let texts = [
            strings::text(protocol, "protocol")?,
            strings::text(listen, "listen_address")?,
            strings::text(peer, "peer")?,
        ];
        Ok(ForwardRequest { texts, options: handles::options(options)? })
    }

    fn prepare(&self, opened: &Node) -> Result<PreparedForward> {
        let runtime = settings::runtime()?;
        let _entered = runtime.enter();
        opened.prepare_forward(self.texts, &self.options)
    }
}

/// Starts a forward that is bound.
async fn start(
    node: p2p_node,
    opened: Arc<Node>,
    prepared: PreparedForward,
    cancel: CancellationToken,
) -> Result<p2p_mount> {
    let mount = opened.start_forward(prepared, &cancel).await?;
    register(node, &opened, &mount)
}

/// Gives out the handle of a mount that is in the node's list already.
fn register(node: p2p_node, opened: &Arc<Node>, mount: &Arc<Mount>) -> Result<p2p_mount> {
    let handle = handles::add(Object::Mount(opened.clone(), mount.clone()), node);
    // The node, or this mount through a filter, may have been closed between the two steps.
    if opened.mount(mount.id()).is_none() {
        handles::forget([handle]);
        opened.check()?;
    }
    Ok(handle)
}

/// Writes a mount's local address to a buffer of size bytes: where clients connect to a forward, with its real port, or the
/// target of a listener. P2P_ADDRESS_SIZE is enough.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_mount_address(
    mount: p2p_mount,
    buffer: *mut c_char,
    size: usize,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let (_, mount) = handles::mount(mount)?;
        strings::write(&mount.address(), buffer, size)
    })
}

/// Closes one mount and returns when its port is free. Its live streams run on, or are reset with P2P_CLOSE_STREAMS, the
/// only flag.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_mount_close(mount: p2p_mount, flags: u32, error: *mut p2p_error) -> p2p_status {
    guard(error, || {
        bits(flags, P2P_CLOSE_STREAMS, "flags")?;
        handles::close(mount, handles::MOUNT, |object| {
            let Object::Mount(node, mount) = object else { return Ok(()) };
            operation::wait(async move {
                node.close_mount(&mount, flags & P2P_CLOSE_STREAMS != 0).await;
                Ok(())
            })
        })
    })
}

/// Closes every mount that fits all the filters given; NULL is no filter. protocol: a name. listen_address: a forward's, or
/// "/p2p/" and the own peer id for listeners. target: "/p2p/" and a peer id for forwards, a listener's target address. Each
/// may be written in any form and must fit exactly: port 0 does not fit a bound port.
///
/// flags: P2P_CLOSE_ALL closes everything and excludes filters; without it at least one filter is needed.
/// P2P_CLOSE_LISTENERS and P2P_CLOSE_FORWARDS restrict the kind, P2P_CLOSE_STREAMS also resets live streams. closed, which
/// may be NULL, gets the number of mounts closed; none is no error. Returns when the ports are free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_close(
    node: p2p_node,
    protocol: CStrArg<'_>,
    listen_address: CStrArg<'_>,
    target: CStrArg<'_>,
    flags: u32,
    closed: *mut usize,
    error: *mut p2p_error,
) -> p2p_status {
    guard(error, || {
        let closed = if closed.is_null() { None } else { Some(out(closed, "closed")?) };
        let node = handles::node(node)?;
        bits(flags, P2P_CLOSE_ALL | P2P_CLOSE_LISTENERS | P2P_CLOSE_FORWARDS | P2P_CLOSE_STREAMS, "flags")?;
        let own = |text, name| strings::optional(text, name).map(|text| text.map(str::to_owned));
        let texts = [own(protocol, "protocol")?, own(listen_address, "listen_address")?, own(target, "target")?];
        settings::runtime()?;
        let found = operation::wait(async move {
            let [protocol, listen, target] = &texts;
            let kind = match (flags & P2P_CLOSE_LISTENERS != 0, flags & P2P_CLOSE_FORWARDS != 0) {
                (true, false) => Some(Kind::Listener),
                (false, true) => Some(Kind::Forward),
                _ => None,
            };
            let filters = Filters {
                protocol: protocol.as_deref(),
                listen: listen.as_deref(),
                target: target.as_deref(),
                all: flags & P2P_CLOSE_ALL != 0,
                kind,
                streams: flags & P2P_CLOSE_STREAMS != 0,
            };
            node.close_mounts(&filters).await
        })?;
        handles::forget(found.iter().map(|mount| mount.handle()));
        if let Some(closed) = closed {
            closed.set(found.len());
        }
        Ok(())
    })
}

/// Resets one stream at both ends; stream_id is the field id of its row. P2P_ERROR_NOT_FOUND if it has ended.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn p2p_stream_close(node: p2p_node, stream_id: u64, error: *mut p2p_error) -> p2p_status {
    guard(error, || handles::node(node)?.close_stream(stream_id))
}
