//! The forwarding side: each client of the listen address gets a stream of its own to the peer.

use std::{
    fmt,
    future::{pending, poll_fn},
    io,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use libp2p::PeerId;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};

use super::{
    Mount, MountEnd, Shared, State, Tunnel, carry,
    listener::no_descriptor,
    local::{Acceptor, LocalListener, LocalStream},
    run_mount,
    splice::first_bytes,
    stays_local,
    streams::{Origin, Permit},
};
use crate::{
    address::{LocalAddress, PeerAddress},
    error::{Error, Result, Status},
    events::kind,
    fault,
    network::{Failed, Pin, TunnelStream},
    options::{Options, Scope},
    process::{self, Descriptor},
    protocol::ProtocolName,
    rows::Row,
};

/// First and longest pause between attempts to connect again.
const RECONNECT_FIRST: Duration = Duration::from_millis(500);
const RECONNECT_LONGEST: Duration = Duration::from_secs(60);
/// Longest pause after the system had no descriptor to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long, and how many bytes, a target may take to answer a client that went without a word, before it is reset.
const LEAVE_TIME: Duration = Duration::from_secs(1);
const LEAVE_BYTES: usize = 64 * 1024;

/// Keeps a forward's peer connected once the forward is in use.
#[derive(Default)]
pub struct Supervision {
    /// Held from the first use on: the connection is not closed as idle.
    pin: Mutex<Option<Pin>>,
    changed: Notify,
}

impl Supervision {
    /// The connection may be closed again when it is idle.
    pub fn release(&self) {
        self.pin.lock().take();
    }
}

/// A forward whose listen address is bound and which nobody can use yet. Dropped, nothing is left of it.
pub struct Prepared {
    mount: Arc<Mount>,
    listener: LocalListener,
    verify: bool,
    /// Closing the node waits for this, so that the port is free afterwards.
    _task: TaskTrackerToken,
}

/// Checks everything about a forward that needs no peer, and binds its listen address. Needs a runtime.
pub fn prepare(shared: &Arc<Shared>, [protocol, listen, peer]: [&str; 3], options: &Options) -> Result<Prepared> {
    let task = shared.tasks.token();
    let (values, local_only) = {
        let node = shared.options.read();
        (node.child(Scope::Forward, options)?, node.text("network") == "local")
    };
    let protocol = ProtocolName::parse(protocol, values.bool("protocol.custom"))?;
    let listen = LocalAddress::parse_listen(listen)?;
    if local_only {
        stays_local("listen address", &listen)?;
    }
    let PeerAddress { peer, addresses } = PeerAddress::parse(peer)?;
    check_peer(shared, &peer, &addresses)?;
    let listener = LocalListener::bind(&listen)?;
    shared.network.add_addresses(peer, addresses);
    let verify = values.bool("verify");
    let end = MountEnd::Forward { listen: listener.address.clone(), peer, supervision: Supervision::default() };
    let mount = Mount::new(protocol, end, values, shared.hub.clone());
    Ok(Prepared { mount, listener, verify, _task: task })
}

impl fmt::Display for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mount.fmt(f)
    }
}

impl Prepared {
    /// Registers the forward with `add`, which may refuse, and starts accepting; with `verify` opens one stream before, to see
    /// whether the peer can be reached and offers the protocol.
    pub async fn start(
        self,
        shared: &Arc<Shared>,
        add: impl FnOnce(&Arc<Mount>) -> Result<()>,
        cancelled: &CancellationToken,
    ) -> Result<Arc<Mount>> {
        let Prepared { mount, listener, verify, _task } = self;
        let MountEnd::Forward { peer, .. } = &mount.end else {
            return Err(Error::new(Status::Internal, "a forward that was prepared is a listener"));
        };
        if verify && let Err(error) = verified(shared, &mount, *peer, cancelled).await {
            return Err(error.context(&mount));
        }
        if shared.network.is_connected(peer) {
            mount.status.lock().0 = State::Connected;
        }
        add(&mount)?;
        run_mount(shared, &mount, accept(shared.clone(), mount.clone(), listener));
        mount.report(mount.state(), None);
        Ok(mount)
    }
}

/// Refuses peers that cannot be reached whatever happens.
fn check_peer(shared: &Shared, peer: &PeerId, addresses: &[libp2p::Multiaddr]) -> Result<()> {
    if *peer == shared.network.peer_id() {
        return Err(Error::new(
            Status::BadPeer,
            format!("peer {peer} is this node itself; a forward needs another node's peer id"),
        ));
    }
    shared.network.check_reachable(peer, addresses)
}

async fn verified(shared: &Arc<Shared>, mount: &Arc<Mount>, peer: PeerId, cancelled: &CancellationToken) -> Result<()> {
    let time = mount.options().duration("open.timeout");
    tokio::select! {
        biased;
        () = shared.closing.cancelled() => Err(Error::closed("the node")),
        () = cancelled.cancelled() => Err(Error::cancelled("verifying")),
        stream = shared.network.open_stream(peer, &mount.protocol, time, pending()) => {
            shared.tasks.spawn_on(take_leave(shared.clone(), stream?), &shared.runtime);
            engage(shared, mount);
            Ok(())
        }
    }
}

/// Ends a stream that only was to show that it can be opened, so that the target sees a client that came and went.
async fn take_leave(shared: Arc<Shared>, mut stream: TunnelStream) {
    let leave = async {
        poll_fn(|cx| stream.poll_close(cx)).await.map_err(Failed::Stream)?;
        let mut left = LEAVE_BYTES;
        while left > 0 {
            let taken = poll_fn(|cx| {
                stream.poll_receive(cx, |_, bytes| Poll::Ready(Ok(bytes.iter().map(|part| part.len()).sum())))
            })
            .await?;
            if taken == 0 {
                break;
            }
            left = left.saturating_sub(taken);
        }
        Ok::<_, Failed>(())
    };
    tokio::select! {
        () = shared.closing.cancelled() => {}
        _ = tokio::time::timeout(LEAVE_TIME, leave) => {}
    }
}

async fn accept(shared: Arc<Shared>, mount: Arc<Mount>, listener: LocalListener) -> Result<()> {
    let sockets = listener.sockets.iter().map(|socket| Box::pin(accept_from(&shared, &mount, socket)));
    let supervisor = supervise(&shared, &mount);
    tokio::select! {
        biased;
        () = mount.closed.cancelled() => Ok(()),
        (result, ..) = futures::future::select_all(sockets) => result,
        () = supervisor => Ok(()),
    }
}

/// Accepts clients as long as there are descriptors for them; returns only when the socket is broken.
async fn accept_from(shared: &Arc<Shared>, mount: &Arc<Mount>, socket: &Acceptor) -> Result<()> {
    let mut pause = Duration::from_millis(10);
    loop {
        let descriptor = descriptor(mount).await;
        match socket.accept().await {
            Ok((client, origin)) => {
                fault::point("mount");
                pause = Duration::from_millis(10);
                admit(shared, mount, client, origin, descriptor);
            }
            Err(error) if is_exhausted(&error) => {
                paused(mount, &Error::system(Status::Limit, format_args!("{mount} cannot accept"), &error));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE);
            }
            // The client has gone before it was accepted.
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionAborted || error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(Error::system(Status::System, format_args!("{mount} cannot accept any more"), &error));
            }
        }
    }
}

/// EMFILE and its kin: no fault of the socket, and it passes.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Waits for a descriptor; clients wait in the socket's queue meanwhile.
async fn descriptor(mount: &Mount) -> Descriptor {
    let budget = process::descriptors();
    let mut told = false;
    loop {
        if let Some(descriptor) = budget.try_take_for_client() {
            return descriptor;
        }
        if !told {
            paused(mount, &no_descriptor());
            told = true;
        }
        budget.freed().await;
    }
}

/// Accepting pauses; it goes on by itself.
fn paused(mount: &Mount, error: &Error) {
    tracing::warn!(mount = %mount, "accepting pauses: {error}");
    mount.set_error(error);
    mount.hub.emit(kind::REFUSED, || {
        Row::new("refused")
            .int("mount", mount.handle())
            .text("protocol", mount.protocol.as_str())
            .text("listen", mount.listen_text())
            .text("state", "paused")
            .failure(Some(error))
    });
}

/// Starts the tunnel of one client, or resets it.
fn admit(shared: &Arc<Shared>, mount: &Arc<Mount>, client: LocalStream, origin: Origin, descriptor: Descriptor) {
    let MountEnd::Forward { peer, .. } = &mount.end else { return };
    match shared.streams.permit(mount, *peer, &shared.options.read()) {
        Ok(permit) => {
            let serve = serve(shared.clone(), mount.clone(), client, origin, permit, descriptor);
            shared.tasks.spawn_on(serve, &shared.runtime);
        }
        Err(error) => mount.refuse(&origin, &error),
    }
}

/// Opens a stream for one client. The client is reset if that fails.
async fn serve(
    shared: Arc<Shared>,
    mount: Arc<Mount>,
    local: LocalStream,
    origin: Origin,
    permit: Permit,
    descriptor: Descriptor,
) {
    let MountEnd::Forward { peer, .. } = &mount.end else { return };
    if !shared.network.is_connected(peer) {
        mount.set_state(State::Connecting, None);
    }
    let time = mount.options().duration("open.timeout");
    let opened = tokio::select! {
        biased;
        _ = permit.ending.asked() => return,
        () = local.was_reset() => {
            tracing::debug!(mount = %mount, %origin, "the client left before its stream was open");
            if !shared.network.is_connected(peer) {
                mount.set_state(State::Disconnected, None);
            }
            return;
        }
        opened = shared.network.open_stream(*peer, &mount.protocol, time, first_bytes(&local)) => opened,
    };
    match opened {
        Ok(stream) => {
            engage(&shared, &mount);
            mount.set_state(State::Connected, None);
            carry(&shared, &mount, Tunnel { local, stream, origin, permit, descriptor }).await;
        }
        Err(error) => {
            if !shared.network.is_connected(peer) {
                mount.set_state(State::Disconnected, Some(error.clone()));
            }
            mount.refuse(&origin, &error);
        }
    }
}

/// From the first use on, the peer's connection is kept.
fn engage(shared: &Shared, mount: &Mount) {
    let MountEnd::Forward { peer, supervision, .. } = &mount.end else { return };
    let mut pin = supervision.pin.lock();
    if pin.is_none() && mount.options().bool("reconnect") {
        *pin = Some(shared.network.pin(peer));
    }
}

/// The peer of this forward was connected or lost.
pub fn peer_changed(mount: &Mount, connected: bool, reason: &str) {
    let MountEnd::Forward { peer, supervision, .. } = &mount.end else { return };
    if connected {
        mount.set_state(State::Connected, None);
    } else {
        let error = Error::new(Status::Unreachable, format!("the connection to peer {peer} was lost: {reason}"));
        mount.set_state(State::Disconnected, Some(error));
    }
    supervision.changed.notify_one();
}

/// Connects again whenever the peer of a forward in use is lost. Never returns.
async fn supervise(shared: &Arc<Shared>, mount: &Arc<Mount>) {
    let MountEnd::Forward { peer, supervision, .. } = &mount.end else { return };
    let mut pause = RECONNECT_FIRST;
    loop {
        let lost = supervision.pin.lock().is_some() && !shared.network.is_connected(peer);
        if !lost || !mount.options().bool("reconnect") {
            pause = RECONNECT_FIRST;
            supervision.changed.notified().await;
            continue;
        }
        // A client that comes meanwhile dials at once; then there is nothing left to do here.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = supervision.changed.notified() => continue,
        }
        let time = mount.options().duration("open.timeout");
        mount.set_state(State::Connecting, None);
        if let Err(error) = shared.network.connect(*peer, Some(time)).await {
            tracing::debug!(mount = %mount, "connecting again failed: {error}");
            mount.set_state(State::Disconnected, Some(error));
        }
        pause = (pause * 2).min(RECONNECT_LONGEST);
    }
}
