use super::*;

const PEER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
const OTHER: &str = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";

fn peer(text: &str) -> PeerAddress {
    PeerAddress::parse(text).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(text: &str, status: Status) -> String {
    let error = PeerAddress::parse(text).unwrap_err();
    assert_eq!(error.status, status, "{error}");
    assert!(error.message.len() <= crate::error::MESSAGE_MAX && !error.temporary);
    error.message
}

/// The id as a CIDv1 with the codec libp2p-key.
fn cid(id: &str, base: cid::multibase::Base) -> String {
    let id: PeerId = id.parse().unwrap();
    cid::Cid::new_v1(LIBP2P_KEY, *id.as_ref()).to_string_of_base(base).unwrap()
}

#[test]
fn ids_are_read_in_every_spelling() {
    use cid::multibase::Base;
    let secp256k1 = libp2p::identity::Keypair::generate_secp256k1().public().to_peer_id().to_string();
    assert!(secp256k1.starts_with("16Uiu2"));
    for id in [PEER, OTHER, &secp256k1] {
        let expected = PeerId::from_str(id).unwrap();
        let bases = [Base::Base36Lower, Base::Base32Lower, Base::Base58Btc, Base::Base16Lower, Base::Base32Upper];
        for text in bases.map(|base| cid(id, base)).into_iter().chain([id.to_owned()]) {
            for form in [text.clone(), format!("/p2p/{text}"), format!("/ipfs/{text}")] {
                assert_eq!(parse_peer_id(&form).unwrap(), expected, "{form}");
                assert_eq!(peer(&form), PeerAddress { peer: expected, addresses: vec![] });
            }
            let full = format!("/ip4/127.0.0.1/tcp/4001/p2p/{text}");
            let addresses = vec!["/ip4/127.0.0.1/tcp/4001".parse().unwrap()];
            assert_eq!(peer(&full), PeerAddress { peer: expected, addresses });
        }
    }
    assert!(cid(PEER, Base::Base36Lower).starts_with("k51") && cid(OTHER, Base::Base32Lower).starts_with("bafz"));
    // The specification's own example (libp2p specs, peer-ids).
    let spec = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe";
    assert_eq!(parse_peer_id(spec).unwrap().to_string(), "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N");
}

#[test]
fn addresses_are_kept_in_order_each_once_without_the_id() {
    let text = format!(
        "/ip4/127.0.0.1/tcp/1/p2p/{PEER}, /ip6/::1/udp/2/quic-v1/ipfs/{PEER},{PEER},/dns4/name.example/tcp/3/p2p/{PEER}/,\
         /ip4/127.0.0.1/tcp/1/p2p/{PEER}"
    );
    let found: Vec<String> = peer(&text).addresses.iter().map(Multiaddr::to_string).collect();
    assert_eq!(found, ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/udp/2/quic-v1", "/dns4/name.example/tcp/3"]);
}

#[test]
fn peers_without_exactly_one_good_id_are_refused() {
    let bad_id = |id: &str| {
        format!(
            "has the id '{id}', which is mistyped or cut short (whole peer ids begin with 12D3KooW, Qm, 16Uiu2, k51 or bafz)"
        )
    };
    let content = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
    for (text, why) in [
        ("/ip4/1.2.3.4/tcp/1", "has no peer id; end it with /p2p/<peer id>".into()),
        ("/ip4/1.2.3.4/tcp/1/p2p", "has no peer id behind its /p2p".into()),
        ("/p2p/", "has no peer id behind its /p2p".into()),
        ("/", "has no peer id; end it with /p2p/<peer id>".into()),
        ("127.0.0.1:4001", "is not a multiaddr; write /ip4/<address>/tcp/<port>/p2p/<peer id>".into()),
        ("12D3KooWBad", bad_id("12D3KooWBad")),
        ("/ip4/1.2.3.4/tcp/1/p2p/Qm0", bad_id("Qm0")),
        ("banana", bad_id("banana")),
        ("bücher", bad_id("bücher")),
        (content, format!("has the id '{content}', which is the CID of content, not of a peer")),
    ] {
        assert_eq!(refusal(text, Status::BadPeer), format!("peer '{text}' {why}"));
    }
    let two = format!("/ip4/1.2.3.4/tcp/1/p2p/{PEER},/p2p/{OTHER}");
    assert_eq!(
        refusal(&two, Status::BadPeer),
        format!("peer '{two}' is ambiguous: it could refer to {PEER} or {OTHER}")
    );
    assert_eq!(
        refusal(&format!("{PEER},/ip4/1.2.3.4/tcp/1"), Status::BadPeer),
        "peer '/ip4/1.2.3.4/tcp/1' has no peer id; end it with /p2p/<peer id>"
    );
    assert_eq!(refusal(&format!("{PEER},"), Status::BadPeer), format!("peer '{PEER},' has an empty entry in its list"));
    assert_eq!(
        refusal("", Status::BadPeer),
        "peer is empty; write a peer id, or a multiaddr that ends with /p2p/<peer id>"
    );
    assert_eq!(refusal("a\nb", Status::BadPeer), "peer 'a\\nb' has a control character at byte 1");
    let message = refusal(&"1".repeat(20_000), Status::BadPeer);
    assert!(message.ends_with("is 20000 bytes long; at most 16384 are allowed"), "{message}");
    refusal(&format!("/{}/1/p2p/{PEER}", "a".repeat(2000)), Status::BadAddress);
    let message = refusal(&"1".repeat(201), Status::BadPeer);
    assert!(message.ends_with("has a peer id of 201 bytes; at most 200 are allowed"), "{message}");
}

#[test]
fn cids_with_bytes_behind_the_id_are_refused() {
    let id: PeerId = PEER.parse().unwrap();
    let mut bytes = cid::Cid::new_v1(LIBP2P_KEY, *id.as_ref()).to_bytes();
    assert_eq!(parse_peer_id(&cid::multibase::encode(cid::multibase::Base::Base36Lower, &bytes)).unwrap(), id);
    bytes.push(0);
    let text = cid::multibase::encode(cid::multibase::Base::Base36Lower, &bytes);
    assert_eq!(parse_peer_id(&text).unwrap_err().status, Status::BadPeer);
}

#[test]
fn ids_in_access_lists_are_refused_in_their_own_words() {
    for (text, message) in [
        ("", "peer id is empty; write for example 12D3KooW...".to_owned()),
        ("/p2p/", "peer id '/p2p/' has no peer id behind its /p2p".into()),
        (
            &format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}"),
            format!(
                "peer id '/ip4/127.0.0.1/tcp/1/p2p/{PEER}' is an address; write only the id that follows its /p2p/"
            ),
        ),
        (
            "x",
            "peer id 'x' has the id 'x', which is mistyped or cut short (whole peer ids begin with 12D3KooW, Qm, 16Uiu2, k51 or bafz)".into(),
        ),
    ] {
        let error = parse_peer_id(text).unwrap_err();
        assert_eq!((error.status, error.message), (Status::BadPeer, message));
    }
}

#[test]
fn what_needs_discovery_or_a_relay_is_refused_as_unreachable() {
    for tail in [String::new(), format!("/p2p/{PEER}")] {
        let text = format!("/dnsaddr/bootstrap.example{tail}");
        assert_eq!(
            refusal(&text, Status::Unreachable),
            format!(
                "peer '{text}' has to be looked up: finding peers by dnsaddr needs discovery, which this version does \
                 not have; give the peer's multiaddr, such as /ip4/<address>/tcp/<port>/p2p/<peer id>"
            )
        );
    }
    let text = format!("/ip4/1.2.3.4/tcp/1/p2p/{OTHER}/p2p-circuit/p2p/{PEER}");
    assert_eq!(
        refusal(&text, Status::Unreachable),
        format!(
            "peer '{text}' is a relayed address, and this version has no relay client; \
             give an address at which the peer listens"
        )
    );
}

#[test]
fn addresses_the_node_can_not_dial_are_refused() {
    let below_tls = |tag: &str| {
        format!(
            "has '{tag}', WebSocket below TLS, which this version does not have; write /ws, where the connection is encrypted \
             all the same, with a port that takes it without TLS"
        )
    };
    let no_transport = |tag: &str| {
        format!(
            "has '/{tag}', a transport this node does not have; it has /tcp/<port>, /tcp/<port>/ws and /udp/<port>/quic-v1"
        )
    };
    for (address, why) in [
        ("/ip4/1.2.3.4/tcp/1/ws/http", no_transport("http")),
        ("/ip4/1.2.3.4/udp/1/ws", no_transport("ws")),
        ("/ip4/1.2.3.4/tcp/1/wss", below_tls("/wss")),
        ("/dns4/example.com/tcp/443/tls/ws", below_tls("/tls/ws")),
        ("/ip4/1.2.3.4/tcp/443/tls/sni/example.com/ws", below_tls("/tls/ws")),
        ("/ip4/1.2.3.4/tcp/1/tls", no_transport("tls")),
        ("/ip4/1.2.3.4/udp/1/webrtc-direct", no_transport("webrtc-direct")),
        ("/ip4/1.2.3.4/udp/1/quic-v1/webtransport", no_transport("webtransport")),
        ("/ip4/1.2.3.4/sctp/1", no_transport("sctp")),
        ("/ip4/1.2.3.4/udp/1", "is not of a known transport; for QUIC write /udp/1/quic-v1".into()),
        ("/ip4/1.2.3.4/udp/1/quic", "is not of a known transport; for QUIC write /udp/1/quic-v1".into()),
        ("/ip4/1.2.3.4", "has no port; write for example /ip4/127.0.0.1/tcp/4001".into()),
        ("/ip4/1.2.3.4/tcp/0", "has port 0; write the port on which the peer listens".into()),
        ("/ip4/1.2.3.4/udp/0/quic-v1", "has port 0; write the port on which the peer listens".into()),
        (
            "/ip4/0.0.0.0/tcp/1",
            "has 0.0.0.0, which stands for all interfaces and can not be dialled; write one of the peer's addresses"
                .into(),
        ),
        (
            "/ip6/::/tcp/1",
            "has ::, which stands for all interfaces and can not be dialled; write one of the peer's addresses".into(),
        ),
        ("/dns4/a..b/tcp/1", "has the host 'a..b', which is not a host name".into()),
        ("/tcp/1", "begins with '/tcp'; it begins with an address, such as /ip4/127.0.0.1".into()),
        (&format!("/ip4/1.2.3.4/tcp/1/p2p/{OTHER}"), "has two peer ids".into()),
        (
            "/ip4/1.2.3.4/tcp/65536",
            "is not a valid multiaddr: failed to parse: number too large to fit in target type".into(),
        ),
        ("/foo/1", "is not a valid multiaddr: unknown protocol string: foo".into()),
    ] {
        let text = format!("{address}/p2p/{PEER}");
        assert_eq!(refusal(&text, Status::BadAddress), format!("peer '{text}' {why}"));
    }
}

#[test]
fn a_node_listens_on_ip_addresses_with_tcp_or_quic() {
    let found = parse_listen_multiaddrs(
        "/ip4/127.0.0.1/tcp/0, /ip6/::/udp/4001/quic-v1,/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/tcp/0/ws",
    )
    .unwrap();
    let found: Vec<String> = found.iter().map(Multiaddr::to_string).collect();
    assert_eq!(found, ["/ip4/127.0.0.1/tcp/0", "/ip6/::/udp/4001/quic-v1", "/ip4/127.0.0.1/tcp/0/ws"]);
    assert_eq!(parse_listen_multiaddrs("").unwrap(), Vec::<Multiaddr>::new());
    for (text, message) in [
        (
            "127.0.0.1:0",
            "node address '127.0.0.1:0' is not a multiaddr; write for example /ip4/127.0.0.1/tcp/0".to_owned(),
        ),
        (
            "/dns4/localhost/tcp/0",
            "node address '/dns4/localhost/tcp/0' has a host name; a node listens on an IP address, \
             for example /ip4/127.0.0.1/tcp/0"
                .into(),
        ),
        (
            &format!("/ip4/127.0.0.1/tcp/0/p2p/{PEER}"),
            format!(
                "node address '/ip4/127.0.0.1/tcp/0/p2p/{PEER}' has a peer id; \
                 an address to listen on ends after the port, ws or quic-v1"
            ),
        ),
        ("/", "node address '/' is empty; write for example /ip4/127.0.0.1/tcp/4001".into()),
        (",", "node address ',' has an empty entry in its list".into()),
        ("a\nb", "node address 'a\\nb' has a control character at byte 1".into()),
        (
            "/ip4/1.2.3.4/udp/1",
            "node address '/ip4/1.2.3.4/udp/1' is not of a known transport; for QUIC write /udp/1/quic-v1".into(),
        ),
    ] {
        let error = parse_listen_multiaddrs(text).unwrap_err();
        assert_eq!((error.status, error.message), (Status::BadAddress, message));
    }
}

#[test]
fn multiaddrs_tell_loopback_transport_and_names() {
    for (text, loopback, transport, dns) in [
        ("/ip4/127.1.2.3/tcp/1", true, "tcp", false),
        ("/ip6/::1/udp/1/quic-v1", true, "quic", false),
        ("/ip6/::ffff:127.0.0.1/tcp/1", true, "tcp", false),
        ("/ip4/10.0.0.1/udp/1/quic-v1", false, "quic", false),
        ("/dns4/localhost/tcp/1", false, "tcp", true),
        ("/ip4/127.0.0.1/tcp/1/ws", true, "ws", false),
        ("/dns4/localhost/tcp/1/ws", false, "ws", true),
        ("/dns/name.example/udp/1/quic-v1", false, "quic", true),
    ] {
        let address: Multiaddr = text.parse().unwrap();
        assert_eq!((is_loopback(&address), transport_name(&address), has_dns(&address)), (loopback, transport, dns));
    }
}
