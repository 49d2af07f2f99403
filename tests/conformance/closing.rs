//! Closing by filters, lists, and what becomes of live streams.

use super::*;

/// A node with two forwards and two listeners.
struct Mounted {
    node: TestNode,
    own: String,
    forwards: [SocketAddr; 2],
}

fn mounted() -> Mounted {
    let node = TestNode::open(TCP);
    let own = format!("/p2p/{}", node.id_text());
    let peer = format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}");
    let forwards = ["a", "b"].map(|protocol| node.forward_to(protocol, &peer, &[]).1);
    // The target of a listener is where a forward listens, as in Kubo's test.
    node.expose("a", &forwards[0].to_string(), &[]);
    node.expose("c", "127.0.0.1:10101", &[]);
    Mounted { node, own, forwards }
}

/// Which mounts a close takes away, as kind and protocol.
#[track_caller]
fn assert_closes(filters: impl Fn(&Mounted) -> [Option<String>; 3], kind: Option<Kind>, gone: &[(&str, &str)]) {
    let mounted = mounted();
    let node = &mounted.node;
    let listed = || {
        let all = [node.forwards(), node.listeners()].concat();
        all.iter().map(|row| (text(row, "kind"), text(row, "protocol"))).collect::<BTreeSet<_>>()
    };
    let before = listed();
    let [protocol, listen, target] = filters(&mounted);
    let count = node.close_fitting(&Filters {
        protocol: protocol.as_deref(),
        listen: listen.as_deref(),
        target: target.as_deref(),
        kind,
        ..Filters::default()
    });
    let taken: BTreeSet<_> = before.difference(&listed()).cloned().collect();
    let expected: BTreeSet<_> = gone.iter().map(|(kind, name)| ((*kind).into(), format!("/x/{name}"))).collect();
    assert_eq!(taken, expected);
    assert_eq!(count.unwrap(), gone.len());
    for (number, name) in ["a", "b"].iter().enumerate() {
        assert_eq!(freed(mounted.forwards[number]), gone.contains(&("forward", name)), "port of forward {name}");
    }
}

#[test]
fn close_by_protocol_takes_forwards_and_listeners() {
    let _limit = limit(30);
    assert_closes(|_| [Some("a".into()), None, None], None, &[("forward", "a"), ("listener", "a")]);
    assert_closes(|_| [Some("/x/b".into()), None, None], None, &[("forward", "b")]);
    assert_closes(|_| [Some("nothing".into()), None, None], None, &[]);
}

#[test]
fn close_by_listen_address_takes_the_forward_and_not_the_listener_with_that_target() {
    let _limit = limit(30);
    assert_closes(|all| [None, Some(all.forwards[0].to_string()), None], None, &[("forward", "a")]);
    let multiaddr = |all: &Mounted| format!("/ip4/127.0.0.1/tcp/{}", all.forwards[1].port());
    assert_closes(|all| [None, Some(multiaddr(all)), None], None, &[("forward", "b")]);
    assert_closes(|_| [None, Some("127.0.0.1:0".into()), None], None, &[]);
}

#[test]
fn close_by_the_own_peer_id_as_listen_address_takes_the_listeners() {
    let _limit = limit(30);
    let listeners = &[("listener", "a"), ("listener", "c")];
    assert_closes(|all| [None, Some(all.own.clone()), None], None, listeners);
    assert_closes(|all| [None, Some(all.own.replace("/p2p/", "/ipfs/")), None], None, listeners);
    assert_closes(|_| [None, Some(format!("/p2p/{PEER}")), None], None, &[]);
}

#[test]
fn close_by_target_takes_forwards_to_the_peer_or_listeners_of_the_address() {
    let _limit = limit(30);
    assert_closes(|_| [None, None, Some(format!("/p2p/{PEER}"))], None, &[("forward", "a"), ("forward", "b")]);
    assert_closes(|all| [None, None, Some(all.forwards[0].to_string())], None, &[("listener", "a")]);
    assert_closes(|_| [None, None, Some("/ip4/127.0.0.1/tcp/10101".into())], None, &[("listener", "c")]);
    assert_closes(|all| [None, None, Some(all.own.clone())], None, &[]);
}

#[test]
fn filters_of_close_must_all_fit() {
    let _limit = limit(30);
    let peer = || Some(format!("/p2p/{PEER}"));
    assert_closes(|_| [Some("a".into()), None, peer()], None, &[("forward", "a")]);
    assert_closes(|all| [Some("a".into()), Some(all.own.clone()), None], None, &[("listener", "a")]);
    assert_closes(|all| [Some("c".into()), Some(all.forwards[0].to_string()), None], None, &[]);
    assert_closes(|all| [Some("b".into()), Some(all.forwards[1].to_string()), peer()], None, &[("forward", "b")]);
    assert_closes(|_| [Some("a".into()), None, None], Some(Kind::Listener), &[("listener", "a")]);
    assert_closes(|_| [Some("a".into()), None, None], Some(Kind::Forward), &[("forward", "a")]);
}

#[test]
fn close_needs_a_filter_or_all_and_never_both() {
    let _limit = limit(30);
    let Mounted { node, forwards, .. } = mounted();
    assert_error(node.close_fitting(&Filters::default()), Status::InvalidArgument, "nothing says which mounts");
    let both = Filters { all: true, protocol: Some("a"), ..Filters::default() };
    assert_error(node.close_fitting(&both), Status::InvalidArgument, "cannot be combined");
    assert_eq!(node.close_fitting(&Filters { all: true, ..Filters::default() }).unwrap(), 4);
    assert!(node.forwards().is_empty() && node.listeners().is_empty());
    assert!(forwards.into_iter().all(freed));
    assert_eq!(node.close_fitting(&Filters { all: true, ..Filters::default() }).unwrap(), 0);
}

#[test]
fn lists_say_exactly_what_was_made() {
    let _limit = limit(30);
    let Mounted { node, own, forwards } = mounted();
    let fields = ["kind", "protocol", "listen", "target", "state", "error", "streams", "streams_total", "bytes_in"];
    let shown = |rows: &[p2pmount::rows::Row]| {
        let text = |row: &p2pmount::rows::Row, name| row.text_with_nul(name).unwrap().trim_end_matches('\0').to_owned();
        rows.iter().map(|row| fields.map(|name| text(row, name)).join(" ")).collect::<Vec<_>>()
    };
    let expected = ["a", "b"]
        .iter()
        .zip(forwards)
        .map(|(name, listen)| format!("forward /x/{name} {listen} /p2p/{PEER} idle  0 0 0"));
    assert_eq!(shown(&node.forwards()), expected.collect::<Vec<_>>());
    let expected = [
        format!("listener /x/a {own} {} listening  0 0 0", forwards[0]),
        format!("listener /x/c {own} 127.0.0.1:10101 listening  0 0 0"),
    ];
    assert_eq!(shown(&node.listeners()), expected);
    assert_eq!(rows(&node.listeners(), &["access"]), [["open to all"], ["open to all"]]);
    let node = node.row();
    let counts = ["listeners", "forwards", "streams", "peers", "connections"].map(|name| int(&node, name));
    assert_eq!(counts, [2, 2, 0, 0, 0]);
    assert_eq!((text(&node, "state"), text(&node, "network")), ("open".into(), "local".into()));
}

#[test]
fn streams_are_counted_from_0_and_listed_with_both_ends() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let target = Target::new();
    let address = pair.tunnel("p2p-test", &target.text());
    assert!(pair.near.streams().is_empty());
    for _ in 0..3 {
        let (client, mut server) = connect(address, &target);
        drop(client);
        expect_end(&mut server);
        drop(server);
    }
    wait_until("the three streams are gone", || pair.near.streams().is_empty() && pair.far.streams().is_empty());
    let (mut client, mut server) = connect(address, &target);
    client.write_all(b"12345").unwrap();
    read_exact(&mut server, 5);
    server.write_all(b"123").unwrap();
    read_exact(&mut client, 3);

    // A byte is counted just after it was passed on.
    let counts = |node: &TestNode| ["id", "bytes_in", "bytes_out"].map(|name| int(&node.streams()[0], name));
    wait_until("all bytes are counted", || counts(&pair.near) == [3, 3, 5] && counts(&pair.far) == [3, 5, 3]);
    let streams = pair.near.streams();
    let fields = ["side", "protocol", "origin", "target", "peer", "path", "transport"];
    let (origin, far) = (client.local_addr().unwrap().to_string(), pair.far.id_text());
    let peer = format!("/p2p/{far}");
    assert_eq!(rows(&streams, &fields), [["forward", "/x/p2p-test", &origin, &peer, &far, "direct", "tcp"]]);

    let streams = pair.far.streams();
    let (near, target) = (pair.near.id_text(), target.text());
    let origin = format!("/p2p/{near}");
    assert_eq!(rows(&streams, &fields), [["listener", "/x/p2p-test", &origin, &target, &near, "direct", "tcp"]]);
    let listener = &pair.far.listeners()[0];
    assert_eq!(["streams", "streams_total", "bytes_in"].map(|name| int(listener, name)), [1, 4, 5]);
}

#[test]
fn failed_connections_use_no_stream_id() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let (_, dead) = pair.near.forward_to("missing", &pair.far.address(), &[]);
    for _ in 0..3 {
        assert_resets(dead);
    }
    let target = Target::new();
    let address = pair.tunnel("p2p-test", &target.text());
    let _ends = connect(address, &target);
    wait_until("the stream is listed", || pair.near.streams().len() == 1);
    assert_eq!(int(&pair.near.streams()[0], "id"), 0);
}

#[test]
fn closing_a_stream_ends_both_of_its_connections_and_no_other() {
    for given in [TCP, QUIC] {
        let _limit = limit(30);
        let pair = Pair::open(given);
        let target = Target::new();
        let address = pair.tunnel("p2p-test", &target.text());
        for node in [&pair.near, &pair.far] {
            let (mut client, mut server) = connect(address, &target);
            let (other_client, other_server) = connect(address, &target);
            let events = node.events(kind::STREAM_CLOSED);
            wait_until("two streams are listed", || node.streams().len() == 2);
            let id = int(&node.streams()[0], "id");
            node.close_stream(u64::try_from(id).unwrap()).unwrap();
            assert!(expect_reset(&mut client).is_empty());
            assert!(expect_reset(&mut server).is_empty());
            let closed = events.wait("the end of the stream", |_| true);
            assert_eq!((int(&closed, "stream"), text(&closed, "reason")), (id, "closed by request".into()));
            assert_carries(other_client, other_server);
            wait_until("no stream is left", || pair.near.streams().is_empty() && pair.far.streams().is_empty());
        }
        let gone = assert_error(pair.near.close_stream(0), Status::NotFound, "");
        assert_eq!(gone.message, "there is no stream 0; it may have ended already");
    }
}

#[test]
fn streams_outlive_their_mounts_unless_they_are_ended_too() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let target = Target::new();
    let address = pair.tunnel("p2p-test", &target.text());
    let (mut client, mut server) = connect(address, &target);
    client.write_all(b"before").unwrap();
    read_exact(&mut server, 6);
    for node in [&pair.far, &pair.near] {
        assert_eq!(node.close_fitting(&Filters { all: true, ..Filters::default() }).unwrap(), 1);
    }
    assert!(freed(address));
    assert_eq!((pair.near.streams().len(), pair.far.streams().len()), (1, 1));
    client.write_all(b"after").unwrap();
    client.half_close();
    assert_eq!(read_to_end(&mut server), b"after");
    server.write_all(b"the reply").unwrap();
    drop(server);
    assert_eq!(read_to_end(&mut client), b"the reply");

    let address = pair.tunnel("p2p-test", &target.text());
    let (mut client, mut server) = connect(address, &target);
    wait_until("the stream is listed", || pair.near.streams().len() == 1);
    let filters = Filters { protocol: Some("p2p-test"), streams: true, ..Filters::default() };
    assert_eq!(pair.near.close_fitting(&filters).unwrap(), 1);
    expect_reset(&mut client);
    expect_reset(&mut server);
}

#[test]
fn ending_the_streams_of_a_mount_ends_those_that_are_being_opened() {
    let _limit = limit(60);
    let all = Filters { all: true, streams: true, ..Filters::default() };
    // A forward that waits for its peer.
    let node = TestNode::open(TCP);
    let hole = BlackHole::new();
    let (mount, address) = node.forward_to("p2p-test", &hole.peer(), &[]);
    let mut waiting = client(address);
    wait_until("the stream is being opened", || mount.streams() == 1);
    node.close_fitting(&all).unwrap();
    expect_reset(&mut waiting);

    // A listener that waits for its target.
    let full = FullTarget::new();
    let slow = &[("target.timeout", "1m")];
    let pair = Pair::open(TCP);
    let listener = pair.far.expose("p2p-test", &full.text(), slow);
    let (_, address) = pair.near.forward_to("p2p-test", &pair.far.address(), &[]);
    let mut waiting = client(address);
    wait_until("the target is being connected", || listener.streams() == 1);
    pair.far.close_fitting(&all).unwrap();
    expect_reset(&mut waiting);

    // The same where access is withdrawn: what comes of it later must not be carried.
    let listener = pair.far.expose("p2p-test", &full.text(), slow);
    let mut waiting = client(address);
    wait_until("the target is being connected", || listener.streams() == 1);
    pair.far.set_mount(&listener, "peers.allow", "").unwrap();
    expect_reset(&mut waiting);
}

#[test]
fn every_port_is_free_after_closing_the_node_and_its_calls_say_so() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let target = Target::new();
    let address = pair.tunnel("p2p-test", &target.text());
    let (mut client, mut server) = connect(address, &target);
    let peer = pair.far.address();
    let listening: Vec<SocketAddr> =
        [&pair.near, &pair.far].iter().map(|node| socket_address(&node.address())).collect();
    pair.near.close_now();
    pair.far.close_now();
    expect_reset(&mut client);
    expect_reset(&mut server);
    assert!(freed(address));
    assert!(listening.into_iter().all(freed));
    let near = &pair.near;
    let sentence = "the node was closed";
    assert_error(listen(near, "p2p-test", "1", &[]), Status::Closed, sentence);
    assert_error(forward(near, ["p2p-test", "0", &peer], &[]), Status::Closed, sentence);
    assert_error(near.close_fitting(&Filters { all: true, ..Filters::default() }), Status::Closed, sentence);
    assert_error(near.close_stream(0), Status::Closed, sentence);
    assert_error(block(near.connect(&peer, None, &Default::default())), Status::Closed, sentence);
}

/// Address and port of `/ip4/A/tcp/P/...`.
fn socket_address(multiaddr: &str) -> SocketAddr {
    let parts: Vec<&str> = multiaddr.split('/').collect();
    SocketAddr::new(parts[2].parse().unwrap(), parts[4].parse().unwrap())
}

#[test]
fn closing_with_a_drain_lets_streams_finish_and_accepts_no_new_ones() {
    let _limit = limit(30);
    let pair = Pair::open(TCP);
    let target = Target::new();
    let address = pair.tunnel("p2p-test", &target.text());
    let (mut client, mut server) = connect(address, &target);
    let events = pair.near.events(kind::NODE);
    let node: Arc<Node> = Arc::clone(&pair.near);
    let closing = thread::spawn(move || block(node.close(Some(PATIENCE))));
    events.wait_state("closing");
    wait_until("the port is free", || freed(address));
    client.write_all(b"still").unwrap();
    assert_eq!(read_exact(&mut server, 5), b"still");
    server.write_all(b"alive").unwrap();
    drop(server);
    assert_eq!(read_to_end(&mut client), b"alive");
    drop(client);
    closing.join().unwrap();
}
