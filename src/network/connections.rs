//! Which connections there are to whom, and which one a new stream takes: `Connections::choose` is the place to change that.
//! When a connection is dialled, and over which transport first, `streams::behaviour` decides.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, StreamProtocol, multiaddr::Protocol, swarm::ConnectionId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use super::streams::OpenRequest;
use crate::address;

/// Streams on every connection to a peer before another is made for its own sake.
pub const BUSY: usize = 4;

/// Streams that one connection is given, if no option says otherwise: with another p2pmount, and with others, many of which
/// drop a connection at stream 513, and on QUIC let the one after stream 256 wait for ever.
const STREAMS_SAME_KIND: usize = 8000;
const STREAMS: usize = 500;
const STREAMS_QUIC: usize = 250;

/// The agent that a p2pmount calls itself is this and its version.
pub const AGENT: &str = "p2pmount/";

/// One established connection.
pub struct Connection {
    pub id: ConnectionId,
    pub peer: PeerId,
    /// The remote end.
    pub address: Multiaddr,
    pub outbound: bool,
    pub relayed: bool,
    pub opened: Instant,
    streams: AtomicUsize,
    /// Whoever waits for a stream to end on a full connection is told through this.
    freed: mpsc::UnboundedSender<PeerId>,
    /// To the connection's handler.
    opens: mpsc::UnboundedSender<Opening>,
    /// When it was last used, in nanoseconds since it was opened.
    used: AtomicU64,
    asked_for_company: AtomicBool,
    /// Protocols that the peer has agreed to on this connection and not refused since.
    agreed: Mutex<HashSet<StreamProtocol>>,
    pub shared: Arc<PeerShared>,
}

/// A request for a stream on its way to the connection that was chosen for it.
#[derive(Debug)]
pub struct Opening {
    pub request: OpenRequest,
    pub guard: StreamGuard,
}

impl Connection {
    pub fn transport(&self) -> &'static str {
        address::transport_name(&self.address)
    }

    pub fn path(&self) -> &'static str {
        if self.relayed { "relayed" } else { "direct" }
    }

    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    /// The smaller, the better for a new stream.
    fn rank(&self) -> (bool, usize) {
        (self.relayed, self.streams())
    }

    /// Opens a stream. The one who waits learns it, too, when the connection is gone already.
    pub fn open(self: &Arc<Self>, request: OpenRequest) {
        let _ = self.opens.send(Opening { request, guard: self.stream() });
    }

    /// Whether this connection alone has become too busy. Asked for once, it is true once.
    pub fn wants_company(&self) -> bool {
        self.streams() >= BUSY && !self.asked_for_company.swap(true, Ordering::Relaxed)
    }

    pub fn has_agreed(&self, protocol: &StreamProtocol) -> bool {
        self.agreed.lock().contains(protocol)
    }

    /// The peer has agreed to a protocol, or refused it.
    pub fn answered(&self, protocol: &StreamProtocol, agreed: bool) {
        let mut protocols = self.agreed.lock();
        if !agreed {
            protocols.remove(protocol);
        } else if !protocols.contains(protocol) {
            protocols.insert(protocol.clone());
        }
    }

    /// Streams use it, or forwards want it to stay.
    pub fn is_in_use(&self) -> bool {
        self.streams() > 0 || self.shared.pinned()
    }

    /// Since when it is idle if it is not in use.
    pub fn idle_since(&self) -> Instant {
        self.opened + Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    fn touch(&self) {
        let now = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.used.fetch_max(now, Ordering::Relaxed);
    }

    /// Counts one more stream for as long as the guard lives.
    pub fn stream(self: &Arc<Self>) -> StreamGuard {
        self.streams.fetch_add(1, Ordering::Relaxed);
        StreamGuard { connection: self.clone() }
    }
}

/// A stream that is being opened or open on a connection.
pub struct StreamGuard {
    pub connection: Arc<Connection>,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.connection.touch();
        self.connection.streams.fetch_sub(1, Ordering::SeqCst);
        if self.connection.shared.waits.load(Ordering::SeqCst) {
            let _ = self.connection.freed.send(self.connection.peer);
        }
    }
}

/// What the connections of one peer have in common.
#[derive(Default)]
pub struct PeerShared {
    /// Forwards that want a connection to stay although no stream uses it.
    pins: AtomicUsize,
    /// Streams wait for a slot.
    pub waits: AtomicBool,
    /// Last round trip in microseconds, -1 before the first ping.
    pub rtt_us: AtomicI64,
    pub agent: Mutex<String>,
}

impl PeerShared {
    /// Another p2pmount, which takes as many streams as it is sent.
    fn is_same_kind(&self) -> bool {
        self.agent.lock().starts_with(AGENT)
    }

    pub fn pinned(&self) -> bool {
        self.pins.load(Ordering::Acquire) > 0
    }
}

/// Every established connection of the node. Written by the driver, read by lists.
pub struct Connections {
    /// Most streams of one connection, 0 for what suits the peer.
    streams_per_connection: usize,
    peers: RwLock<HashMap<PeerId, Peer>>,
}

#[derive(Default)]
struct Peer {
    shared: Arc<PeerShared>,
    connections: Vec<Arc<Connection>>,
}

impl Connections {
    pub fn new(streams_per_connection: usize) -> Self {
        Connections { streams_per_connection, peers: RwLock::default() }
    }

    /// A connection that is about to be established; `add` puts it in the table.
    pub fn arriving(
        &self,
        id: ConnectionId,
        peer: PeerId,
        [local, remote]: [Option<&Multiaddr>; 2],
        outbound: bool,
        freed: &mpsc::UnboundedSender<PeerId>,
        opens: mpsc::UnboundedSender<Opening>,
    ) -> Arc<Connection> {
        let relayed = |address: &Multiaddr| address.iter().any(|part| part == Protocol::P2pCircuit);
        Arc::new(Connection {
            id,
            peer,
            address: remote.map(without_peer).unwrap_or_else(Multiaddr::empty),
            outbound,
            relayed: local.is_some_and(relayed) || remote.is_some_and(relayed),
            opened: Instant::now(),
            streams: AtomicUsize::new(0),
            freed: freed.clone(),
            opens,
            used: AtomicU64::new(0),
            asked_for_company: AtomicBool::new(false),
            agreed: Mutex::default(),
            shared: self.shared(&peer),
        })
    }

    /// Adds a connection; true if it is the first one with this peer.
    pub fn add(&self, connection: Arc<Connection>) -> bool {
        let mut peers = self.peers.write();
        let entry = peers
            .entry(connection.peer)
            .or_insert_with(|| Peer { shared: connection.shared.clone(), connections: Vec::new() });
        let first = entry.connections.is_empty();
        if first {
            entry.shared.rtt_us.store(-1, Ordering::Relaxed);
        }
        entry.connections.push(connection);
        first
    }

    /// Removes a connection; true if it was the last one with this peer.
    pub fn remove(&self, id: ConnectionId, peer: &PeerId) -> bool {
        let mut peers = self.peers.write();
        let Some(entry) = peers.get_mut(peer) else { return false };
        let before = entry.connections.len();
        entry.connections.retain(|connection| connection.id != id);
        let last = before > 0 && entry.connections.is_empty();
        peers.retain(|_, peer| !peer.connections.is_empty() || peer.shared.pinned());
        last
    }

    /// The connection that the next stream to `peer` takes: direct before relayed, then the one with the fewest streams;
    /// none if all are full.
    pub fn choose(&self, peer: &PeerId) -> Option<Arc<Connection>> {
        let peers = self.peers.read();
        let peer = peers.get(peer)?;
        let same_kind = peer.shared.is_same_kind();
        let limit = |connection: &Connection| match self.streams_per_connection {
            0 if same_kind => STREAMS_SAME_KIND,
            0 if connection.transport() == "quic" => STREAMS_QUIC,
            0 => STREAMS,
            limit => limit,
        };
        let usable = peer.connections.iter().filter(|connection| connection.streams() < limit(connection));
        usable.min_by_key(|connection| connection.rank()).cloned()
    }

    /// The same among the full ones, too.
    pub fn first(&self, peer: &PeerId) -> Option<Arc<Connection>> {
        self.peers.read().get(peer)?.connections.iter().min_by_key(|connection| connection.rank()).cloned()
    }

    pub fn get(&self, id: ConnectionId, peer: &PeerId) -> Option<Arc<Connection>> {
        self.peers.read().get(peer)?.connections.iter().find(|connection| connection.id == id).cloned()
    }

    pub fn count(&self, peer: &PeerId) -> usize {
        self.peers.read().get(peer).map_or(0, |peer| peer.connections.len())
    }

    /// The connections of every connected peer, the one a stream would take first.
    pub fn all(&self) -> Vec<Vec<Arc<Connection>>> {
        let peers = self.peers.read();
        let connected = peers.values().filter(|peer| !peer.connections.is_empty());
        connected
            .map(|peer| {
                let mut connections = peer.connections.clone();
                connections.sort_by_key(|connection| connection.rank());
                connections
            })
            .collect()
    }

    fn shared(&self, peer: &PeerId) -> Arc<PeerShared> {
        self.peers.write().entry(*peer).or_default().shared.clone()
    }

    /// Keeps connections to `peer` open until it is taken back.
    pub fn pin(&self, peer: &PeerId) {
        // Within the lock: an entry that nothing keeps is removed.
        self.peers.write().entry(*peer).or_default().shared.pins.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back one `pin`.
    pub fn unpin(&self, peer: &PeerId) {
        let peers = self.peers.read();
        let Some(peer) = peers.get(peer) else { return };
        peer.connections.iter().for_each(|connection| connection.touch());
        // Who sees that it is gone sees since when.
        peer.shared.pins.fetch_sub(1, Ordering::Release);
    }
}

/// `address` without a `/p2p/<peer id>` at its end.
fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address
}
