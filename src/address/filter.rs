//! What the filters of a close may name: a peer, or an endpoint on this machine.

use libp2p::PeerId;

use super::{LocalAddress, PeerAddress, parse_peer_id};
use crate::error::{Error, Result, Status, quote};

/// A filter on listen or target addresses. It matches an address by value, however either was spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressFilter {
    /// A forward's target, or a listener's listen address (its own node).
    Peer(PeerId),
    /// A forward's listen address, or a listener's target.
    Local(LocalAddress),
}

impl AddressFilter {
    /// Fails as [`LocalAddress::parse_listen`] and [`parse_peer_id`] do.
    pub fn parse_listen(text: &str) -> Result<Self> {
        Self::parse("listen address", text)
    }

    /// Fails as [`LocalAddress::parse_target`] and [`parse_peer_id`] do.
    pub fn parse_target(text: &str) -> Result<Self> {
        Self::parse("target", text)
    }

    fn parse(what: &'static str, text: &str) -> Result<Self> {
        let unix = text.starts_with("unix:") || text.starts_with("/unix/");
        if !unix && (text.contains("/p2p/") || text.contains("/ipfs/")) {
            return PeerAddress::parse(text).map(|named| AddressFilter::Peer(named.peer));
        }
        let word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if word && !text.bytes().all(|b| b.is_ascii_digit()) {
            return parse_peer_id(text).map(AddressFilter::Peer).map_err(|_| {
                let message = format!("{what} '{}' is neither a peer id nor an address of this machine", quote(text));
                Error::new(Status::BadAddress, message)
            });
        }
        LocalAddress::parse_any(what, text).map(AddressFilter::Local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    #[test]
    fn a_peer_is_found_in_every_form_a_forward_takes() {
        let peer = AddressFilter::Peer(parse_peer_id(PEER).unwrap());
        for text in [
            PEER.to_owned(),
            format!("/p2p/{PEER}"),
            format!("/ipfs/{PEER}"),
            format!("/ip4/127.0.0.1/tcp/4001/p2p/{PEER}"),
            format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER},/ip6/::1/tcp/1/p2p/{PEER}"),
        ] {
            assert_eq!(AddressFilter::parse_target(&text).unwrap(), peer);
            assert_eq!(AddressFilter::parse_listen(&text).unwrap(), peer);
        }
    }

    #[test]
    fn local_addresses_match_however_they_are_spelled() {
        let local = AddressFilter::parse_listen("127.0.0.1:8080").unwrap();
        assert_eq!(local, AddressFilter::Local(LocalAddress::parse_target("8080").unwrap()));
        for text in ["8080", ":8080", "/ip4/127.0.0.1/tcp/8080", "/dns4/localhost/tcp/8080"] {
            assert_eq!(AddressFilter::parse_target(text).unwrap(), local);
        }
        let unix = AddressFilter::parse_target("/unix/tmp/p2p/app.sock").unwrap();
        assert_eq!(unix, AddressFilter::parse_listen("unix:/tmp/p2p/app.sock").unwrap());
        // A filter only compares: what could not be a target may be asked for.
        AddressFilter::parse_target("0.0.0.0:0").unwrap();
    }

    #[test]
    fn a_filter_that_is_neither_is_refused() {
        let error = AddressFilter::parse_target("banana").unwrap_err();
        assert_eq!(error.status, Status::BadAddress);
        assert_eq!(error.message, "target 'banana' is neither a peer id nor an address of this machine");
        let error = AddressFilter::parse_listen("/p2p/banana").unwrap_err();
        assert_eq!(error.status, Status::BadPeer);
        let error = AddressFilter::parse_listen("").unwrap_err();
        assert_eq!(error.message, "listen address is empty; write for example 127.0.0.1:8080");
    }
}
