//! Multiaddrs of QUIC version 1 and the socket addresses in them.

use std::net::{IpAddr, SocketAddr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// The socket address and the peer id of `/ip4|ip6/.../udp/PORT/quic-v1[/p2p/PEER]`; `None` for every other form.
pub(super) fn parse(address: &Multiaddr) -> Option<(SocketAddr, Option<PeerId>)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else { return None };
    let Protocol::QuicV1 = parts.next()? else { return None };
    let peer = match parts.next() {
        Some(Protocol::P2p(peer)) => Some(peer),
        Some(_) => return None,
        None => None,
    };
    parts.next().is_none().then_some((SocketAddr::new(ip, port), peer))
}

/// Like [`parse`], for an address to dial: it names a host and a port.
pub(super) fn parse_dialable(address: &Multiaddr) -> Option<(SocketAddr, Option<PeerId>)> {
    parse(address).filter(|(socket, _)| socket.port() != 0 && !socket.ip().is_unspecified())
}

/// The multiaddr of a QUIC endpoint.
pub(super) fn format(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn quic_v1_addresses_are_read_with_and_without_peer() {
        for (text, socket) in [
            ("/ip4/127.0.0.1/udp/4001/quic-v1", "127.0.0.1:4001"),
            ("/ip6/::1/udp/4001/quic-v1", "[::1]:4001"),
            ("/ip4/0.0.0.0/udp/0/quic-v1", "0.0.0.0:0"),
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(parse(&address), Some((socket.parse().unwrap(), None)));
            assert_eq!(format(socket.parse().unwrap()), address);
            let with_peer: Multiaddr = format!("{text}/p2p/{PEER}").parse().unwrap();
            assert_eq!(parse(&with_peer), Some((socket.parse().unwrap(), Some(PEER.parse().unwrap()))));
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for text in [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/127.0.0.1/udp/4001",
            "/ip4/127.0.0.1/udp/4001/quic",
            "/ip4/127.0.0.1/udp/4001/quic-v1/webtransport",
            "/dns4/example.org/udp/4001/quic-v1",
            "/ip6zone/eth0/ip6/fe80::1/udp/4001/quic-v1",
            &format!("/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{PEER}/p2p-circuit"),
            &format!("/p2p/{PEER}"),
        ] {
            assert_eq!(parse(&text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn nothing_without_host_and_port_is_dialled() {
        for text in ["/ip4/0.0.0.0/udp/1/quic-v1", "/ip6/::/udp/1/quic-v1", "/ip4/127.0.0.1/udp/0/quic-v1"] {
            assert_eq!(parse_dialable(&text.parse().unwrap()), None, "{text}");
        }
    }
}
