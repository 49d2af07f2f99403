//! What Kubo's `ipfs p2p` promises and tests, and what it leaves out: each promise once, seen from the client.

#[path = "conformance/access.rs"]
mod access;
#[path = "conformance/addresses.rs"]
mod addresses;
#[path = "conformance/closing.rs"]
mod closing;
#[path = "conformance/edges.rs"]
mod edges;
#[path = "conformance/forwards.rs"]
mod forwards;
#[path = "conformance/services.rs"]
mod services;
mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, identity::Keypair, noise, swarm::SwarmEvent, tcp,
    yamux,
};
use p2pmount::{
    Error, Node, Status,
    events::kind,
    mounts::{Filters, Kind},
    options::Source,
};
use support::{
    HalfClose, PATIENCE, Pair, QUIC, TCP, Target, TargetAt, TestNode, at, block, bytes, client, digest, expect_end,
    expect_reset, forward, freed, int, is_free, limit, listen, options, own_ip, read_exact, read_to_end, reset, rows,
    set_patience, text, wait_until,
};

const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

#[track_caller]
fn assert_error<T>(result: Result<T, Error>, status: Status, part: &str) -> Error {
    let Err(error) = result else { panic!("no error, but '{part}' was expected") };
    assert_eq!(error.status, status, "{error}");
    assert!(error.message.contains(part), "'{part}' is not in '{error}'");
    error
}

/// Both ends of a connection through the tunnel at `address`.
#[track_caller]
fn connect(address: SocketAddr, target: &Target) -> (TcpStream, TcpStream) {
    let client = client(address);
    (client, target.accept())
}

#[track_caller]
fn assert_carries(mut from: TcpStream, mut to: TcpStream) {
    from.write_all(b"there").unwrap();
    assert_eq!(read_exact(&mut to, 5), b"there");
    to.write_all(b"and back").unwrap();
    assert_eq!(read_exact(&mut from, 8), b"and back");
}

/// A new client of an echo server is answered.
#[track_caller]
fn assert_echoes(address: SocketAddr) {
    let mut stream = client(address);
    stream.write_all(b"echo?").unwrap();
    assert_eq!(read_exact(&mut stream, 5), b"echo?");
    drop(stream);
}

/// A new client is reset, not given an empty success.
#[track_caller]
fn assert_resets(address: SocketAddr) {
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(mut stream) => {
            set_patience(&stream);
            assert!(expect_reset(&mut stream).is_empty());
        }
        // So soon that connecting itself shows it.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// Takes connections and says nothing.
struct BlackHole(TcpListener);

impl BlackHole {
    fn new() -> Self {
        BlackHole(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
    }

    fn peer(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}/p2p/{PEER}", self.0.local_addr().unwrap().port())
    }
}

/// A target whose queue is full: the system leaves further clients without an answer.
struct FullTarget {
    socket: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

impl FullTarget {
    fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((own_ip(), 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let mut full = FullTarget { socket, _waiting: Vec::new() };
        let home = full.text().parse().unwrap();
        while let Ok(client) = TcpStream::connect_timeout(&home, Duration::from_millis(100)) {
            full._waiting.push(client);
        }
        full
    }

    fn text(&self) -> String {
        self.socket.local_addr().unwrap().as_socket().unwrap().to_string()
    }
}
