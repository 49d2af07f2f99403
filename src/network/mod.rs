//! How a stream reaches a peer. Nothing here knows what a mount is: streams are opened to a peer under a protocol name, and
//! arrive for whoever registered one.

mod book;
mod connections;
mod driver;
mod failure;
mod frames;
mod loopback;
mod peer_socket;
mod ping;
mod private;
mod protocols;
mod quic;
mod security;
mod streams;
mod tls;
mod transport;
mod websocket;
mod yamux;

use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, StreamProtocol};
use parking_lot::RwLock;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

#[cfg(feature = "plaintext-bench")]
pub use self::security::disable_encryption;
use self::{
    book::AddressBook,
    connections::Connections,
    driver::Command,
    streams::{Failure, OpenRequest, Registry},
};
pub use self::{
    connections::Connection,
    streams::{Admission, Failed, Inbound, Registration, TunnelStream, with_scratch},
};
use crate::{
    address,
    error::{Error, Result, Status, quote},
    identity::Identity,
    options::Values,
    process::Descriptors,
    protocol::ProtocolName,
};

/// First and last pause before a stream whose connection went down while it was opened is asked for again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
const RETRY_PAUSE_LAST: Duration = Duration::from_secs(2);

/// Learns what happens in the network.
pub trait Observer: Send + Sync {
    fn peer_connected(&self, connection: &Connection);
    fn peer_disconnected(&self, peer: &PeerId, reason: &str);
    /// A listening address of the node, complete with its peer id, is new or gone.
    fn address_changed(&self, address: &Multiaddr, new: bool);
    fn connection_refused(&self, error: &Error);
    /// The network has stopped and cannot go on.
    fn failed(&self, error: Error);
}

/// A node's network.
#[derive(Clone)]
pub struct Network {
    peer: PeerId,
    commands: mpsc::UnboundedSender<Command>,
    connections: Arc<Connections>,
    registry: Arc<Registry>,
    addresses: Arc<RwLock<Vec<Multiaddr>>>,
    book: Arc<AddressBook>,
    local: bool,
}

/// Keeps connections to a peer from being closed as idle.
pub struct Pin {
    peer: PeerId,
    connections: Arc<Connections>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.connections.unpin(&self.peer);
    }
}

impl Network {
    /// Starts the network and returns when the listening addresses are bound. `options` are the node's; a default among them
    /// that cannot be is changed to what is.
    pub async fn start(
        identity: &Identity,
        options: &mut Values,
        descriptors: &Descriptors,
        observer: Arc<dyn Observer>,
        runtime: &Handle,
    ) -> Result<Network> {
        let key = private::network_key(options)?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let network = Network {
            peer: identity.peer_id(),
            commands,
            connections: Arc::new(Connections::new(options.size("connection.streams"))),
            registry: Arc::default(),
            addresses: Arc::default(),
            book: Arc::default(),
            local: options.text("network") == "local",
        };
        driver::start(&network, identity, (options, key), descriptors, observer, inbox, runtime).await?;
        Ok(network)
    }

    pub fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// The listening addresses, complete with the peer id.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.addresses.read().clone()
    }

    /// The connections of every connected peer, the one a new stream would take first.
    pub fn connections(&self) -> Vec<Vec<Arc<Connection>>> {
        self.connections.all()
    }

    pub fn is_connected(&self, peer: &PeerId) -> bool {
        self.connections.count(peer) > 0
    }

    /// Remembers where `peer` can be reached, for as long as the node lives.
    pub fn add_addresses(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let fresh = self.book.add(peer, addresses);
        if !fresh.is_empty() {
            let _ = self.commands.send(Command::NewAddresses { peer, addresses: fresh });
        }
    }

    /// Refuses a peer of whom no address is known, or none that this node may dial.
    pub fn check_reachable(&self, peer: &PeerId, addresses: &[Multiaddr]) -> Result<()> {
        if addresses.is_empty() {
            let known = self.is_connected(peer) || self.book.knows(peer);
            return if known { Ok(()) } else { Err(no_address(peer)) };
        }
        if self.local && !addresses.iter().any(address::is_loopback) {
            return Err(Error::new(
                Status::BadAddress,
                format!(
                    "peer address {}/p2p/{peer} is not a loopback address, and network=local allows no other",
                    addresses[0]
                ),
            ));
        }
        Ok(())
    }

    /// Keeps connections to `peer` from being closed as idle.
    pub fn pin(&self, peer: &PeerId) -> Pin {
        self.connections.pin(peer);
        Pin { peer: *peer, connections: self.connections.clone() }
    }

    /// Offers `protocol` to the peers that `admission` admits; `None` if it is offered already.
    pub fn register(&self, protocol: &ProtocolName, admission: Arc<dyn Admission>) -> Option<Registration> {
        let registration = self.registry.register(stream_protocol(protocol).ok()?, admission)?;
        self.offers_changed();
        Some(registration)
    }

    /// To be called when an `Admission` answers otherwise than before, or a protocol was taken back.
    pub fn offers_changed(&self) {
        self.registry.changed();
        let _ = self.commands.send(Command::Refresh);
    }

    /// Returns when `peer` is connected, dialling it if need be, within `time` if there is a limit. Dropping the future gives
    /// up.
    pub async fn connect(&self, peer: PeerId, time: Option<Duration>) -> Result<()> {
        let deadline = time.and_then(|time| Instant::now().checked_add(time));
        let (reply, answer) = oneshot::channel();
        self.send(Command::Connect { peer, reply })?;
        let _interest = Interest { network: self, peer };
        match within(deadline, answer).await {
            Err(_) => {
                let time = time.unwrap_or_default().as_millis();
                Err(timed_out(format!("peer {peer} could not be reached within {time} ms{}", self.tried(&peer))))
            }
            Ok(Err(_)) => Err(Error::closed("the node")),
            Ok(Ok(answer)) => answer.map_err(|failure| explain(&peer, None, failure)),
        }
    }

    /// Opens a stream to `peer` within `time`, dialling it if need be. Dropping the future gives up.
    ///
    /// What `first` gives is sent before the peer has agreed to the protocol, if it did so on the same connection before: that
    /// saves a round trip. Another peer would take it for something else, and it is sent once only.
    pub async fn open_stream(
        &self,
        peer: PeerId,
        protocol: &ProtocolName,
        time: Duration,
        first: impl Future<Output = Vec<u8>>,
    ) -> Result<TunnelStream> {
        let mut first = Some(pin!(first));
        let name = stream_protocol(protocol)?;
        let deadline = Instant::now() + time;
        let _interest = Interest { network: self, peer };
        let timed_out = || {
            timed_out(format!(
                "no stream for protocol {} to peer {peer} could be opened within {} ms{}",
                quote(protocol.as_str()),
                time.as_millis(),
                self.tried(&peer),
            ))
        };
        let mut pause = RETRY_PAUSE;
        loop {
            let (reply, answer) = oneshot::channel();
            self.ask(peer, OpenRequest { protocol: name.clone(), deadline, reply })?;
            let answer = async {
                match answer.await {
                    Ok(Ok(stream)) => Ok(agree(stream, &name, &mut first).await),
                    other => other,
                }
            };
            // When the connection goes down under the request and nothing was sent yet, another one may carry it.
            let broken = match timeout_at(deadline, answer).await {
                Ok(Ok(Ok(stream))) => return Ok(stream),
                Ok(Err(_)) if self.commands.is_closed() => return Err(Error::closed("the node")),
                Ok(Err(_)) => Failure::Unreachable("the connection was closed while the stream was opened".into()),
                Ok(Ok(Err(failure))) if failure.is_lost_connection() => failure,
                Ok(Ok(Err(Failure::TimedOut))) | Err(_) => return Err(timed_out()),
                Ok(Ok(Err(failure))) => return Err(explain(&peer, Some(protocol), failure)),
            };
            if pause > RETRY_PAUSE_LAST || first.is_none() {
                return Err(explain(&peer, Some(protocol), broken));
            }
            if timeout_at(deadline, tokio::time::sleep(pause)).await.is_err() {
                return Err(timed_out());
            }
            pause *= 2;
        }
    }

    /// What a sentence about time that ran out says in the end: where `peer` is connected, or was looked for in vain.
    fn tried(&self, peer: &PeerId) -> String {
        if let Some(connection) = self.connections.first(peer) {
            if self.connections.choose(peer).is_none() {
                let count = self.connections.count(peer);
                return format!("; {count} connections have as many streams as the limit connection.streams allows");
            }
            return format!("; it is connected at {}, but did not answer", connection.address);
        }
        let addresses: Vec<_> = self.book.get(peer).iter().map(failure::short).collect();
        match addresses.is_empty() {
            true => String::new(),
            false => format!("; no answer from {}", crate::error::shorten(&addresses.join(", "), 600)),
        }
    }

    /// Closes every connection and listening port, waiting for what is still on its way for a few seconds at most.
    pub async fn shut_down(&self) {
        let (done, finished) = oneshot::channel();
        if self.commands.send(Command::ShutDown { done }).is_ok() {
            let _ = finished.await;
        }
    }

    /// Takes a connection that has room, or leaves that to the driver.
    fn ask(&self, peer: PeerId, request: OpenRequest) -> Result<()> {
        if self.commands.is_closed() {
            return Err(Error::closed("the node"));
        }
        match self.connections.choose(&peer) {
            // Whoever waits for room was there before.
            Some(connection) if !connection.shared.waits.load(Ordering::Relaxed) => {
                connection.open(request);
                if connection.wants_company() {
                    self.send(Command::Spread { peer })?;
                }
                Ok(())
            }
            _ => self.send(Command::Open { peer, request }),
        }
    }

    fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| Error::closed("the node"))
    }
}

/// Somebody waits for a peer. When that ends, for whatever reason, a dial that nobody else waits for is given up.
struct Interest<'a> {
    network: &'a Network,
    peer: PeerId,
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        if !self.network.is_connected(&self.peer) {
            let _ = self.network.commands.send(Command::Prune { peer: self.peer });
        }
    }
}

/// Waits for the peer's word on a new stream. Takes `first`, and sends what it gives, if that may be done before.
async fn agree<F>(
    mut stream: TunnelStream,
    name: &StreamProtocol,
    first: &mut Option<F>,
) -> Result<TunnelStream, Failure>
where
    F: Future<Output = Vec<u8>> + Unpin,
{
    let connection = stream.connection().clone();
    let mut answer = None;
    if let Some(bytes) = first.as_mut().filter(|_| connection.has_agreed(name)) {
        tokio::select! {
            biased;
            agreed = stream.agreed() => answer = Some(agreed),
            bytes = bytes => {
                *first = None;
                stream.write_early(&bytes).await.map_err(Failure::Broken)?;
            }
        }
    }
    let answer = match answer {
        Some(answer) => answer,
        None => stream.agreed().await,
    };
    match &answer {
        Ok(()) => connection.answered(name, true),
        Err(Failure::Refused) => connection.answered(name, false),
        Err(_) => {}
    }
    answer.map(|()| stream)
}

async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Result<F::Output, tokio::time::error::Elapsed> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await,
        None => Ok(future.await),
    }
}

fn timed_out(sentence: String) -> Error {
    Error::new(Status::TimedOut, sentence)
}

fn stream_protocol(protocol: &ProtocolName) -> Result<StreamProtocol> {
    StreamProtocol::try_from_owned(protocol.as_str().to_owned()).map_err(|_| {
        Error::new(Status::BadProtocol, format!("protocol name '{}' does not begin with '/'", quote(protocol.as_str())))
    })
}

fn explain(peer: &PeerId, protocol: Option<&ProtocolName>, failure: Failure) -> Error {
    let protocol = protocol.map_or("", ProtocolName::as_str);
    match failure {
        Failure::Refused => Error::new(
            Status::ProtocolRefused,
            format!("peer {peer} does not offer protocol {}, or not to this node", quote(protocol)),
        ),
        Failure::TimedOut => timed_out(format!("peer {peer} did not answer in time")),
        Failure::Broken(error) => broken(peer, protocol, &error),
        Failure::Unreachable(reason) => Error::new(
            Status::Unreachable,
            format!("peer {peer} is unreachable: {}", crate::error::shorten(&reason, 700)),
        ),
        Failure::NoAddress => no_address(peer),
    }
}

/// A stream that was on its way ended.
fn broken(peer: &PeerId, protocol: &str, error: &io::Error) -> Error {
    let protocol = quote(protocol);
    match error.kind() {
        io::ErrorKind::ConnectionReset => Error::new(
            Status::Reset,
            format!(
                "peer {peer} reset the stream for protocol {protocol} while it was opened; its target may be down, or a limit \
                 of its own reached"
            ),
        ),
        // The muxer's word for it.
        io::ErrorKind::OutOfMemory => Error::new(
            Status::Limit,
            format!("the bytes that buffers.max allows are in use; no stream for protocol {protocol} was opened"),
        ),
        _ => Error::new(
            Status::Unreachable,
            format!(
                "the stream for protocol {protocol} to peer {peer} broke while it was opened: {}",
                failure::root_cause(error)
            ),
        ),
    }
}

/// The sentence for a peer of whom nothing but the id is known.
fn no_address(peer: &PeerId) -> Error {
    Error::new(
        Status::Unreachable,
        format!(
            "no address of peer {peer} is known, and this version cannot find peers by their id alone; give its multiaddr, such as \
             /ip4/192.0.2.1/tcp/4001/p2p/{peer}, or connect to it first"
        ),
    )
    .temporary(false)
}

/// The multiaddrs that `listen.addresses=auto` means.
fn automatic_addresses(options: &Values) -> Vec<Multiaddr> {
    let hosts =
        if options.text("network") == "local" { ["/ip4/127.0.0.1", "/ip6/::1"] } else { ["/ip4/0.0.0.0", "/ip6/::"] };
    // An HTTP port is something to ask for.
    let only = options.list("transports").count() == 1;
    let transports = options.list("transports").filter_map(|name| match name {
        "quic" => Some("udp/0/quic-v1"),
        "ws" => only.then_some("tcp/0/ws"),
        _ => Some("tcp/0"),
    });
    let texts = transports.flat_map(|transport| hosts.map(|host| format!("{host}/{transport}")));
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// Whether the node has what a listening address asks for.
fn check_listening(address: &Multiaddr, options: &Values) -> Result<()> {
    let transport = address::transport_name(address);
    if transport == "quic" && !options.text("swarm.key").is_empty() {
        let sentence = format!("option listen.addresses: {address} is one of QUIC, but {}", private::NO_QUIC);
        return Err(Error::new(Status::BadOption, sentence));
    }
    if !options.list("transports").any(|name| name == transport) {
        return Err(Error::new(
            Status::BadOption,
            format!(
                "option listen.addresses: {address} needs transport {transport}, which is not among transports={}",
                options.text("transports")
            ),
        ));
    }
    if options.text("network") == "local" && !address::is_loopback(address) {
        return Err(Error::new(
            Status::BadOption,
            format!("option listen.addresses: {address} is not a loopback address, and network=local allows no other"),
        ));
    }
    Ok(())
}
