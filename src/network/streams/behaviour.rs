//! Brings requests for streams and the connections to carry them together: dials when there is none, spreads over several
//! when one is full, lets requests wait for a slot when all are.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    num::NonZeroU8,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, NetworkBehaviour, NotifyHandler,
        THandlerInEvent, ToSwarm,
        behaviour::{ConnectionClosed, ConnectionEstablished, ListenFailure},
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{
    OpenRequest, Registry,
    handler::{Handler, Refresh},
};
use crate::{
    address,
    network::{
        book::AddressBook,
        connections::{Business, Connection, Connections},
        failure,
    },
    options::Values,
};

/// How long no further connection is dialled beside existing ones after such a dial has failed.
const SPREAD_PAUSE: Duration = Duration::from_secs(10);
/// A connection that lives no longer than this was one too many for the peer.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
/// Head start of the preferred transport before others are dialled, as in Happy Eyeballs (RFC 8305 section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses of one peer that are dialled at the same time.
const DIAL_CONCURRENCY: NonZeroU8 = NonZeroU8::new(16).expect("16 is not 0");

/// Why a stream or connection was not made.
#[derive(Debug)]
pub enum Failure {
    /// The peer does not offer the protocol, or not to this node.
    Refused,
    TimedOut,
    /// The stream broke while it was opened.
    Broken(io::Error),
    /// No connection could be made; each address with its reason.
    Unreachable(String),
    /// Neither a connection nor an address is known.
    NoAddress,
}

impl Failure {
    /// Another connection may carry the stream. A reset is an answer of the peer, which a second try would hide.
    pub fn is_lost_connection(&self) -> bool {
        matches!(self, Failure::Broken(error) if error.kind() == io::ErrorKind::ConnectionAborted)
    }
}

pub struct Behaviour {
    connections: Arc<Connections>,
    book: Arc<AddressBook>,
    registry: Arc<Registry>,
    limits: Limits,
    peers: HashMap<PeerId, Peer>,
    arriving: HashMap<ConnectionId, Arc<Connection>>,
    actions: VecDeque<ToSwarm<std::convert::Infallible, Refresh>>,
    freed: mpsc::UnboundedReceiver<PeerId>,
    freed_sender: mpsc::UnboundedSender<PeerId>,
    /// When the head start of a peer's preferred transport is over.
    head_starts: FuturesUnordered<BoxFuture<'static, PeerId>>,
    waker: Option<Waker>,
}

/// How streams spread over the connections of a peer, and how long a connection stays without one.
pub struct Limits {
    pub connections_per_peer: usize,
    /// Connections that a busy peer is given although the others are not full; `None`: as many as there are threads to move them.
    pub spread: Option<usize>,
    /// The preferred transport first.
    pub transports: Vec<String>,
    pub idle_timeout: Duration,
}

/// The limits that a node's options set.
pub fn limits(options: &Values) -> Limits {
    Limits {
        connections_per_peer: options.size("connections.per_peer"),
        spread: Some(options.size("connections.spread")).filter(|spread| *spread > 0),
        transports: options.list("transports").map(str::to_owned).collect(),
        idle_timeout: options.duration("connection.idle_timeout"),
    }
}

#[derive(Default)]
struct Peer {
    /// Addresses that are being dialled, or will be when the head start of others is over.
    tried: Vec<Multiaddr>,
    /// Addresses that came meanwhile.
    fresh: Vec<Multiaddr>,
    /// Those of a less preferred transport, dialled if the others take long or fail.
    later: Vec<Multiaddr>,
    /// Why the dials since the last connection failed.
    reasons: Vec<String>,
    dialling: HashSet<ConnectionId>,
    /// Streams that wait for a connection.
    waiting: VecDeque<OpenRequest>,
    /// Who waits for the peer to be connected.
    connecting: Vec<oneshot::Sender<Result<(), Failure>>>,
    no_spread_until: Option<Instant>,
}

impl Behaviour {
    pub fn new(connections: Arc<Connections>, book: Arc<AddressBook>, registry: Arc<Registry>, limits: Limits) -> Self {
        let (freed_sender, freed) = mpsc::unbounded_channel();
        Behaviour {
            connections,
            book,
            registry,
            limits,
            peers: HashMap::new(),
            arriving: HashMap::new(),
            actions: VecDeque::new(),
            freed,
            freed_sender,
            head_starts: FuturesUnordered::new(),
            waker: None,
        }
    }

    /// Opens a stream to `peer`, on a connection that may have to be dialled first.
    pub fn open(&mut self, peer: PeerId, request: OpenRequest) {
        self.peers.entry(peer).or_default().waiting.push_back(request);
        self.serve(peer);
    }

    /// The connections to `peer` are busy: it gets another one, if it may have more.
    pub fn spread(&mut self, peer: PeerId) {
        self.peers.entry(peer).or_default();
        self.serve(peer);
    }

    /// Answers when `peer` is connected, dialling it if need be.
    pub fn connect(&mut self, peer: PeerId, reply: oneshot::Sender<Result<(), Failure>>) {
        if self.connections.count(&peer) > 0 {
            let _ = reply.send(Ok(()));
            return;
        }
        self.peers.entry(peer).or_default().connecting.push(reply);
        self.serve(peer);
    }

    /// The book has new addresses of `peer`. They do not wait for old ones to fail.
    pub fn new_addresses(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if let Some(state) = self.peers.get_mut(&peer).filter(|state| !state.dialling.is_empty()) {
            let tried = &state.tried;
            state.fresh.extend(addresses.into_iter().filter(|address| !tried.contains(address)));
        }
    }

    /// The offered protocols may have changed: every connection looks again.
    pub fn refresh(&mut self) {
        for connection in self.connections.all().into_iter().flatten() {
            self.actions.push_back(ToSwarm::NotifyHandler {
                peer_id: connection.peer,
                handler: NotifyHandler::One(connection.id),
                event: Refresh,
            });
        }
        self.wake();
    }

    /// Gives up dialling `peer` if nobody waits for it any more.
    pub fn prune(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.waiting.retain(|request| !request.reply.is_closed());
        state.connecting.retain(|reply| !reply.is_closed());
        let wanted = !state.waiting.is_empty() || !state.connecting.is_empty();
        if wanted || state.dialling.is_empty() || self.connections.count(&peer) > 0 {
            return;
        }
        state.later.clear();
        state.reasons.clear();
        // Whoever comes next gets a dial of its own instead of joining one that is given up.
        state.dialling.clear();
        // Without a connection this only aborts the dials.
        self.actions.push_back(ToSwarm::CloseConnection { peer_id: peer, connection: CloseConnection::All });
        self.wake();
    }

    /// Fails whatever still waits.
    pub fn abandon(&mut self) {
        self.peers.clear();
    }

    /// Sends waiting requests on their way as far as there are connections for them; dials when that helps.
    fn serve(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        loop {
            // Whoever has given up must neither take a slot nor cause a dial.
            while state.waiting.front().is_some_and(|request| request.reply.is_closed()) {
                state.waiting.pop_front();
            }
            if state.waiting.is_empty() {
                break;
            }
            let Some(connection) = self.connections.choose(&peer) else { break };
            if let Some(request) = state.waiting.pop_front() {
                connection.open(request);
            }
        }
        state.connecting.retain(|reply| !reply.is_closed());
        let connected = self.connections.count(&peer);
        let full = !state.waiting.is_empty();
        let first = self.connections.first(&peer);
        if let Some(first) = &first {
            first.shared.waits.store(full, Ordering::SeqCst);
            // A stream that ended just before has told nobody.
            if full && self.connections.choose(&peer).is_some() {
                return self.serve(peer);
            }
        }
        let wanted = if connected == 0 {
            !state.waiting.is_empty() || !state.connecting.is_empty()
        } else {
            let paused = state.no_spread_until.is_some_and(|until| Instant::now() < until);
            let spread = |least: Arc<Connection>| match self.limits.spread {
                Some(spread) if least.business() > Business::Little => spread,
                Some(_) => 1,
                None => least.suitable_spread(),
            };
            let most = if full { usize::MAX } else { first.map_or(1, spread) };
            connected < most.min(self.limits.connections_per_peer) && !paused
        };
        let fresh = std::mem::take(&mut state.fresh);
        let addresses = match (wanted, state.dialling.is_empty()) {
            (true, true) => {
                state.tried.clear();
                Some(self.book.get(&peer))
            }
            (true, false) if !fresh.is_empty() => Some(fresh),
            _ => None,
        };
        if let Some(addresses) = addresses {
            self.dial(peer, addresses);
        }
        self.wake();
    }

    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if addresses.is_empty() {
            if self.connections.count(&peer) == 0 {
                self.fail(peer, || Failure::NoAddress);
            } else {
                state.no_spread_until = Some(Instant::now() + SPREAD_PAUSE);
            }
            return;
        }
        state.tried.extend(addresses.iter().cloned());
        let has = |transport: &&String| {
            addresses.iter().any(|address| address::transport_name(address) == transport.as_str())
        };
        let preferred = self.limits.transports.iter().find(has).cloned().unwrap_or_default();
        let (now, later): (Vec<_>, Vec<_>) = addresses
            .into_iter()
            .partition(|address| preferred.is_empty() || address::transport_name(address) == preferred);
        if !later.is_empty() {
            state.later = later;
            self.head_starts.push(tokio::time::sleep(HEAD_START).map(move |()| peer).boxed());
        }
        self.dial_now(peer, now);
    }

    fn dial_now(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        tracing::debug!(%peer, ?addresses, "dialling");
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .override_dial_concurrency_factor(DIAL_CONCURRENCY)
            .addresses(addresses)
            .build();
        state.dialling.insert(opts.connection_id());
        self.actions.push_back(ToSwarm::Dial { opts });
    }

    fn fail(&mut self, peer: PeerId, failure: impl Fn() -> Failure) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        for request in state.waiting.drain(..) {
            let _ = request.reply.send(Err(failure()));
        }
        for reply in state.connecting.drain(..) {
            let _ = reply.send(Err(failure()));
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn handler(&mut self, id: ConnectionId, peer: PeerId, ends: [Option<&Multiaddr>; 2], outbound: bool) -> Handler {
        let (opens, inbox) = mpsc::unbounded_channel();
        let connection = self.connections.arriving(id, peer, ends, outbound, &self.freed_sender, opens);
        self.arriving.insert(id, connection.clone());
        Handler::new(self.registry.clone(), connection, inbox, self.limits.idle_timeout)
    }

    fn established(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(connection) = self.arriving.remove(&id) else { return };
        let (address, outbound) = (connection.address.clone(), connection.outbound);
        self.connections.add(connection);
        if outbound {
            self.book.add(peer, vec![address]);
        }
        let state = self.peers.entry(peer).or_default();
        state.dialling.remove(&id);
        state.later.clear();
        state.reasons.clear();
        for reply in state.connecting.drain(..) {
            let _ = reply.send(Ok(()));
        }
        self.serve(peer);
    }

    /// A connection is gone, or was given up.
    pub fn lost(&mut self, peer: PeerId, id: ConnectionId) {
        let refused =
            self.connections.get(id, &peer).is_some_and(|connection| connection.opened.elapsed() < REFUSED_WITHIN);
        self.connections.remove(id, &peer);
        if let Some(state) = self.peers.get_mut(&peer).filter(|_| refused) {
            state.no_spread_until = Some(Instant::now() + SPREAD_PAUSE);
        }
        self.serve(peer);
        if let Some(state) = self.peers.get(&peer) {
            let idle = state.waiting.is_empty() && state.connecting.is_empty() && state.dialling.is_empty();
            if idle && self.connections.count(&peer) == 0 {
                self.peers.remove(&peer);
            }
        }
    }

    fn dial_failed(&mut self, failed: &DialFailure<'_>) {
        self.arriving.remove(&failed.connection_id);
        let Some(peer) = failed.peer_id else { return };
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.dialling.remove(&failed.connection_id) {
            return;
        }
        let reason = failure::describe_dial(&peer, failed.error);
        tracing::info!(%peer, reason, "dialling failed");
        state.reasons.push(reason);
        let later = std::mem::take(&mut state.later);
        if !later.is_empty() {
            self.dial_now(peer, later);
            self.wake();
        } else if self.connections.count(&peer) > 0 {
            state.no_spread_until = Some(Instant::now() + SPREAD_PAUSE);
            self.serve(peer);
        } else if state.dialling.is_empty() {
            let reason = std::mem::take(&mut state.reasons).join("; ");
            self.fail(peer, || Failure::Unreachable(reason.clone()));
        }
    }

    /// The preferred transport has not brought a connection in its time: the others try, too.
    fn head_start_over(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let later = std::mem::take(&mut state.later);
        if !later.is_empty() {
            self.dial_now(peer, later);
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = std::convert::Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(id, peer, [Some(local), Some(remote)], false))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(id, peer, [None, Some(address)], true))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                self.established(peer_id, connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.lost(peer_id, connection_id);
            }
            FromSwarm::DialFailure(failed) => self.dial_failed(&failed),
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.arriving.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: std::convert::Infallible) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        while let Poll::Ready(Some(peer)) = self.freed.poll_recv(cx) {
            self.serve(peer);
        }
        while let Poll::Ready(Some(peer)) = self.head_starts.poll_next_unpin(cx) {
            self.head_start_over(peer);
        }
        if let Some(action) = self.actions.pop_front() {
            return Poll::Ready(action);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
