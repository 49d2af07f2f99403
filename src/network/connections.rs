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
use crate::{address, process};

/// Streams on every connection to a peer before another is made for its own sake.
const BUSY: usize = 4;

/// How long a connection that has asked for another beside it asks no more.
const ASKS_AGAIN: Duration = Duration::from_secs(10);

/// For so long a connection counts as loaded after a stream has moved much.
const LOADED: Duration = Duration::from_millis(250);

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
    /// It moves on the [second thread](process::second_thread): one of several to this peer. What is small does better on the
    /// first, where it need not change threads on its way.
    pub second: bool,
    pub opened: Instant,
    streams: AtomicUsize,
    /// Whoever waits for a stream to end on a full connection is told through this.
    freed: mpsc::UnboundedSender<PeerId>,
    /// To the connection's handler.
    opens: mpsc::UnboundedSender<Opening>,
    /// When it was last used, in nanoseconds since it was opened.
    used: AtomicU64,
    /// When a stream had last moved much, in nanoseconds since it was opened; 0 if none has.
    loaded: AtomicU64,
    /// When it last asked for another connection beside it, and how busy it was then.
    asked: Mutex<Option<(Business, Instant)>>,
    /// Protocols that the peer has agreed to on this connection and not refused since.
    agreed: Mutex<HashSet<StreamProtocol>>,
    pub shared: Arc<PeerShared>,
}

/// How busy a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Business {
    Little,
    /// It has [`BUSY`] streams or more.
    Many,
    /// At least two, and one of them moves much.
    Loaded,
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
    fn rank(&self) -> (bool, bool, bool, usize) {
        let loaded = self.is_loaded();
        (self.relayed, loaded, self.second && !loaded, self.streams())
    }

    /// Whether some of its streams have moved much in the last moment.
    pub fn is_loaded(&self) -> bool {
        is_recent(self.loaded.load(Ordering::Relaxed), self.now())
    }

    pub fn has_moved_much(&self) {
        self.loaded.store(self.now(), Ordering::Relaxed);
    }

    /// Opens a stream. The one who waits learns it, too, when the connection is gone already.
    pub fn open(self: &Arc<Self>, request: OpenRequest) {
        let _ = self.opens.send(Opening { request, guard: self.stream() });
    }

    /// How busy it is: with many streams, or with one that moves much while there are others.
    pub fn business(&self) -> Business {
        match self.streams() {
            2.. if self.is_loaded() => Business::Loaded,
            BUSY.. => Business::Many,
            _ => Business::Little,
        }
    }

    /// How many connections the peer should have if this one is the least busy of them: as many as there are threads to move them.
    pub fn suitable_spread(&self) -> usize {
        match self.business() {
            Business::Little => 1,
            _ if !process::may_have_second_thread() => process::threads(),
            Business::Loaded if is_movable(&self.address, self.relayed) => 2,
            _ => 1,
        }
    }

    /// Whether this connection alone has become too busy, or busier than that. It is true once for each, and now and then again:
    /// another connection may have been lost, or not come about.
    pub fn wants_company(&self) -> bool {
        let business = self.business();
        if business == Business::Little {
            return false;
        }
        let mut asked = self.asked.lock();
        let asks = asked.is_none_or(|(before, time)| business > before || time.elapsed() >= ASKS_AGAIN);
        if asks {
            *asked = Some((business, Instant::now()));
        }
        asks
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
        self.used.fetch_max(self.now(), Ordering::Relaxed);
    }

    /// Nanoseconds since it was opened.
    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
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
        let through_relay = |address: &Multiaddr| address.iter().any(|part| part == Protocol::P2pCircuit);
        let relayed = local.is_some_and(through_relay) || remote.is_some_and(through_relay);
        let address = remote.map(without_peer).unwrap_or_else(Multiaddr::empty);
        let second = process::may_have_second_thread() && is_movable(&address, relayed) && self.first_has_more(&peer);
        Arc::new(Connection {
            id,
            peer,
            address,
            outbound,
            relayed,
            second,
            opened: Instant::now(),
            streams: AtomicUsize::new(0),
            freed: freed.clone(),
            opens,
            used: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
            asked: Mutex::default(),
            agreed: Mutex::default(),
            shared: self.shared(&peer),
        })
    }

    /// Of the connections of `peer` that could be on either thread, more are on the first.
    fn first_has_more(&self, peer: &PeerId) -> bool {
        let peers = self.peers.read();
        let movable = peers.get(peer).into_iter().flat_map(|peer| &peer.connections);
        let movable = movable.filter(|connection| is_movable(&connection.address, connection.relayed));
        let (second, first): (Vec<_>, Vec<_>) = movable.partition(|connection| connection.second);
        first.len() > second.len()
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

    /// The connection that the next stream to `peer` takes: direct before relayed, one on which little moves before others, and
    /// of these one that moves on the first thread, then the one with the fewest streams; none if all are full.
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

/// Whether what happened at `time`, 0 for never, counts `now`; both in nanoseconds.
fn is_recent(time: u64, now: u64) -> bool {
    time > 0 && u128::from(now.saturating_sub(time)) < LOADED.as_nanos()
}

/// Whether a connection moves in a task of its own, over a socket of its own: not those over QUIC, or through a relay.
fn is_movable(address: &Multiaddr, relayed: bool) -> bool {
    !relayed && address::transport_name(address) != "quic"
}

/// `address` without a `/p2p/<peer id>` at its end.
fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections of one peer to these addresses.
    fn connections(addresses: &[&str]) -> (Connections, PeerId, Vec<Arc<Connection>>) {
        let (connections, peer) = (Connections::new(0), PeerId::random());
        let arrive = |(number, address): (usize, &&str)| {
            let (freed, opens) = (mpsc::unbounded_channel().0, mpsc::unbounded_channel().0);
            let address = address.parse().unwrap();
            let id = ConnectionId::new_unchecked(number);
            let connection = connections.arriving(id, peer, [None, Some(&address)], true, &freed, opens);
            connections.add(connection.clone());
            connection
        };
        let made = addresses.iter().enumerate().map(arrive).collect();
        (connections, peer, made)
    }

    /// For as long as the test runs.
    fn load(connection: &Connection) {
        connection.has_moved_much();
        assert!(connection.loaded.swap(u64::MAX, Ordering::Relaxed) > 0);
    }

    const TCP: &str = "/ip4/127.0.0.1/tcp/1";

    #[test]
    fn a_stream_takes_a_connection_on_which_little_moves_then_the_one_with_fewer_streams() {
        let (connections, peer, made) = connections(&[TCP, TCP]);
        let chosen = || connections.choose(&peer).unwrap().id;
        let first = [made[0].stream(), made[0].stream()];
        assert_eq!(chosen(), made[1].id, "it has fewer streams");
        load(&made[1]);
        assert_eq!(chosen(), made[0].id, "little moves on it");
        load(&made[0]);
        assert_eq!(chosen(), made[1].id, "it has fewer streams, and as much moves on both");
        drop(first);
    }

    #[test]
    fn a_connection_is_loaded_for_a_moment() {
        let moment = LOADED.as_nanos() as u64;
        for (time, now, recent) in
            [(0, 0, false), (7, 7, true), (8, 7, true), (7, 6 + moment, true), (7, 7 + moment, false)]
        {
            assert_eq!(is_recent(time, now), recent, "{time} {now}");
        }
    }

    #[test]
    fn a_connection_asks_for_company_once_it_is_busy_and_again_once_it_is_loaded() {
        let (_, _, made) = connections(&[TCP]);
        let connection = &made[0];
        let mut streams = vec![connection.stream(), connection.stream()];
        assert!(!connection.wants_company());
        streams.extend([connection.stream(), connection.stream()]);
        assert_eq!([connection.wants_company(), connection.wants_company()], [true, false]);
        load(connection);
        assert_eq!([connection.wants_company(), connection.wants_company()], [true, false]);
        let before = connection.asked.lock().map(|(business, time)| (business, time.checked_sub(ASKS_AGAIN).unwrap()));
        *connection.asked.lock() = before;
        assert_eq!([connection.wants_company(), connection.wants_company()], [true, false], "ten seconds later");
    }

    #[test]
    fn those_over_quic_or_a_relay_stay_where_they_are() {
        let relayed = format!("{TCP}/p2p/{}/p2p-circuit", PeerId::random());
        for (address, movable) in
            [(TCP, true), ("/ip4/127.0.0.1/tcp/1/ws", true), ("/ip4/127.0.0.1/udp/1/quic-v1", false), (&relayed, false)]
        {
            let (_, _, made) = connections(&[address]);
            assert_eq!(is_movable(&made[0].address, made[0].relayed), movable, "{address}");
        }
    }
}
