//! How connections between nodes end: cut, busy, idle, one too many.

mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use p2pmount::{Error, Status, events::kind, mounts::Filters};
use socket2::{Domain, Socket, Type};
use support::{
    Events, PATIENCE, Pair, QUIC, TCP, Target, TcpProxy, TestNode, at, block, bytes, client, expect_reset, int, limit,
    read_exact, read_to_end, text, wait_until,
};
use tokio_util::sync::CancellationToken;

fn connect(node: &TestNode, peer: &str) -> Result<(), Error> {
    at("connecting to a peer");
    block(node.connect(peer, Some(PATIENCE), &CancellationToken::new()))
}

/// A new client of an echo server is answered.
#[track_caller]
fn assert_echoes(address: SocketAddr) {
    let mut stream = client(address);
    stream.write_all(b"echo?").unwrap();
    assert_eq!(read_exact(&mut stream, 5), b"echo?");
}

/// Address and port of `/ip4/A/tcp/P/...`.
fn socket_address(multiaddr: &str) -> SocketAddr {
    let parts: Vec<&str> = multiaddr.split('/').collect();
    SocketAddr::new(parts[2].parse().unwrap(), parts[4].parse().unwrap())
}

fn impatient<'a>(given: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [given, &[("ping.interval", "200ms"), ("ping.timeout", "500ms")]].concat()
}

/// Two nodes with a proxy between them, a target, and the address that leads to it.
fn through_a_proxy() -> (Pair, TcpProxy, Target, SocketAddr) {
    let pair = Pair::open(TCP);
    let proxy = TcpProxy::to(socket_address(&pair.far.address()));
    let target = Target::new();
    pair.far.expose("p2p-test", &target.text(), &[]);
    let peer = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", proxy.address.port(), pair.far.id_text());
    let (_, address) = pair.near.forward_to("p2p-test", &peer, &[]);
    (pair, proxy, target, address)
}

/// In full flow congestion control lets nothing more out at most moments, the end of the connection included.
#[test]
fn a_node_that_closes_in_full_flow_over_quic_is_noticed_at_once() {
    let _limit = limit(90);
    for _ in 0..12 {
        let pair = Pair::open(QUIC);
        let target = Target::new();
        pair.far.expose("p2p-test", &target.text(), &[]);
        let (_, address) = pair.near.forward_to("p2p-test", &pair.far.address(), &[]);
        let (mut client, mut server) = (client(address), target.accept());
        let pour = thread::spawn(move || while server.write_all(&[7; 64 << 10]).is_ok() {});
        read_exact(&mut client, 400_000);
        let closed = Instant::now();
        pair.far.close_now();
        expect_reset(&mut client);
        assert!(closed.elapsed() < Duration::from_secs(5), "{:?}", closed.elapsed());
        pour.join().unwrap();
    }
}

#[test]
fn a_connection_that_is_cut_resets_its_streams_at_once() {
    let _limit = limit(30);
    let (pair, proxy, target, address) = through_a_proxy();
    let open = |_| {
        let (mut client, mut server) = (client(address), target.accept());
        // One that is not open at both ends yet may be asked for again on the next connection.
        server.write_all(b"!").unwrap();
        assert_eq!(read_exact(&mut client, 1), b"!");
        (client, server)
    };
    let ends: Vec<_> = (0..5).map(open).collect();
    let peers = pair.near.events(kind::PEER);
    proxy.cut();
    let row = peers.wait_state("disconnected");
    assert_eq!(text(&row, "message"), "the peer closed the connection without a word; it may have crashed");
    for (mut client, mut server) in ends {
        expect_reset(&mut client);
        expect_reset(&mut server);
    }
    wait_until("no stream is left", || pair.near.streams().is_empty() && pair.far.streams().is_empty());
    assert_eq!([&pair.near.forwards()[0], &pair.far.listeners()[0]].map(|row| int(row, "streams_cut")), [5, 5]);
}

/// A client that is answered and leaves.
fn come_and_go(address: SocketAddr, target: &Target) {
    let mut other = client(address);
    target.accept().write_all(b"!").unwrap();
    read_exact(&mut other, 1);
}

/// A reply that has come whole, end of file included, is the client's, though the connection is lost before it has read it.
#[test]
fn a_reply_that_has_come_is_delivered_though_the_connection_is_cut() {
    let _limit = limit(30);
    let (pair, proxy, target, address) = through_a_proxy();
    let small = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // So that most of the reply waits in the tunnel's socket.
    small.set_recv_buffer_size(4096).unwrap();
    small.connect(&address.into()).unwrap();
    let mut client: TcpStream = small.into();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut server = target.accept();
    let reply = bytes(300_000, 0);
    server.write_all(reply).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    wait_until("the reply has come", || {
        pair.near.streams().first().is_some_and(|row| int(row, "bytes_in") == reply.len() as i64)
    });
    // Its end has, too, when others have come and gone behind it.
    (0..3).for_each(|_| come_and_go(address, &target));
    let peers = pair.near.events(kind::PEER);
    proxy.cut();
    peers.wait_state("disconnected");
    assert_eq!(read_to_end(&mut client), reply);
}

/// The same where most of it still waits in the library, and the client sends something before it goes on reading.
#[test]
fn a_reply_that_has_come_is_delivered_to_a_client_that_sends_behind_the_end_of_the_connection() {
    let _limit = limit(60);
    let (pair, proxy, target, address) = through_a_proxy();
    let (mut client, mut server) = (client(address), target.accept());
    let row = |node: &TestNode, name| node.streams().first().map_or(0, |row| int(row, name));
    let mut written = 0;
    // Until the client's socket takes no more; what is written last stays in the library.
    while row(&pair.near, "bytes_in") == written {
        server.write_all(bytes(100_000, 0)).unwrap();
        written += 100_000;
        wait_until("it is sent", || row(&pair.far, "bytes_out") == written);
        come_and_go(address, &target);
    }
    server.shutdown(Shutdown::Write).unwrap();
    (0..3).for_each(|_| come_and_go(address, &target));
    let peers = pair.near.events(kind::PEER);
    proxy.cut();
    peers.wait_state("disconnected");
    client.write_all(b"more").unwrap();
    assert_eq!(read_to_end(&mut client).len() as i64, written);
}

/// The same where the client waits for the reply with its own direction open: it comes together with the end of the
/// connection.
#[test]
fn a_reply_that_comes_with_the_end_of_the_connection_is_delivered() {
    let _limit = limit(60);
    for size in [10, 100_000, 200_000] {
        let (pair, proxy, target, address) = through_a_proxy();
        let mut client = client(address);
        let mut server = target.accept();
        server.write_all(b"!").unwrap();
        read_exact(&mut client, 1);
        proxy.hold(true);
        let reply = bytes(size, 0);
        server.write_all(reply).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        wait_until("the reply is on its way", || {
            pair.far.streams().first().is_some_and(|row| int(row, "bytes_out") == 1 + size as i64)
        });
        // Its end is, too, when others have come behind it.
        let others: Vec<_> = (0..3).map(|_| (support::client(address), target.accept())).collect();
        pair.far.close_now();
        proxy.hold(false);
        assert_eq!(read_to_end(&mut client), reply);
        drop(others);
    }
}

#[test]
fn what_a_client_sends_first_reaches_the_target_before_the_peers_answer_comes_back() {
    let _limit = limit(30);
    let (_pair, proxy, target, address) = through_a_proxy();
    let mut first = client(address);
    let mut served = target.accept();
    served.write_all(b"!").unwrap();
    read_exact(&mut first, 1);

    proxy.hold(true);
    let mut early = client(address);
    early.write_all(b"early").unwrap();
    let mut server = target.accept();
    assert_eq!(read_exact(&mut server, 5), b"early");
    early.write_all(b" and late").unwrap();
    early.shutdown(Shutdown::Write).unwrap();
    proxy.hold(false);
    assert_eq!(read_to_end(&mut server), b" and late");
    server.write_all(b"answer").unwrap();
    drop(server);
    assert_eq!(read_to_end(&mut early), b"answer");
}

#[test]
fn nothing_is_sent_under_a_protocol_that_the_peer_has_not_agreed_to() {
    let _limit = limit(30);
    let (pair, _proxy, target, address) = through_a_proxy();
    let mut first = client(address);
    target.accept().write_all(b"!").unwrap();
    read_exact(&mut first, 1);
    let refusals = pair.near.events(kind::REFUSED);
    let (_, other) = pair.near.forward_to("p2p-another", &pair.far.id_text(), &[]);

    // To a peer that still waits for a protocol's name this would be one.
    let mut refused = client(other);
    match refused.write_all(b"\x0c/x/p2p-test\nstolen") {
        Ok(()) => drop(expect_reset(&mut refused)),
        // It was refused before it had said anything.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let refusal = refusals.wait_refused();
    assert!(text(&refusal, "message").contains("does not offer protocol /x/p2p-another,"), "{refusal:?}");
    assert!(target.untouched(), "another service was reached");
}

#[test]
fn a_busy_connection_is_not_taken_for_dead() {
    let _limit = limit(60);
    for given in [TCP, QUIC] {
        let pair = Pair { near: TestNode::open(&impatient(given)), far: TestNode::open(&impatient(given)) };
        let target = Target::new();
        let address = pair.tunnel("p2p-test", &target.text());
        let mut client = client(address);
        let mut server = target.accept();
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(move || {
                let chunk = bytes(1 << 20, 0);
                while start.elapsed() < Duration::from_secs(3) {
                    server.write_all(chunk).unwrap();
                }
            });
            let mut chunk = vec![0; 1 << 20];
            let mut read = 0;
            loop {
                match client.read(&mut chunk).unwrap_or_else(|error| panic!("after {read} bytes: {error}")) {
                    0 => break,
                    more => read += more,
                }
            }
            assert_eq!(read % (1 << 20), 0);
            println!("{given:?}: {} MiB in 3 s", read >> 20);
        });
    }
}

// --- connections -----------------------------------------------------------------------------------------------------

fn assert_limit(events: &Events, sentence: &str) {
    let refused = events.wait_refused();
    assert_eq!(int(&refused, "code"), i64::from(Status::Limit as i32));
    assert!(text(&refused, "message").contains(sentence), "{refused:?}");
}

#[test]
fn unfinished_handshakes_beyond_the_limit_are_refused_with_an_event() {
    let _limit = limit(60);
    let far = TestNode::open(&[("transports", "tcp"), ("connections.pending", "2")]);
    let events = far.events(kind::REFUSED);
    let home = socket_address(&far.address());
    let idle: Vec<_> = (0..3).map(|_| client(home)).collect();
    assert_limit(&events, "a limit of this node forbids it");
    drop(idle);
    let near = TestNode::open(TCP);
    wait_until("a handshake is let in again", || connect(&near, &far.address()).is_ok());
    assert_eq!(near.peer_rows().len(), 1);
}

#[test]
fn a_connection_that_nobody_uses_is_closed_unless_a_forward_keeps_it() {
    let _limit = limit(60);
    let idle = [("transports", "tcp"), ("connection.idle_timeout", "1s")];
    let far = TestNode::open(&[("transports", "tcp"), ("connection.idle_timeout", "1m")]);
    let echo = Target::echo();
    far.expose("p2p-test", &echo.text(), &[]);
    let (keeps, loses) = (TestNode::open(&idle), TestNode::open(&idle));
    let (_, address) = keeps.forward_to("p2p-test", &far.address(), &[]);
    assert_echoes(address);
    let events = loses.events(kind::PEER);
    connect(&loses, &far.address()).unwrap();
    events.wait_state("connected");
    events.wait_state("disconnected");
    assert_eq!(keeps.peer_rows().len(), 1);
    assert_echoes(address);
}

#[test]
fn a_connection_is_idle_from_the_end_of_its_last_stream_or_forward_however_seldom_it_is_pinged() {
    let _limit = limit(120);
    for transport in ["tcp", "quic"] {
        let rare = [("transports", transport), ("ping.interval", "24h"), ("connection.keep_alive", "24h")];
        let far = TestNode::open(&[&rare[..], &[("connection.idle_timeout", "1h")]].concat());
        let echo = Target::echo();
        far.expose("p2p-test", &echo.text(), &[]);
        let near = TestNode::open(&[&rare[..], &[("connection.idle_timeout", "1s")]].concat());
        let events = near.events(kind::PEER);
        for reconnect in ["false", "true"] {
            let (_, address) = near.forward_to("p2p-test", &far.address(), &[("reconnect", reconnect)]);
            let mut stream = client(address);
            events.wait_state("connected");
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(700) {
                stream.write_all(b"echo?").unwrap();
                assert_eq!(read_exact(&mut stream, 5), b"echo?");
            }
            let mut ended = Instant::now();
            drop(stream);
            if reconnect == "true" {
                let kept = events.0.next(Some(Duration::from_millis(1500)));
                assert!(kept.is_err(), "the forward keeps it: {kept:?}");
                ended = Instant::now();
                near.close_fitting(&Filters { all: true, ..Filters::default() }).unwrap();
            }
            events.wait_state("disconnected");
            assert!(ended.elapsed() >= Duration::from_secs(1), "closed before it was idle for long enough");
        }
    }
}

#[test]
fn a_node_that_seldom_pings_answers_every_ping_of_its_peer() {
    let _limit = limit(60);
    let pairs = ["tcp", "quic"].map(|transport| {
        let far = TestNode::open(&[("transports", transport), ("ping.interval", "24h")]);
        // Given up after six seconds without an answer, before libp2p's second try.
        let often = [("transports", transport), ("ping.interval", "3s"), ("ping.timeout", "1500ms")];
        let near = TestNode::open(&often);
        let events = near.events(kind::PEER);
        connect(&near, &far.address()).unwrap();
        events.wait_state("connected");
        (events, near, far)
    });
    let end = Instant::now() + Duration::from_secs(11);
    for (events, ..) in &pairs {
        at("a connection stays alive");
        let event = events.0.next(Some(end.saturating_duration_since(Instant::now())));
        assert!(event.is_err(), "{event:?}");
    }
}
