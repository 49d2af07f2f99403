//! A peer, and the addresses at which a node listens or is dialled.

use std::{fmt, str::FromStr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::local::check_host_name;
use crate::error::{Error, Result, Status, quote};

/// Longest list of addresses that is looked at, in bytes.
const MAX_LEN: usize = 16 * 1024;
/// Far above the longest form of a peer id; decoding base58 takes time with the square of the length.
const MAX_ID_LEN: usize = 200;
/// The multicodec `libp2p-key`: the CID names a peer, not content (libp2p specs, peer-ids).
const LIBP2P_KEY: u64 = 0x72;

/// A peer and where it may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    pub peer: PeerId,
    /// Without the trailing `/p2p/ID`, each once, in the order given; empty for a bare id.
    pub addresses: Vec<Multiaddr>,
}

impl PeerAddress {
    /// A bare id, `/p2p/ID`, `/ipfs/ID`, or one or several (comma separated) multiaddrs that end in the same peer id.
    ///
    /// Fails with [`Status::BadPeer`] (no id, a bad id, two ids), [`Status::BadAddress`] (an address nothing here can
    /// dial) or [`Status::Unreachable`] (`/dnsaddr`, relayed addresses).
    pub fn parse(text: &str) -> Result<Self> {
        check_text("peer", text, Status::BadPeer)?;
        if text.is_empty() {
            let message = "peer is empty; write a peer id, or a multiaddr that ends with /p2p/<peer id>";
            return Err(Error::new(Status::BadPeer, message));
        }
        let mut found: Option<PeerAddress> = None;
        for item in text.split(',') {
            let (peer, address) = parse_one(item.trim_matches(' '), text)?;
            let known = found.get_or_insert(PeerAddress { peer, addresses: Vec::new() });
            if known.peer != peer {
                let message =
                    format!("peer '{}' is ambiguous: it could refer to {} or {peer}", quote(text), known.peer);
                return Err(Error::new(Status::BadPeer, message));
            }
            known.addresses.extend(address.filter(|a| !known.addresses.contains(a)));
        }
        found.ok_or_else(|| Error::new(Status::BadPeer, "peer is empty"))
    }
}

/// One entry of the list `whole`.
fn parse_one(item: &str, whole: &str) -> Result<(PeerId, Option<Multiaddr>)> {
    let name = format!("peer '{}'", quote(item));
    let bad = |status, why: &str| Error::new(status, format!("{name} {why}"));
    if item.is_empty() {
        return Err(Error::new(Status::BadPeer, format!("peer '{}' has an empty entry in its list", quote(whole))));
    }
    if !item.starts_with('/') {
        // No form of a peer id has these; a host and port has.
        if item.contains([':', '.']) {
            return Err(bad(Status::BadPeer, "is not a multiaddr; write /ip4/<address>/tcp/<port>/p2p/<peer id>"));
        }
        return decode_id(item).map(|peer| (peer, None)).map_err(|why| bad(Status::BadPeer, &why));
    }
    let parts: Vec<&str> = item.trim_end_matches('/').split('/').collect();
    if parts.contains(&"p2p-circuit") {
        let why =
            "is a relayed address, and this version has no relay client; give an address at which the peer listens";
        return Err(bad(Status::Unreachable, why).temporary(false));
    }
    if parts.contains(&"dnsaddr") {
        let why = "has to be looked up: finding peers by dnsaddr needs discovery, which this version does not have; \
                   give the peer's multiaddr, such as /ip4/<address>/tcp/<port>/p2p/<peer id>";
        return Err(bad(Status::Unreachable, why).temporary(false));
    }
    let (address, id) = match parts.as_slice() {
        [address @ .., "p2p" | "ipfs", id] => (address, *id),
        [.., "p2p" | "ipfs"] => return Err(bad(Status::BadPeer, "has no peer id behind its /p2p")),
        _ => return Err(bad(Status::BadPeer, "has no peer id; end it with /p2p/<peer id>")),
    };
    let peer = decode_id(id).map_err(|why| bad(Status::BadPeer, &why))?;
    let address = address.join("/");
    if address.is_empty() {
        return Ok((peer, None));
    }
    parse_transport(&address, Use::Dial)
        .map(|address| (peer, Some(address)))
        .map_err(|why| bad(Status::BadAddress, &why))
}

/// A peer id alone, in any of its spellings, bare or as `/p2p/ID` or `/ipfs/ID`. Fails with [`Status::BadPeer`].
pub fn parse_peer_id(text: &str) -> Result<PeerId> {
    let bad = |why: &str| Error::new(Status::BadPeer, format!("peer id '{}' {why}", quote(text)));
    if text.is_empty() {
        return Err(Error::new(Status::BadPeer, "peer id is empty; write for example 12D3KooW..."));
    }
    let id = text.strip_prefix("/p2p/").or_else(|| text.strip_prefix("/ipfs/")).unwrap_or(text);
    if id.contains('/') {
        return Err(bad("is an address; write only the id that follows its /p2p/"));
    }
    decode_id(id).map_err(|why| bad(&why))
}

/// Reads a peer id in base58 or as a CID (libp2p specs, peer-ids, "String representation").
/// The error continues a sentence.
fn decode_id(id: &str) -> Result<PeerId, String> {
    if id.is_empty() {
        return Err("has no peer id behind its /p2p".into());
    }
    if id.len() > MAX_ID_LEN {
        return Err(format!("has a peer id of {} bytes; at most {MAX_ID_LEN} are allowed", id.len()));
    }
    if id.starts_with('1') || id.starts_with("Qm") {
        return PeerId::from_str(id).map_err(|_| not_an_id(id));
    }
    let (_, bytes) = cid::multibase::decode(id).map_err(|_| not_an_id(id))?;
    let cid = cid::Cid::try_from(bytes.as_slice()).map_err(|_| not_an_id(id))?;
    if cid.version() != cid::Version::V1 || cid.encoded_len() != bytes.len() {
        return Err(not_an_id(id));
    }
    if cid.codec() != LIBP2P_KEY {
        return Err(format!("has the id '{}', which is the CID of content, not of a peer", quote(id)));
    }
    PeerId::from_multihash(*cid.hash()).map_err(|_| not_an_id(id))
}

fn not_an_id(id: &str) -> String {
    format!(
        "has the id '{}', which is mistyped or cut short (whole peer ids begin with 12D3KooW, Qm, 16Uiu2, k51 or bafz)",
        quote(id)
    )
}

/// The addresses at which a node shall listen: comma separated `/ip4|ip6/.../tcp/P`, the same with `/ws`, or
/// `/ip4|ip6/.../udp/P/quic-v1`, where port 0 means any free one. Empty text is an empty list. Fails with [`Status::BadAddress`].
pub fn parse_listen_multiaddrs(text: &str) -> Result<Vec<Multiaddr>> {
    const WHAT: &str = "node address";
    check_text(WHAT, text, Status::BadAddress)?;
    let mut addresses = Vec::new();
    if text.is_empty() {
        return Ok(addresses);
    }
    for item in text.split(',').map(|item| item.trim_matches(' ')) {
        let bad = |why: &str| Error::new(Status::BadAddress, format!("{WHAT} '{}' {why}", quote(item)));
        if item.is_empty() {
            let message = format!("{WHAT} '{}' has an empty entry in its list", quote(text));
            return Err(Error::new(Status::BadAddress, message));
        }
        if !item.starts_with('/') {
            return Err(bad("is not a multiaddr; write for example /ip4/127.0.0.1/tcp/0"));
        }
        let address = parse_transport(item.trim_end_matches('/'), Use::Listen).map_err(|why| bad(&why))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn check_text(what: &str, text: &str, status: Status) -> Result<()> {
    let bad = |why: String| Err(Error::new(status, format!("{what} '{}' {why}", quote(text))));
    if text.len() > MAX_LEN {
        return bad(format!("is {} bytes long; at most {MAX_LEN} are allowed", text.len()));
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, _)) => bad(format!("has a control character at byte {at}")),
        None => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Use {
    Dial,
    Listen,
}

/// A multiaddr of a transport that the node has, without a peer id. The error continues a sentence.
fn parse_transport(text: &str, purpose: Use) -> Result<Multiaddr, String> {
    let address =
        Multiaddr::from_str(text).map_err(|e| format!("is not a valid multiaddr: {}", quote(&e.to_string())))?;
    let mut parts = address.iter();
    match parts.next() {
        Some(Protocol::Ip4(ip)) if purpose == Use::Dial && ip.is_unspecified() => return Err(wildcard(ip)),
        Some(Protocol::Ip6(ip)) if purpose == Use::Dial && ip.to_canonical().is_unspecified() => {
            return Err(wildcard(ip));
        }
        Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => {}
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) if purpose == Use::Dial => {
            check_host_name(&name)?;
        }
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => {
            return Err("has a host name; a node listens on an IP address, for example /ip4/127.0.0.1/tcp/0".into());
        }
        Some(other) => {
            return Err(format!("begins with '/{}'; it begins with an address, such as /ip4/127.0.0.1", other.tag()));
        }
        None => return Err("is empty; write for example /ip4/127.0.0.1/tcp/4001".into()),
    }
    let (port, next) = match (parts.next(), parts.next()) {
        (Some(Protocol::Tcp(port)), next) => (port, next),
        (Some(Protocol::Udp(port)), Some(Protocol::QuicV1)) => (port, parts.next()),
        (Some(Protocol::Udp(port)), None | Some(Protocol::Quic)) => {
            return Err(format!("is not of a known transport; for QUIC write /udp/{port}/quic-v1"));
        }
        (Some(Protocol::Udp(_)), next) => (1, next),
        (Some(Protocol::P2p(_)) | None, _) => {
            return Err("has no port; write for example /ip4/127.0.0.1/tcp/4001".into());
        }
        (Some(other), _) => (1, Some(other)),
    };
    let wss = |tag: &str| {
        Err(format!(
            "has '{tag}', WebSocket below TLS, which this version does not have; write /ws, where the connection is encrypted \
             all the same, with a port that takes it without TLS"
        ))
    };
    let next = match next {
        Some(Protocol::Ws(_)) if matches!(address.iter().nth(1), Some(Protocol::Tcp(_))) => parts.next(),
        Some(Protocol::Wss(_)) => return wss("/wss"),
        Some(Protocol::Tls) if parts.any(|part| matches!(part, Protocol::Ws(_))) => return wss("/tls/ws"),
        next => next,
    };
    match next {
        None if port == 0 && purpose == Use::Dial => Err("has port 0; write the port on which the peer listens".into()),
        None => Ok(address),
        Some(Protocol::P2p(_)) if purpose == Use::Listen => {
            Err("has a peer id; an address to listen on ends after the port, ws or quic-v1".into())
        }
        Some(Protocol::P2p(_)) => Err("has two peer ids".into()),
        Some(other) => Err(format!(
            "has '/{}', a transport this node does not have; it has /tcp/<port>, /tcp/<port>/ws and /udp/<port>/quic-v1",
            other.tag()
        )),
    }
}

fn wildcard(ip: impl fmt::Display) -> String {
    format!("has {ip}, which stands for all interfaces and can not be dialled; write one of the peer's addresses")
}

/// Whether the address is on this machine's loopback interface. Host names count as elsewhere.
pub fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.to_canonical().is_loopback(),
        _ => false,
    }
}

/// `"quic"`, `"ws"` or `"tcp"`.
pub fn transport_name(address: &Multiaddr) -> &'static str {
    let name = |part| match part {
        Protocol::QuicV1 | Protocol::Quic => Some("quic"),
        Protocol::Ws(_) | Protocol::Wss(_) => Some("ws"),
        _ => None,
    };
    address.iter().find_map(name).unwrap_or("tcp")
}

/// Whether a name has to be looked up before the address can be dialled.
pub fn has_dns(address: &Multiaddr) -> bool {
    let named = |p| matches!(p, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_));
    address.iter().any(named)
}

#[cfg(test)]
mod tests;
