//! What the library is for: listeners, which expose a local target under a protocol name, and forwards, which tie a local
//! listen address to a peer.

mod access;
mod forward;
mod listener;
mod local;
mod registry;
mod socket;
mod splice;
mod streams;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures::FutureExt;
use libp2p::PeerId;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use self::{
    access::Access,
    local::LocalStream,
    splice::splice,
    streams::{LiveStream, Origin, Permit, StreamTable},
};
pub use self::{
    forward::{Prepared as PreparedForward, prepare as prepare_forward},
    registry::{Filters, Mounts},
    streams::Reason,
};
use crate::{
    address::LocalAddress,
    error::{Error, Result, Status, quote},
    events::{Hub, kind},
    network::{Network, TunnelStream},
    options::Values,
    process::{Descriptor, next_id},
    protocol::ProtocolName,
    rows::Row,
};

/// Low bits of a mount's handle: mounts are known by it in lists and events.
pub const HANDLE_KIND_BITS: u32 = 3;
pub const MOUNT_HANDLE_KIND: u64 = 2;

/// What all mounts of a node share.
pub struct Shared {
    pub network: Network,
    pub hub: Arc<Hub>,
    pub streams: Arc<StreamTable>,
    /// The node's options.
    pub options: RwLock<Values>,
    /// The node is closing: nothing new begins.
    pub closing: CancellationToken,
    pub tasks: TaskTracker,
    pub runtime: tokio::runtime::Handle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Listener,
    Forward,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Listener => "listener",
            Kind::Forward => "forward",
        }
    }
}

/// What a mount is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Listener: streams are accepted.
    Listening,
    /// Forward: nobody has used it yet, so the peer was not dialled.
    Idle,
    /// Forward: the peer is being dialled.
    Connecting,
    Connected,
    Disconnected,
    /// It cannot go on; `error` says why.
    Failed,
    Closed,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Listening => "listening",
            State::Idle => "idle",
            State::Connecting => "connecting",
            State::Connected => "connected",
            State::Disconnected => "disconnected",
            State::Failed => "failed",
            State::Closed => "closed",
        }
    }
}

/// A listener or a forward.
pub struct Mount {
    id: u64,
    protocol: ProtocolName,
    end: MountEnd,
    options: RwLock<Values>,
    status: Mutex<(State, Option<Error>)>,
    streams: AtomicUsize,
    streams_total: AtomicU64,
    /// Those that the peer or the network ended before their time.
    streams_cut: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Nothing more is accepted.
    closed: CancellationToken,
    /// The sockets and the registration are gone.
    released: CancellationToken,
    hub: Arc<Hub>,
}

/// What a mount has at its two ends.
pub enum MountEnd {
    Listener { target: LocalAddress, own: PeerId, access: Arc<Access> },
    Forward { listen: LocalAddress, peer: PeerId, supervision: forward::Supervision },
}

impl Mount {
    fn new(protocol: ProtocolName, end: MountEnd, options: Values, hub: Arc<Hub>) -> Arc<Self> {
        let state = match end {
            MountEnd::Listener { .. } => State::Listening,
            MountEnd::Forward { .. } => State::Idle,
        };
        Arc::new(Mount {
            id: next_id(),
            protocol,
            end,
            options: RwLock::new(options),
            status: Mutex::new((state, None)),
            streams: AtomicUsize::new(0),
            streams_total: AtomicU64::new(0),
            streams_cut: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            closed: CancellationToken::new(),
            released: CancellationToken::new(),
            hub,
        })
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    /// The number by which the C API, lists and events know the mount.
    pub fn handle(&self) -> u64 {
        self.id << HANDLE_KIND_BITS | MOUNT_HANDLE_KIND
    }

    pub fn kind(&self) -> Kind {
        match self.end {
            MountEnd::Listener { .. } => Kind::Listener,
            MountEnd::Forward { .. } => Kind::Forward,
        }
    }

    pub fn protocol(&self) -> &ProtocolName {
        &self.protocol
    }

    pub fn end(&self) -> &MountEnd {
        &self.end
    }

    pub fn options(&self) -> RwLockReadGuard<'_, Values> {
        self.options.read()
    }

    pub fn state(&self) -> State {
        self.status.lock().0
    }

    /// Streams that are open or being opened.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn count_stream(&self, more: bool) {
        if more {
            self.streams.fetch_add(1, Ordering::Relaxed);
        } else {
            self.streams.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Where clients connect to a forward; the target of a listener.
    pub fn address(&self) -> String {
        match &self.end {
            MountEnd::Listener { target, .. } => target.to_string(),
            MountEnd::Forward { listen, .. } => listen.to_string(),
        }
    }

    pub fn listen_text(&self) -> String {
        match &self.end {
            MountEnd::Listener { own, .. } => format!("/p2p/{own}"),
            MountEnd::Forward { listen, .. } => listen.to_string(),
        }
    }

    pub fn target_text(&self) -> String {
        match &self.end {
            MountEnd::Listener { target, .. } => target.to_string(),
            MountEnd::Forward { peer, .. } => format!("/p2p/{peer}"),
        }
    }

    /// Adds the bytes of a stream that has ended.
    fn settle(&self, [received, sent]: [u64; 2]) {
        self.bytes_in.fetch_add(received, Ordering::Relaxed);
        self.bytes_out.fetch_add(sent, Ordering::Relaxed);
    }

    /// The mount as a row of a list; `live` is what its live streams have received and sent.
    fn row(&self, live: [u64; 2]) -> Row {
        let status = self.status.lock();
        let error = status.1.as_ref();
        let row = Row::new(self.kind().name())
            .int("id", self.handle())
            .text("protocol", self.protocol.as_str())
            .text("listen", self.listen_text())
            .text("target", self.target_text())
            .text("state", status.0.name())
            .text("error", error.map_or("", |error| &error.message))
            .int("error_code", error.map_or(0, |error| error.status as i32))
            .int("system_error", error.map_or(0, |error| error.system_error))
            .int("flags", error.map_or(0, Error::flags))
            .int("streams", self.streams())
            .int("streams_total", self.streams_total.load(Ordering::Relaxed))
            .int("streams_cut", self.streams_cut.load(Ordering::Relaxed))
            .int("bytes_in", self.bytes_in.load(Ordering::Relaxed) + live[0])
            .int("bytes_out", self.bytes_out.load(Ordering::Relaxed) + live[1]);
        match &self.end {
            MountEnd::Listener { access, .. } => row.text("access", access.describe()),
            MountEnd::Forward { peer, listen, .. } => {
                row.text("peer", peer.to_string()).int("all_interfaces", u8::from(listen.all_interfaces()))
            }
        }
    }

    /// Enters a state, with an event if it is another one. A closed or failed mount stays so.
    fn set_state(&self, state: State, error: Option<Error>) {
        let mut status = self.status.lock();
        let before = status.0;
        if matches!(before, State::Closed) || (before == State::Failed && state != State::Closed) {
            return;
        }
        status.0 = state;
        if error.is_some() {
            status.1 = error.clone();
        }
        drop(status);
        if state != before {
            self.report(state, error);
        }
    }

    fn report(&self, state: State, error: Option<Error>) {
        tracing::info!(mount = %self, state = state.name(), error = error.as_ref().map_or("", |error| &*error.message), "mount");
        self.hub.emit(kind::MOUNT, || {
            let row = Row::new("mount")
                .int("mount", self.handle())
                .text("state", state.name())
                .text("protocol", self.protocol.as_str())
                .text("listen", self.listen_text())
                .text("target", self.target_text())
                .failure(error.as_ref());
            match &self.end {
                MountEnd::Forward { peer, .. } => row.text("peer", peer.to_string()),
                MountEnd::Listener { .. } => row,
            }
        });
    }

    /// Nothing more is accepted.
    fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    fn set_error(&self, error: &Error) {
        self.status.lock().1 = Some(error.clone());
    }

    /// Stops accepting; the sockets go soon after, see `released`.
    fn close(&self) {
        self.closed.cancel();
        if let MountEnd::Forward { supervision, .. } = &self.end {
            supervision.release();
        }
        self.set_state(State::Closed, None);
    }

    /// Something that concerns one client or stream was refused.
    fn refuse(&self, origin: &Origin, error: &Error) {
        tracing::warn!(mount = %self, %origin, error = %error, "refused");
        self.set_error(error);
        let kind = if error.status == Status::TargetRefused { kind::TARGET_REFUSED } else { kind::REFUSED };
        self.hub.emit(kind, || {
            Row::new(if kind == kind::TARGET_REFUSED { "target refused" } else { "refused" })
                .int("mount", self.handle())
                .text("protocol", self.protocol.as_str())
                .text("origin", origin.to_string())
                .text("target", self.target_text())
                .failure(Some(error))
        });
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            MountEnd::Listener { .. } => write!(f, "listener {}", quote(self.protocol.as_str())),
            MountEnd::Forward { listen, .. } => write!(f, "forward {} on {listen}", quote(self.protocol.as_str())),
        }
    }
}

/// Runs the accepting task of a mount. When it ends the sockets are gone; when it panics the mount has failed.
fn run_mount<F>(shared: &Arc<Shared>, mount: &Arc<Mount>, task: F)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mount = mount.clone();
    let released = mount.released.clone().drop_guard();
    shared.tasks.spawn_on(
        async move {
            let result = AssertUnwindSafe(task).catch_unwind().await;
            let failed = match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some(Error::new(
                    Status::Internal,
                    format!("an internal error stopped {mount}; this is a defect of the library"),
                )),
            };
            if let Some(error) = failed {
                mount.closed.cancel();
                mount.set_state(State::Failed, Some(error));
            }
            drop(released);
        },
        &shared.runtime,
    );
}

/// What one tunnelled connection holds while it lives.
struct Tunnel {
    local: LocalStream,
    stream: TunnelStream,
    origin: Origin,
    permit: Permit,
    descriptor: Descriptor,
}

/// Refuses what leaves the machine; for nodes with network=local.
fn stays_local(what: &str, address: &LocalAddress) -> Result<()> {
    let reason = match address {
        LocalAddress::Dns { .. } => {
            "is a name, and names are not looked up with network=local; give an IP address or localhost"
        }
        LocalAddress::Tcp(address) if !address.ip().to_canonical().is_loopback() => {
            "is not a loopback address, and network=local allows no other"
        }
        _ => return Ok(()),
    };
    Err(Error::new(Status::BadAddress, format!("{what} {address} {reason}")))
}

/// Moves a stream's bytes until it ends: why it did.
async fn copy(local: &LocalStream, stream: &mut TunnelStream, live: &LiveStream) -> Reason {
    let copying = AssertUnwindSafe(splice(local, stream, &live.bytes)).catch_unwind();
    tokio::select! {
        biased;
        reason = live.ending.asked() => reason,
        end = copying => end.map_or(Reason::Internal, Reason::from),
    }
}

/// The same, in a task of another runtime than the one that has looked out for the local side so far.
async fn copy_elsewhere(mut local: LocalStream, mut stream: TunnelStream, live: Arc<LiveStream>) -> Reason {
    local.follow();
    copy(&local, &mut stream, &live).await
}

/// Carries one stream from its opening to its end, with its events and counters.
async fn carry(shared: &Arc<Shared>, mount: &Arc<Mount>, tunnel: Tunnel) {
    let Tunnel { local, mut stream, origin, permit, descriptor } = tunnel;
    let live = shared.streams.add(&permit, origin, stream.connection().clone());
    mount.streams_total.fetch_add(1, Ordering::Relaxed);
    shared.hub.emit(kind::STREAM_OPENED, || live.event("stream opened"));
    tracing::debug!(mount = %mount, stream = live.id, origin = %live.origin, peer = %live.peer(), "stream opened");
    live.bytes.sent.fetch_add(stream.early() as u64, Ordering::Relaxed);
    let reason = match stream.second_thread() {
        None => {
            let reason = copy(&local, &mut stream, &live).await;
            // Dropping what has not ended resets it.
            drop((local, stream));
            reason
        }
        Some(thread) => {
            let moved = copy_elsewhere(local, stream, live.clone());
            AbortOnDropHandle::new(thread.spawn(moved)).await.unwrap_or(Reason::Internal)
        }
    };
    drop(descriptor);
    shared.streams.settle(&live);
    if reason.is_cut() {
        mount.streams_cut.fetch_add(1, Ordering::Relaxed);
    }
    let [received, sent] = live.bytes.totals();
    let error = reason.error(live.id, mount.kind(), received);
    if let Some(error) = error.as_ref().filter(|_| reason.is_trouble()) {
        mount.set_error(error);
    }
    drop(permit);
    tracing::debug!(mount = %mount, stream = live.id, reason = reason.text(), received, sent, "stream closed");
    shared.hub.emit(kind::STREAM_CLOSED, || {
        live.event("stream closed")
            .text("reason", reason.text())
            .failure(error.as_ref())
            .int("bytes_in", received)
            .int("bytes_out", sent)
    });
}
