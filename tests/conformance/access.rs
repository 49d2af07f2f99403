//! Who is admitted, and how many streams.

use super::*;

#[test]
fn a_listener_admits_whom_its_lists_name() {
    let _limit = limit(60);
    let pair = Pair::open(TCP);
    let echo = Target::echo();
    let id = pair.near.id_text();
    let both = format!("{PEER}, /p2p/{id}");
    type Case<'a> = (&'a [(&'a str, &'a str)], bool, &'a str);
    let cases: [Case; 8] = [
        (&[], true, "open to all"),
        (&[("peers.allow", "*")], true, "open to all"),
        (&[("peers.allow", &id)], true, "allow 1, deny 0"),
        (&[("peers.allow", &both)], true, "allow 2, deny 0"),
        (&[("peers.allow", PEER)], false, "allow 1, deny 0"),
        (&[("peers.allow", "")], false, "open to nobody"),
        (&[("peers.deny", &id)], false, "open to all but 1"),
        (&[("peers.allow", &id), ("peers.deny", &id)], false, "allow 1, deny 1"),
    ];
    for (number, (given, admitted, described)) in cases.into_iter().enumerate() {
        let name = format!("case-{number}");
        pair.far.expose(&name, &echo.text(), given);
        assert_eq!(text(pair.far.listeners().last().unwrap(), "access"), described);
        let (_, address) = pair.near.forward_to(&name, &pair.far.address(), &[]);
        if admitted {
            assert_echoes(address);
        } else {
            let events = pair.near.events(kind::REFUSED);
            assert_resets(address);
            assert_eq!(int(&events.wait_refused(), "code"), i64::from(Status::ProtocolRefused as i32), "{given:?}");
        }
    }
    // A refused peer costs the target nothing.
    let target = Target::new();
    pair.far.expose("closed", &target.text(), &[("peers.allow", "")]);
    let (_, address) = pair.near.forward_to("closed", &pair.far.address(), &[]);
    assert_resets(address);
    assert!(target.untouched());
}

#[test]
fn a_peer_id_in_another_spelling_is_the_same_peer() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let target = Target::new();
    let hash = libp2p::multihash::Multihash::from_bytes(&pair.near.peer_id().to_bytes()).unwrap();
    let as_cid = cid::Cid::new_v1(0x72, hash).to_string();
    pair.far.expose("p2p-test", &target.text(), &[("peers.deny", &as_cid)]);
    let (_, address) = pair.near.forward_to("p2p-test", &pair.far.address(), &[]);
    assert_resets(address);
}

#[test]
fn changing_an_access_list_ends_the_streams_it_no_longer_admits() {
    for given in [TCP, QUIC] {
        let _limit = limit(30);
        let pair = Pair::open(given);
        let third = TestNode::open(given);
        let target = Target::new();
        let listener = pair.far.expose("p2p-test", &target.text(), &[]);
        let tunnel = |node: &TestNode| node.forward_to("p2p-test", &pair.far.address(), &[]).1;
        let (first, second) = (tunnel(&pair.near), tunnel(&third));
        let (mut client, mut server) = connect(first, &target);
        let (kept_client, kept_server) = connect(second, &target);
        let events = pair.far.events(kind::STREAM_CLOSED);

        pair.far.set_mount(&listener, "peers.deny", &pair.near.id_text()).unwrap();
        expect_reset(&mut client);
        expect_reset(&mut server);
        assert_eq!(text(&events.wait("the end of the stream", |_| true), "reason"), "access withdrawn");
        assert_resets(first);
        assert_carries(kept_client, kept_server);
        let (client, server) = connect(second, &target);
        assert_carries(client, server);

        pair.far.set_mount(&listener, "peers.deny", "").unwrap();
        let (client, server) = connect(first, &target);
        assert_carries(client, server);
        pair.far.set_mount(&listener, "peers.allow", "").unwrap();
        assert_resets(first);
        assert_resets(second);
        let bad = pair.far.set_mount(&listener, "peers.allow", "nobody");
        assert_error(bad, Status::BadOption, "option peers.allow");
        assert_eq!(text(&pair.far.listeners()[0], "access"), "open to nobody");
    }
}

#[test]
fn an_access_list_of_the_node_holds_for_listeners_without_one_of_their_own() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let target = Target::new();
    pair.far.expose("plain", &target.text(), &[]);
    pair.far.expose("own", &target.text(), &[("peers.deny", "")]);
    let (plain, own) = (
        pair.near.forward_to("plain", &pair.far.address(), &[]).1,
        pair.near.forward_to("own", &pair.far.address(), &[]).1,
    );
    let (mut client, mut server) = connect(plain, &target);
    let (kept_client, kept_server) = connect(own, &target);

    pair.far.set("peers.deny", &pair.near.id_text()).unwrap();
    expect_reset(&mut client);
    expect_reset(&mut server);
    assert_resets(plain);
    assert_carries(kept_client, kept_server);
}

/// A stock libp2p node that only asks who it is connected to.
struct Stranger {
    swarm: Swarm<identify::Behaviour>,
    peer: PeerId,
}

impl Stranger {
    fn new() -> Self {
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        let swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|key| identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), key.public())))
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
            .build();
        Stranger { swarm, peer }
    }

    /// The next list of protocols that the other side offers.
    fn offered(&mut self) -> Vec<StreamProtocol> {
        at("waiting for identify");
        let next = async {
            loop {
                if let SwarmEvent::Behaviour(identify::Event::Received { info, .. }) =
                    self.swarm.select_next_some().await
                {
                    return info.protocols;
                }
            }
        };
        block(async { tokio::time::timeout(PATIENCE, next).await }).expect("nothing was received")
    }
}

#[test]
fn identify_lists_a_protocol_only_to_peers_that_are_admitted() {
    let _limit = limit(60);
    let runtime = support::runtime();
    let far = TestNode::open(TCP);
    let _inside = runtime.enter();
    let (mut admitted, mut other) = (Stranger::new(), Stranger::new());
    let listener = far.expose("secret", "127.0.0.1:9", &[("peers.allow", &admitted.peer.to_string())]);
    far.expose("open", "127.0.0.1:9", &[]);
    let address: Multiaddr = far.address().parse().unwrap();
    let named = |offered: Vec<StreamProtocol>| {
        ["/x/open", "/x/secret"].map(|name| offered.iter().any(|protocol| protocol.as_ref() == name))
    };
    for (stranger, expected) in [(&mut admitted, [true, true]), (&mut other, [true, false])] {
        stranger.swarm.dial(address.clone()).unwrap();
        assert_eq!(named(stranger.offered()), expected);
    }
    // A change of the list is told to those who are connected.
    far.set_mount(&listener, "peers.allow", &other.peer.to_string()).unwrap();
    assert_eq!(named(other.offered()), [true, true]);
    assert_eq!(named(admitted.offered()), [true, false]);
}

/// With the limit on `limited` (of the near or far node, or its mount), one stream works and a second is refused with an event.
fn assert_one_stream(option: &str, far_side: bool, on_mount: bool, sentence: impl Fn(&Pair, SocketAddr) -> String) {
    let pair = Pair::open(TCP);
    let target = Target::new();
    let given = [(option, "1")];
    let of = |side: bool| if on_mount && side { &given[..] } else { &[] };
    pair.far.expose("p2p-test", &target.text(), of(far_side));
    let (_, address) = pair.near.forward_to("p2p-test", &pair.far.address(), of(!far_side));
    let limited = if far_side { &pair.far } else { &pair.near };
    if !on_mount {
        limited.set(option, "1").unwrap();
    }
    let events = limited.events(kind::REFUSED);
    let (client, server) = connect(address, &target);
    assert_resets(address);
    let refused = events.wait_refused();
    assert_eq!(text(&refused, "message"), sentence(&pair, address));
    assert_eq!(int(&refused, "code"), i64::from(Status::Limit as i32));
    assert_carries(client, server);
    wait_until("the first stream is gone", || limited.streams().is_empty());
    let (client, server) = connect(address, &target);
    assert_carries(client, server);
}

#[test]
fn limits_on_streams_refuse_one_stream_with_a_reason() {
    let _limit = limit(60);
    for far_side in [false, true] {
        assert_one_stream("streams.max", far_side, false, |_, _| {
            "the node has 1 streams, the most that streams.max allows".into()
        });
        assert_one_stream("streams.per_peer", far_side, false, |pair, _| {
            let other = if far_side { &pair.near } else { &pair.far };
            format!("peer {} has 1 streams, the most that streams.per_peer allows", other.id_text())
        });
        assert_one_stream("streams.per_mount", far_side, true, |_, address| {
            let mount =
                if far_side { "listener /x/p2p-test".into() } else { format!("forward /x/p2p-test on {address}") };
            format!("{mount} has 1 streams, the most that streams.per_mount allows")
        });
    }
}

#[test]
fn a_peers_limit_leaves_other_peers_their_streams() {
    let _limit = limit(30);
    let far = TestNode::open(&[("transports", "tcp"), ("streams.per_peer", "1")]);
    let target = Target::new();
    far.expose("p2p-test", &target.text(), &[]);
    let nodes = [TestNode::open(TCP), TestNode::open(TCP)];
    let ends = nodes.each_ref().map(|node| {
        let (_, address) = node.forward_to("p2p-test", &far.address(), &[]);
        let ends = connect(address, &target);
        assert_resets(address);
        ends
    });
    for (client, server) in ends {
        assert_carries(client, server);
    }
}
