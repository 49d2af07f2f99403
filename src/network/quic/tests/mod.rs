//! The transport against itself and against libp2p-quic, over the loopback interface.

mod closing;
mod endpoints;
mod interop;
mod packets;
mod streams;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    time::Duration,
};

use futures::{AsyncReadExt, AsyncWriteExt, future::try_join};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint, StreamMuxer, Transport as _,
        transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent},
    },
    identity::Keypair,
    multiaddr::Protocol,
};

use super::{Config, Transport, connection::Muxer, stream::Stream};

const LOCALHOST: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const DIAL: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };

/// Runs a test with a time limit.
async fn within<F: Future>(test: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test takes too long")
}

/// A transport with a new key, its settings changed by `change`.
fn node_with(change: impl FnOnce(&mut Config)) -> (PeerId, Transport) {
    let key = Keypair::generate_ed25519();
    let mut config = Config::new(&key);
    change(&mut config);
    (key.public().to_peer_id(), Transport::new(config).unwrap())
}

fn node() -> (PeerId, Transport) {
    node_with(|_| {})
}

/// libp2p's own implementation.
fn stock() -> (PeerId, Boxed<(PeerId, libp2p::quic::Connection)>) {
    let key = Keypair::generate_ed25519();
    let transport = libp2p::quic::tokio::Transport::new(libp2p::quic::Config::new(&key));
    (key.public().to_peer_id(), transport.boxed())
}

trait AnyTransport<M>: libp2p::core::Transport<Output = (PeerId, M)> + Unpin {}
impl<M, T: libp2p::core::Transport<Output = (PeerId, M)> + Unpin> AnyTransport<M> for T {}

async fn next<M, T: AnyTransport<M>>(transport: &mut T) -> TransportEvent<T::ListenerUpgrade, T::Error> {
    poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await
}

/// Listens and returns the first address reported.
async fn listen<M, T: AnyTransport<M>>(transport: &mut T, address: &str) -> (ListenerId, Multiaddr) {
    let id = ListenerId::next();
    transport.listen_on(id, address.parse().unwrap()).unwrap_or_else(|e| panic!("{e}"));
    loop {
        match next(transport).await {
            TransportEvent::NewAddress { listen_addr, .. } => return (id, listen_addr),
            TransportEvent::ListenerClosed { reason: Err(e), .. } => panic!("{e}"),
            _ => {}
        }
    }
}

/// The next inbound connection and the address it comes from.
async fn accept<M, T: AnyTransport<M>>(transport: &mut T) -> Result<(PeerId, M, Multiaddr), T::Error> {
    loop {
        if let TransportEvent::Incoming { upgrade, send_back_addr, .. } = next(transport).await {
            let (peer, muxer) = upgrade.await?;
            return Ok((peer, muxer, send_back_addr));
        }
    }
}

fn dial<M, T: AnyTransport<M>>(transport: &mut T, address: &Multiaddr, peer: PeerId) -> T::Dial {
    transport.dial(address.clone().with(Protocol::P2p(peer)), DIAL).unwrap_or_else(|e| panic!("{e}"))
}

/// A connection between two transports, with the peer ids checked.
async fn connect<A, B>(
    (dialer_id, dialer): &mut (PeerId, impl AnyTransport<A>),
    (listener_id, listener): &mut (PeerId, impl AnyTransport<B>),
    address: &str,
) -> (A, B) {
    let (_, address) = listen(listener, address).await;
    let dialled = dial(dialer, &address, *listener_id);
    let dialled = async { dialled.await.map_err(|e| e.to_string()) };
    let accepted = async { accept(listener).await.map_err(|e| e.to_string()) };
    let ((at_dialer, near), (at_listener, far, _)) = try_join(dialled, accepted).await.unwrap();
    assert_eq!((at_dialer, at_listener), (*listener_id, *dialer_id));
    (near, far)
}

async fn open<M: StreamMuxer + Unpin>(muxer: &mut M) -> Result<M::Substream, M::Error> {
    poll_fn(|cx| Pin::new(&mut *muxer).poll_outbound(cx)).await
}

async fn accept_stream<M: StreamMuxer + Unpin>(muxer: &mut M) -> Result<M::Substream, M::Error> {
    poll_fn(|cx| Pin::new(&mut *muxer).poll_inbound(cx)).await
}

async fn close<M: StreamMuxer + Unpin>(muxer: &mut M) -> Result<(), M::Error> {
    poll_fn(|cx| Pin::new(&mut *muxer).poll_close(cx)).await
}

/// Two transports with a connection and a stream in it, whose first byte has passed each way.
struct Pair {
    dialer: (PeerId, Transport),
    listener: (PeerId, Transport),
    near: Muxer,
    far: Muxer,
    near_stream: Stream,
    far_stream: Stream,
}

impl Pair {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl Fn(&mut Config)) -> Self {
        let (mut dialer, mut listener) = (node_with(&change), node_with(&change));
        let (mut near, mut far) = connect(&mut dialer, &mut listener, LOCALHOST).await;
        let (near_stream, far_stream) = stream_pair(&mut near, &mut far).await;
        Pair { dialer, listener, near, far, near_stream, far_stream }
    }
}

async fn stream_pair<A: StreamMuxer + Unpin, B: StreamMuxer + Unpin>(
    near: &mut A,
    far: &mut B,
) -> (A::Substream, B::Substream)
where
    A::Substream: Unpin,
    B::Substream: Unpin,
{
    let mut near_stream = open(near).await.unwrap();
    near_stream.write_all(b"?").await.unwrap();
    let mut far_stream = accept_stream(far).await.unwrap();
    far_stream.read_exact(&mut [0]).await.unwrap();
    far_stream.write_all(b"!").await.unwrap();
    near_stream.read_exact(&mut [0]).await.unwrap();
    (near_stream, far_stream)
}

/// Bytes that show a gap or a change of order.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}
