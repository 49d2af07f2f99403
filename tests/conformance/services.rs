//! Services exposed and reached: who speaks first, dead targets, names, peers.

use super::*;

#[test]
fn a_listener_and_a_forward_are_made_without_contacting_anybody() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let nobody = own_ip();
    pair.far.expose("p2p-test", &format!("{nobody}:9"), &[]);
    pair.near.forward_to("p2p-test", &pair.far.address(), &[]);
    assert_eq!(pair.near.peer_rows().len(), 0);
    assert_eq!(text(&pair.near.forwards()[0], "state"), "idle");
    assert_eq!(text(&pair.far.listeners()[0], "state"), "listening");
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let target = Target::new();
    let address = pair.tunnel("p2p-test", &target.text());
    let (mut client, mut server) = connect(address, &target);
    server.write_all(b"hello from the server").unwrap();
    drop(server);
    assert_eq!(read_to_end(&mut client), b"hello from the server");
    drop(client);
    wait_until("both streams are gone", || pair.near.streams().is_empty() && pair.far.streams().is_empty());
}

#[test]
fn a_client_that_only_sends_is_heard_and_its_close_is_seen() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let target = Target::new();
    let address = pair.tunnel("p2p-test", &target.text());
    let (mut client, mut server) = connect(address, &target);
    client.write_all(b"hello from the client").unwrap();
    drop(client);
    assert_eq!(read_to_end(&mut server), b"hello from the client");
}

#[test]
fn a_client_of_a_dead_target_is_reset_and_served_when_the_target_is_back() {
    for given in [TCP, QUIC] {
        let _limit = limit(60);
        let pair = Pair::open(given);
        let target = TargetAt((own_ip(), 0).into()).start();
        let home = target.address;
        let address = pair.tunnel("p2p-test", &target.text());
        let (client, server) = connect(address, &target);
        assert_carries(client, server);
        drop(target);
        let events = pair.far.events(kind::TARGET_REFUSED);
        assert_resets(address);
        let refused = events.wait_refused();
        let sentence = format!("target {home} cannot be connected to: Connection refused");
        assert_eq!(text(&refused, "message"), sentence);
        assert_eq!(int(&refused, "code"), i64::from(Status::TargetRefused as i32));
        assert_eq!(text(&refused, "origin"), format!("/p2p/{}", pair.near.id_text()));
        let listener = &pair.far.listeners()[0];
        assert_eq!((text(listener, "error"), text(listener, "state")), (sentence, "listening".into()));

        let target = TargetAt(home).start();
        let (client, server) = connect(address, &target);
        assert_carries(client, server);
    }
}

#[test]
fn port_0_is_refused_for_a_target() {
    let _limit = limit(30);
    let node = TestNode::open(TCP);
    for target in ["127.0.0.1:0", "0", "/ip4/127.0.0.1/tcp/0", "[::1]:0", "localhost:0"] {
        assert_error(listen(&node, "p2p-test", target, &[]), Status::BadAddress, "has port 0");
    }
    assert!(node.listeners().is_empty());
}

#[test]
fn port_0_gives_a_forward_a_free_port_which_is_listed() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let echo = Target::echo();
    let address = pair.tunnel("p2p-test", &echo.text());
    assert_ne!(address.port(), 0);
    assert_eq!(text(&pair.near.forwards()[0], "listen"), address.to_string());
    assert_echoes(address);
    let closed = pair.near.close_fitting(&Filters { protocol: Some("/x/p2p-test"), ..Filters::default() });
    assert_eq!(closed.unwrap(), 1);
    assert!(freed(address));
}

#[test]
fn a_protocol_cannot_be_registered_twice() {
    let _limit = limit(30);
    let node = TestNode::open(TCP);
    node.expose("p2p-test", "127.0.0.1:10101", &[]);
    for target in ["127.0.0.1:10101", "127.0.0.1:10102"] {
        for protocol in ["p2p-test", "/x/p2p-test"] {
            assert_error(
                listen(&node, protocol, target, &[]),
                Status::AlreadyRegistered,
                "a listener for protocol /x/p2p-test is already registered",
            );
        }
    }
    assert_eq!(rows(&node.listeners(), &["target"]), [["127.0.0.1:10101"]]);
    node.close_fitting(&Filters { all: true, ..Filters::default() }).unwrap();
    node.expose("p2p-test", "127.0.0.1:10102", &[]);
}

#[test]
fn one_protocol_may_be_forwarded_on_several_ports_and_one_port_carries_one() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let echo = Target::echo();
    let first = pair.tunnel("p2p-test", &echo.text());
    let (_, second) = pair.near.forward_to("p2p-test", &pair.far.address(), &[]);
    let taken = forward(&pair.near, ["other", &first.to_string(), &pair.far.address()], &[]);
    let error = assert_error(taken, Status::AddressInUse, "");
    assert_eq!(error.message, format!("listen address {first} is already in use"));
    assert_eq!(error.system_error, libc::EADDRINUSE);
    assert_echoes(first);
    assert_echoes(second);
}

#[test]
fn a_forward_may_be_made_before_its_listener() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let echo = Target::echo();
    let events = pair.near.events(kind::REFUSED);
    let (_, address) = pair.near.forward_to("later", &pair.far.address(), &[]);
    assert_resets(address);
    let refused = events.wait_refused();
    assert_eq!(int(&refused, "code"), i64::from(Status::ProtocolRefused as i32));
    let sentence = format!("peer {} does not offer protocol /x/later, or not to this node", pair.far.id_text());
    assert_eq!(text(&refused, "message"), sentence);
    pair.far.expose("later", &echo.text(), &[]);
    assert_echoes(address);
}

#[test]
fn a_listener_that_was_closed_refuses_and_a_new_one_serves() {
    let _limit = limit(30);
    let pair = Pair::open(QUIC);
    let (first, second) = (Target::new(), Target::new());
    let address = pair.tunnel("p2p-test", &first.text());
    let (client, server) = connect(address, &first);
    assert_carries(client, server);
    pair.far.close_fitting(&Filters { all: true, ..Filters::default() }).unwrap();
    assert_resets(address);
    pair.far.expose("p2p-test", &second.text(), &[]);
    let (client, server) = connect(address, &second);
    assert_carries(client, server);
    assert!(first.untouched());
}

#[test]
fn a_peer_is_taken_in_each_of_its_forms() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let echo = Target::echo();
    pair.far.expose("p2p-test", &echo.text(), &[]);
    let (full, id) = (pair.far.address(), pair.far.id_text());
    let unknown = forward(&pair.near, ["p2p-test", "127.0.0.1:0", &id], &[]);
    assert_error(unknown, Status::Unreachable, "no address of peer");
    block(pair.near.connect(&full, Some(PATIENCE), &Default::default())).unwrap();
    let other = pair.far.address_with("/ip6/");
    for peer in [id.clone(), format!("/p2p/{id}"), format!("/ipfs/{id}"), format!("{full},{other}"), full] {
        let (_, address) = pair.near.forward_to("p2p-test", &peer, &[]);
        assert_echoes(address);
    }
    let targets = rows(&pair.near.forwards(), &["target"]);
    assert_eq!(targets, vec![[format!("/p2p/{id}")]; 5]);
}

#[test]
fn a_peer_without_an_id_and_the_own_id_are_refused() {
    let _limit = limit(30);
    let node = TestNode::open(TCP);
    let to = |peer: &str| forward(&node, ["p2p-test", "127.0.0.1:0", peer], &[]);
    assert_error(to("/ip4/127.0.0.1/tcp/4001"), Status::BadPeer, "has no peer id; end it with /p2p/<peer id>");
    assert_error(to(""), Status::BadPeer, "peer is empty");
    assert_error(to("127.0.0.1:4001"), Status::BadPeer, "is not a multiaddr");
    let (own, address) = (node.id_text(), node.address());
    for peer in [&own, &address] {
        assert_error(to(peer), Status::BadPeer, &format!("peer {own} is this node itself"));
    }
    let two = format!("{address},/ip4/127.0.0.1/tcp/1/p2p/{PEER}");
    assert_error(to(&two), Status::BadPeer, "is ambiguous");
    assert!(node.forwards().is_empty());
}

#[test]
fn numeric_names_are_names() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let echo = Target::echo();
    let address = pair.tunnel("/x/1234", &echo.text());
    assert_echoes(address);
    for node in [&pair.near, &pair.far] {
        let filters = Filters { protocol: Some("1234"), ..Filters::default() };
        assert_eq!(node.close_fitting(&filters).unwrap(), 1);
    }
}

#[test]
fn names_outside_x_need_the_option_on_both_sides() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let echo = Target::echo();
    let sentence = "protocol name '/p2p-test' is outside '/x/'; set protocol.custom=true to allow it";
    assert_error(listen(&pair.far, "/p2p-test", &echo.text(), &[]), Status::BadProtocol, sentence);
    let refused = forward(&pair.near, ["/p2p-test", "127.0.0.1:0", &pair.far.address()], &[]);
    assert_error(refused, Status::BadProtocol, sentence);

    let custom = &[("protocol.custom", "true")];
    for name in ["/p2p-test", "/http/1.1"] {
        pair.far.expose(name, &echo.text(), custom);
        let (_, address) = pair.near.forward_to(name, &pair.far.address(), custom);
        assert_echoes(address);
        for node in [&pair.near, &pair.far] {
            let filters = Filters { protocol: Some(name), ..Filters::default() };
            assert_eq!(node.close_fitting(&filters).unwrap(), 1);
        }
    }
}

#[test]
fn names_of_the_greatest_length_work_and_longer_ones_are_refused() {
    let _limit = limit(30);
    for given in [TCP, QUIC] {
        let pair = Pair::open(given);
        let echo = Target::echo();
        let name = format!("/x/{}", "n".repeat(1022 - 3));
        let address = pair.tunnel(&name, &echo.text());
        assert_echoes(address);
        let longer = format!("{name}n");
        assert_error(listen(&pair.far, &longer, &echo.text(), &[]), Status::BadProtocol, "at most 1022 are allowed");
    }
    let node = TestNode::open(TCP);
    for name in ["a\nb", "", "/x/", "/"] {
        assert_error(listen(&node, name, "1", &[]), Status::BadProtocol, "protocol name");
    }
}

#[test]
fn the_target_is_told_the_origin_when_it_wants_to() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let target = Target::new();
    pair.far.expose("p2p-test", &target.text(), &[("report-peer-id", "true")]);
    let (_, address) = pair.near.forward_to("p2p-test", &pair.far.address(), &[]);
    let (mut client, mut server) = connect(address, &target);
    client.write_all(b"data\n").unwrap();
    drop(client);
    let expected = format!("{}\ndata\n", pair.near.id_text());
    assert_eq!(String::from_utf8(read_to_end(&mut server)).unwrap(), expected);
}
