//! The one task that owns the swarm: takes commands, passes on what happens, closes what is dead. If it panics the node
//! closes; nobody is left waiting.

use std::{
    collections::{HashMap, HashSet},
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Swarm, connection_limits,
    core::{
        transport::{ListenerId, TransportError},
        upgrade::Version,
    },
    identify,
    multiaddr::Protocol,
    pnet::PreSharedKey,
    swarm::{ConnectionId, Executor, NetworkBehaviour, SwarmEvent},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    Network, Observer, automatic_addresses, check_listening,
    connections::AGENT,
    failure, ping,
    streams::{Behaviour as Streams, Failure, OpenRequest, behaviour_limits},
    transport, yamux,
};
use crate::{
    address,
    error::{Error, Result, Status},
    fault,
    identity::Identity,
    options::Values,
    process::Descriptors,
};

/// Longest time for the listening addresses to be bound.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time that closing waits for connections to be flushed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

/// What the driver is asked to do.
pub enum Command {
    Open {
        peer: PeerId,
        request: OpenRequest,
    },
    /// The streams of this peer would be better off on more connections.
    Spread {
        peer: PeerId,
    },
    Connect {
        peer: PeerId,
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    /// Addresses that were not in the book before.
    NewAddresses {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    Refresh,
    /// Somebody who waited for this peer has gone.
    Prune {
        peer: PeerId,
    },
    ShutDown {
        done: oneshot::Sender<()>,
    },
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    streams: Streams,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

struct Driver {
    swarm: Swarm<Behaviour>,
    network: Network,
    observer: Arc<dyn Observer>,
    /// When each connection last showed a sign of life; `None` for a peer that answers no pings.
    alive: HashMap<ConnectionId, (PeerId, Option<Instant>)>,
    /// A connection without a sign of life for so long is dead.
    dead_after: Duration,
    /// Connections that were given up as dead but are not closed yet.
    given_up: HashSet<ConnectionId>,
    listeners: HashSet<ListenerId>,
    tasks: TaskTracker,
    /// A connection's task panicked.
    broken: mpsc::UnboundedReceiver<()>,
}

/// Runs the connections' tasks, and tells the driver when one of them panics.
struct Tasks {
    runtime: Handle,
    tasks: TaskTracker,
    broken: mpsc::UnboundedSender<()>,
}

impl Executor for Tasks {
    fn exec(&self, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {
        let broken = self.broken.clone();
        let task = async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                let _ = broken.send(());
            }
        };
        self.tasks.spawn_on(task, &self.runtime);
    }
}

/// Builds the swarm, binds its addresses and starts its task.
pub async fn start(
    network: &Network,
    identity: &Identity,
    (options, network_key): (&Values, Option<PreSharedKey>),
    descriptors: &Descriptors,
    observer: Arc<dyn Observer>,
    inbox: mpsc::UnboundedReceiver<Command>,
    runtime: &Handle,
) -> Result<()> {
    let tasks = TaskTracker::new();
    let (broken_sender, broken) = mpsc::unbounded_channel();
    let executor = Tasks { runtime: runtime.clone(), tasks: tasks.clone(), broken: broken_sender };
    let config = libp2p::swarm::Config::with_executor(executor)
        // How long a connection may be idle is known to its handler.
        .with_idle_connection_timeout(Duration::ZERO)
        .with_max_negotiating_inbound_streams(1024)
        // What is opened is known: the proposal travels with what follows it.
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_per_connection_event_buffer_size(64);
    let transport = transport::build(identity.keypair(), transport_config(options, network_key))?;
    let swarm = Swarm::new(transport, behaviour(network, identity, options, descriptors), network.peer, config);
    let mut driver = Driver {
        swarm,
        network: network.clone(),
        observer,
        alive: HashMap::new(),
        dead_after: options.duration("ping.interval") + 2 * options.duration("ping.timeout"),
        given_up: HashSet::new(),
        listeners: HashSet::new(),
        tasks,
        broken,
    };
    driver.listen(options).await?;
    let observer = driver.observer.clone();
    runtime.spawn(async move {
        if AssertUnwindSafe(driver.run(inbox)).catch_unwind().await.is_err() {
            observer.failed(Error::new(
                Status::Internal,
                "an internal error stopped the node's network; this is a defect of the library",
            ));
        }
    });
    Ok(())
}

fn transport_config(options: &Values, network_key: Option<PreSharedKey>) -> transport::Config {
    let keep_alive = options.duration("connection.keep_alive");
    let has = |name: &str| options.list("transports").any(|transport| transport == name);
    transport::Config {
        tcp: has("tcp"),
        quic: has("quic"),
        ws: has("ws"),
        security: options.list("security").map(str::to_owned).collect(),
        local: options.text("network") == "local",
        network_key,
        yamux: yamux::Config {
            receive_window_max: u32::try_from(options.size("stream.window")).unwrap_or(u32::MAX),
            connection_window_max: options.size("connection.window"),
            frame_size: options.size("connection.frame"),
            // A peer that overruns this is reset a whole flock: for each stream that is refused it opens the next at once.
            accept_backlog: 2 * options.size("connection.backlog"),
            ack_backlog: options.size("connection.backlog"),
            keep_alive: Some(yamux::KeepAlive { interval: keep_alive, timeout: keep_alive }),
            budget: Some(Arc::new(yamux::Budget::new(options.size("buffers.max")))),
            ..yamux::Config::default()
        },
        connect_timeout: Duration::from_secs(20),
    }
}

fn behaviour(network: &Network, identity: &Identity, options: &Values, descriptors: &Descriptors) -> Behaviour {
    let limit = |most: usize| Some(u32::try_from(most).unwrap_or(u32::MAX));
    let most = match options.size("connections.max") {
        0 => descriptors.connections(),
        most => most,
    };
    let pending = options.size("connections.pending").min(descriptors.pending_connections());
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(limit(pending))
        .with_max_established_per_peer(limit(options.size("connections.per_peer")))
        .with_max_established(limit(most));
    let agent = format!("{AGENT}{}", env!("CARGO_PKG_VERSION"));
    let identify = identify::Config::new("ipfs/0.1.0".into(), identity.keypair().public())
        .with_agent_version(agent)
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    let ping = ping::Config::new()
        .with_interval(options.duration("ping.interval"))
        .with_timeout(options.duration("ping.timeout"));
    Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        streams: Streams::new(
            network.connections.clone(),
            network.book.clone(),
            network.registry.clone(),
            behaviour_limits(options),
        ),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping),
    }
}

impl Driver {
    /// Binds the listening addresses; returns when each has a real one.
    async fn listen(&mut self, options: &Values) -> Result<()> {
        let automatic = options.text("listen.addresses") == "auto";
        let wanted = match options.text("listen.addresses") {
            "auto" => automatic_addresses(options),
            text => address::parse_listen_multiaddrs(text)?,
        };
        let mut waiting: HashMap<ListenerId, Multiaddr> = HashMap::new();
        for address in wanted {
            check_listening(&address, options)?;
            match self.swarm.listen_on(address.clone()) {
                Ok(id) => {
                    self.listeners.insert(id);
                    waiting.insert(id, address);
                }
                // A machine without IPv6 still has a node.
                Err(error) if automatic && is_without_ipv6(&address, &error) => {}
                Err(error) => return Err(cannot_listen(&address, error)),
            }
        }
        let deadline = Instant::now() + LISTEN_TIMEOUT;
        while !waiting.is_empty() {
            let Ok(event) = timeout_at(deadline, self.swarm.select_next_some()).await else {
                let addresses: Vec<String> = waiting.values().map(Multiaddr::to_string).collect();
                let sentence = format!("listening address {} was not bound in time", addresses.join(", "));
                return Err(Error::new(Status::TimedOut, sentence));
            };
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => drop(waiting.remove(listener_id)),
                SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                    if let (Some(address), Err(error)) = (waiting.remove(listener_id), reason) {
                        return Err(cannot_listen(
                            &address,
                            TransportError::Other(io::Error::other(failure::root_cause(error))),
                        ));
                    }
                }
                _ => {}
            }
            self.happened(event);
        }
        Ok(())
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut check = tokio::time::interval((self.dead_after / 8).max(Duration::from_millis(10)));
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::ShutDown { done }) => {
                        // Closing the inbox makes every later call fail at once instead of waiting.
                        inbox.close();
                        self.shut_down().await;
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.obey(command),
                    None => return self.shut_down().await,
                },
                event = self.swarm.select_next_some() => self.happened(event),
                _ = check.tick(), if !self.alive.is_empty() => self.bury_the_dead(),
                Some(()) = self.broken.recv() => {
                    let sentence = "an internal error stopped a connection; this is a defect of the library";
                    self.observer.failed(Error::new(Status::Internal, sentence));
                    return;
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        fault::point("driver");
        let streams = &mut self.swarm.behaviour_mut().streams;
        match command {
            Command::Open { peer, request } => streams.open(peer, request),
            Command::Spread { peer } => streams.spread(peer),
            Command::Connect { peer, reply } => streams.connect(peer, reply),
            Command::NewAddresses { peer, addresses } => streams.new_addresses(peer, addresses),
            Command::Refresh => streams.refresh(),
            Command::Prune { peer } => streams.prune(peer),
            Command::ShutDown { .. } => {}
        }
    }

    fn happened(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                self.alive.insert(connection_id, (peer_id, Some(Instant::now())));
                if let Some(connection) = self.network.connections.get(connection_id, &peer_id) {
                    tracing::info!(peer = %peer_id, address = %connection.address, outbound = connection.outbound, "connected");
                    // The swarm still counts connections that were given up.
                    if self.network.connections.count(&peer_id) == 1 {
                        self.observer.peer_connected(&connection);
                    }
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.alive.remove(&connection_id);
                if self.given_up.remove(&connection_id) {
                    return;
                }
                let reason = cause.map_or_else(|| "closed".to_owned(), |cause| failure::root_cause(&cause));
                tracing::info!(peer = %peer_id, reason, "connection closed");
                if !self.network.is_connected(&peer_id) {
                    self.observer.peer_disconnected(&peer_id, &reason);
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => self.address_changed(address, true),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.address_changed(address, false),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                self.listeners.remove(&listener_id);
                if let Err(error) = reason {
                    tracing::error!("a listening address failed: {}", failure::root_cause(&error));
                }
                for address in addresses {
                    self.address_changed(address, false);
                }
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!("accepting a connection failed: {}", failure::root_cause(&error))
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                let reason = failure::describe_listen(&error);
                tracing::info!(address = %send_back_addr, reason, "inbound connection failed");
                if let libp2p::swarm::ListenError::Denied { .. } = error {
                    let sentence = format!("connection from {send_back_addr} was refused: {reason}");
                    self.observer.connection_refused(&Error::new(Status::Limit, sentence));
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.pinged(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                peer_id,
                info,
            })) => {
                if let Some(connection) = self.network.connections.get(connection_id, &peer_id) {
                    *connection.shared.agent.lock() = crate::error::quote(&info.agent_version).into_owned();
                }
            }
            _ => {}
        }
    }

    fn pinged(&mut self, ping::Event { peer, connection, result }: ping::Event) {
        match result {
            Ok(time) => {
                self.alive.insert(connection, (peer, Some(Instant::now())));
                if let Some(connection) = self.network.connections.get(connection, &peer) {
                    let microseconds = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
                    connection.shared.rtt_us.store(microseconds, Ordering::Relaxed);
                }
            }
            Err(ping::Failure::Unsupported) => drop(self.alive.insert(connection, (peer, None))),
            // Protocols are agreed on lazily: libp2p's ping does not see that it was refused.
            Err(error) if failure::is_refusal(&error) => drop(self.alive.insert(connection, (peer, None))),
            // Whether the connection is dead is a matter of time, which libp2p's ping does not keep: it stays silent about a
            // first failure, and takes ten seconds for another try.
            Err(error) => tracing::debug!(%peer, "ping failed: {error}"),
        }
    }

    /// Closes connections without a sign of life. Closing a TCP connection may wait for a peer that will never answer, so the
    /// connection counts as gone from now on.
    fn bury_the_dead(&mut self) {
        let dead = |(_, seen): &(PeerId, Option<Instant>)| seen.is_some_and(|seen| seen.elapsed() > self.dead_after);
        let dead: Vec<_> =
            self.alive.iter().filter(|(_, state)| dead(state)).map(|(id, (peer, _))| (*id, *peer)).collect();
        for (id, peer) in dead {
            let reason = format!("no ping was answered for {} ms", self.dead_after.as_millis());
            tracing::info!(%peer, reason, "connection is dead");
            self.alive.remove(&id);
            self.given_up.insert(id);
            self.swarm.close_connection(id);
            self.swarm.behaviour_mut().streams.lost(peer, id);
            if !self.network.is_connected(&peer) {
                self.observer.peer_disconnected(&peer, &reason);
            }
        }
    }

    fn address_changed(&self, mut address: Multiaddr, new: bool) {
        if !matches!(address.iter().last(), Some(Protocol::P2p(_))) {
            address.push(Protocol::P2p(self.network.peer));
        }
        let mut addresses = self.network.addresses.write();
        let known = addresses.contains(&address);
        match (new, known) {
            (true, false) => addresses.push(address.clone()),
            (false, true) => addresses.retain(|other| *other != address),
            _ => return,
        }
        drop(addresses);
        self.observer.address_changed(&address, new);
    }

    /// Closes the connections, flushed as far as a few seconds allow; when this returns the ports are free.
    async fn shut_down(mut self) {
        self.swarm.behaviour_mut().streams.abandon();
        let mut open = HashSet::new();
        for connection in self.network.connections.all().into_iter().flatten() {
            open.insert(connection.id);
            self.swarm.close_connection(connection.id);
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while !open.is_empty() {
            let Ok(event) = timeout_at(deadline, self.swarm.select_next_some()).await else { break };
            if let SwarmEvent::ConnectionClosed { connection_id, .. } = &event {
                open.remove(connection_id);
            }
            self.happened(event);
        }
        // A listener says that it is closed when its port is free.
        for id in self.listeners.clone() {
            if !self.swarm.remove_listener(id) {
                self.listeners.remove(&id);
            }
        }
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        while !self.listeners.is_empty() {
            let Ok(event) = timeout_at(deadline, self.swarm.select_next_some()).await else { break };
            self.happened(event);
        }
        let Driver { swarm, tasks, .. } = self;
        drop(swarm);
        tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await;
    }
}

/// Whether `address` cannot be bound because the machine has no IPv6.
fn is_without_ipv6(address: &Multiaddr, error: &TransportError<io::Error>) -> bool {
    let TransportError::Other(error) = error else { return false };
    let number = failure::root_errno(error);
    address.iter().any(|part| matches!(part, Protocol::Ip6(_)))
        && matches!(number, Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT))
}

fn cannot_listen(address: &Multiaddr, error: TransportError<io::Error>) -> Error {
    match error {
        TransportError::MultiaddrNotSupported(_) => Error::new(
            Status::BadAddress,
            format!("listening address {address} is not of a transport that the node has"),
        ),
        TransportError::Other(error) => {
            let number = failure::root_errno(&error);
            let in_use = number == Some(libc::EADDRINUSE);
            let status = if in_use { Status::AddressInUse } else { Status::System };
            let reason = if in_use {
                " is already in use".into()
            } else {
                format!(" cannot be bound: {}", failure::root_cause(&error))
            };
            let mut error = Error::new(status, format!("listening address {address}{reason}"));
            error.system_error = number.unwrap_or(0);
            error
        }
    }
}
