//! The ways to a peer: TCP, plain or as WebSocket (encrypted, with yamux), and QUIC v1, behind one guard that resolves names
//! and keeps a local node local.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    AsyncRead, AsyncWrite, FutureExt,
    future::{BoxFuture, Either},
    io::BufReader,
};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        ConnectedPoint, Endpoint,
        muxing::StreamMuxerBox,
        transport::{
            Boxed, DialOpts, ListenerId, OptionalTransport, OrTransport, PortUse, Transport, TransportError,
            TransportEvent, timeout::TransportTimeout,
        },
    },
    identity::Keypair,
    multiaddr::Protocol,
    pnet::PreSharedKey,
    tcp,
};
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

use super::{
    failure, loopback,
    peer_socket::PeerSocket,
    private, protocols, quic,
    security::{Secured, Security},
    websocket::{self, WebSocket},
    yamux,
};
use crate::{
    address,
    error::{Error, Result, Status},
    process::PerProcess,
};

type Connection = (PeerId, StreamMuxerBox);

/// Bytes read from a TCP socket at a time while protocols are agreed on, which is done byte by byte.
const READ_AHEAD: usize = 1024;

/// What of the node's options the transports need.
pub struct Config {
    pub tcp: bool,
    pub quic: bool,
    pub ws: bool,
    /// `tls` and `noise`, the preferred first.
    pub security: Vec<String>,
    /// Of the private network, whose nodes alone can connect.
    pub network_key: Option<PreSharedKey>,
    /// Nothing but the loopback interface, and no name look-ups.
    pub local: bool,
    pub yamux: yamux::Config,
    /// Bounds one attempt to connect over TCP or WebSocket, all handshakes included.
    pub connect_timeout: Duration,
}

/// The node's transport.
pub fn build(keypair: &Keypair, config: Config) -> Result<Boxed<Connection>> {
    let failed = |error: quic::Error| Error::new(Status::BadKey, format!("QUIC cannot use the node's key: {error}"));
    let mut quic = quic::Config::new(keypair);
    quic.stream_receive_window = config.yamux.receive_window_max / 2;
    quic.connection_receive_window = u32::try_from(config.yamux.connection_window_max).unwrap_or(u32::MAX);
    if let Some(budget) = &config.yamux.budget {
        quic.budget = budget.clone();
    }
    let quic = if config.quic {
        OptionalTransport::some(
            quic::Transport::new(quic).map_err(failed)?.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))),
        )
    } else {
        OptionalTransport::none()
    };
    let links = Links {
        network_key: config.network_key,
        security: Security::new(keypair, &config.security, yamux::PROTOCOL)?,
        yamux: config.yamux,
    };
    let sockets = || {
        let sockets = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
        let prepared = |socket: tcp::tokio::TcpStream, _| {
            loopback::adapt(&socket.0);
            PeerSocket::new(socket)
        };
        sockets.map(prepared).map_err(SocketError)
    };
    let tcp = if config.tcp {
        let links = links.clone();
        let upgrade = move |socket, point: ConnectedPoint| {
            links.clone().upgrade(BufReader::with_capacity(READ_AHEAD, socket), end(&point))
        };
        OptionalTransport::some(TransportTimeout::new(sockets().and_then(upgrade), config.connect_timeout))
    } else {
        OptionalTransport::none()
    };
    let ws = if config.ws {
        let upgrade = move |socket, point: ConnectedPoint| {
            let links = links.clone();
            async move { links.upgrade(websocket::handshake(socket, &point).await?, end(&point)).await }
        };
        OptionalTransport::some(TransportTimeout::new(WebSocket(sockets()).and_then(upgrade), config.connect_timeout))
    } else {
        OptionalTransport::none()
    };
    let either = OrTransport::new(quic, OrTransport::new(tcp, ws)).map(|output, _| match output {
        Either::Left(output) | Either::Right(Either::Left(output) | Either::Right(output)) => output,
    });
    let private = config.network_key.is_some();
    Ok(Guard { inner: Arc::new(Mutex::new(either.boxed())), local: config.local, private }.boxed())
}

/// Whose part is to be played: with hole punching (libp2p specs, `relay/DCUtR.md`) both ends dial.
fn end(point: &ConnectedPoint) -> Endpoint {
    match point {
        ConnectedPoint::Dialer { role_override, .. } => *role_override,
        ConnectedPoint::Listener { .. } => Endpoint::Listener,
    }
}

/// Makes connections of sockets.
#[derive(Clone)]
struct Links {
    network_key: Option<PreSharedKey>,
    security: Security,
    yamux: yamux::Config,
}

impl Links {
    /// The private network's key, encryption, then the muxer. It saves the round trips it can: the dialer's proposals travel with
    /// what follows them, and the muxer is part of the handshake where both ends can do that.
    async fn upgrade<C>(self, socket: C, end: Endpoint) -> io::Result<Connection>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Links { network_key, security, yamux } = self;
        #[cfg(feature = "plaintext-bench")]
        if super::security::encryption_is_disabled() {
            let (peer, stream) = security.plain(socket, end).await?;
            return Ok((peer, StreamMuxerBox::new(yamux.muxer(stream, end).driven())));
        }
        let socket = private::admit(socket, network_key).await?;
        let Secured { peer, mut stream, muxer_agreed } = security.secure(socket, end).await?;
        if muxer_agreed {
            if let Either::Left(tls) = &mut stream {
                tls.read_ahead();
            }
            let muxer = yamux.muxer(stream, end).reading_ahead(|stream| match stream {
                Either::Left(tls) => tls.has_read_ahead(),
                Either::Right(_) => false,
            });
            return Ok((peer, StreamMuxerBox::new(muxer.driven())));
        }
        let (_, stream) = protocols::agree(stream, vec![yamux::PROTOCOL], end).await?;
        Ok((peer, StreamMuxerBox::new(yamux.muxer(stream, end).driven())))
    }
}

static BINDING: PerProcess<Mutex<()>> = PerProcess::new();

/// Looks up names before dialling, and refuses to leave the loopback interface on a local node, or the private network.
struct Guard {
    inner: Arc<Mutex<Boxed<Connection>>>,
    local: bool,
    private: bool,
}

impl Guard {
    /// The sentence why this address is out of bounds, if it is.
    fn refusal(&self, address: &Multiaddr) -> Option<io::Error> {
        let reason = match self.local {
            true if address::has_dns(address) => "names are not looked up with network=local",
            true if !address::is_loopback(address) => "network=local allows loopback addresses only",
            _ if self.private && address::transport_name(address) == "quic" => private::NO_QUIC,
            _ => return None,
        };
        Some(io::Error::new(io::ErrorKind::PermissionDenied, reason))
    }
}

impl Transport for Guard {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Connection>>;
    type Dial = BoxFuture<'static, io::Result<Connection>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        if let Some(refusal) = self.refusal(&address) {
            return Err(TransportError::Other(refusal));
        }
        // From the probe to the binding nobody else in this process may do the same.
        let _turn = BINDING.get_or_init(Mutex::default).lock();
        probe(&address).map_err(TransportError::Other)?;
        self.inner.lock().listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.lock().remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        if let Some(refusal) = self.refusal(&address) {
            return Err(TransportError::Other(refusal));
        }
        let inner = self.inner.clone();
        if !address::has_dns(&address) {
            return Ok(async move { connect(&inner, address, options).await }.boxed());
        }
        Ok(async move {
            let mut last =
                io::Error::new(io::ErrorKind::NotFound, format!("no address is known for the name in {address}"));
            for candidate in resolve(&address).await? {
                match connect(&inner, candidate, options).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        .boxed())
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut *self.inner.lock()).poll(cx).map(|event| event.map_upgrade(FutureExt::boxed))
    }
}

/// Dials from the port that the node listens on, which NATs and firewalls know, or from any other where the system forbids
/// that: somebody else's socket with the same port number, even one that has just been closed, is enough.
async fn connect(inner: &Mutex<Boxed<Connection>>, address: Multiaddr, options: DialOpts) -> io::Result<Connection> {
    let taken = |error: &io::Error| matches!(failure::root_errno(error), Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL));
    match dial(inner, address.clone(), options).await {
        Err(error) if taken(&error) && matches!(options.port_use, PortUse::Reuse) => {
            tracing::debug!(%address, "dialling from another port than the listening one: {error}");
            dial(inner, address, DialOpts { port_use: PortUse::New, ..options }).await
        }
        result => result,
    }
}

async fn dial(inner: &Mutex<Boxed<Connection>>, address: Multiaddr, options: DialOpts) -> io::Result<Connection> {
    let dialled = inner.lock().dial(address, options);
    match dialled {
        Ok(dialled) => dialled.await,
        Err(TransportError::Other(error)) => Err(error),
        Err(TransportError::MultiaddrNotSupported(_)) => Err(unsupported()),
    }
}

fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "not a transport that the node has")
}

/// An error of a TCP socket. libp2p's wrappers answer with the cause of what they wrap, so the `io::Error` itself, and with it
/// the system's number, would be lost if it were wrapped directly.
#[derive(Debug)]
struct SocketError(io::Error);

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SocketError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Fails if another socket listens on this TCP address. libp2p's listening sockets share their port with whoever asks
/// (SO_REUSEPORT, for dialling from it), so two nodes would silently take turns.
fn probe(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    let Some(Protocol::Tcp(port @ 1..)) = parts.next() else { return Ok(()) };
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// The addresses behind the name in `address`, asked of the system's resolver.
async fn resolve(address: &Multiaddr) -> io::Result<Vec<Multiaddr>> {
    let mut name = None;
    for part in address {
        match part {
            Protocol::Dns(host) => name = Some((host.into_owned(), [true, true])),
            Protocol::Dns4(host) => name = Some((host.into_owned(), [true, false])),
            Protocol::Dns6(host) => name = Some((host.into_owned(), [false, true])),
            _ => {}
        }
    }
    let Some((host, [v4, v6])) = name else { return Ok(vec![address.clone()]) };
    let found = tokio::net::lookup_host((host.as_str(), 0))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("the name {host} cannot be resolved: {error}")))?;
    let with = |ip: IpAddr| -> Multiaddr {
        let mut found = Multiaddr::empty();
        for part in address {
            match part {
                Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) => found.push(ip.into()),
                // Which of its sites is meant a web server knows by the name.
                Protocol::Ws(path) => {
                    found.push(Protocol::Sni(host.as_str().into()));
                    found.push(Protocol::Ws(path));
                }
                other => found.push(other),
            }
        }
        found
    };
    Ok(found.map(|found| found.ip()).filter(|ip| if ip.is_ipv4() { v4 } else { v6 }).map(with).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_web_server_learns_by_which_name_it_was_found() {
        for (address, wanted) in [
            ("/dns4/localhost/tcp/80/ws", "/ip4/127.0.0.1/tcp/80/sni/localhost/ws"),
            ("/dns4/localhost/tcp/80", "/ip4/127.0.0.1/tcp/80"),
        ] {
            let found = resolve(&address.parse().unwrap()).await.unwrap();
            assert!(found.iter().any(|found| found.to_string() == wanted), "{found:?}");
        }
    }
}
