//! The way to a peer: nodes that listen, dial, choose between connections, notice dead ones, keep their limits and leave
//! nothing behind.

#[macro_use]
mod support;

use std::{
    env, fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use p2pmount::{Error, Status, events::kind, rows::Row};
use support::{
    Events, PATIENCE, Pair, Path, QUIC, TCP, Target, TestNode, WS, at, block, bytes, client, expect_end, expect_reset,
    forward, freed, int, is_free, limit, own_ip, raise_descriptors, read_exact, runtime, text, wait_until,
};
use tokio_util::sync::CancellationToken;

/// What needs no waiting on the loopback interface, even if the machine is busy.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A connection without an answered ping is dead after 800 ms.
const IMPATIENT: Options = &[("ping.interval", "200ms"), ("ping.timeout", "300ms")];
const DEAD: &str = "no ping was answered for 800 ms";
/// Most dials in a second by a node that is refused each time.
const FEW_TRIES: usize = 10;

type Options<'a> = &'a [(&'a str, &'a str)];

on_paths! {
    [tcp TCP, quic QUIC, ws WS] {
        a_node_listens_on_the_port_it_is_given_and_frees_it_when_it_closes: 30,
        a_port_in_use_is_refused_with_its_number: 20,
        another_peer_at_the_address_is_named: 20,
        connecting_to_a_silent_server_times_out_and_holds_nothing_up: 20,
        a_peer_row_tells_both_sides_who_is_there: 30,
        peer_events_tell_both_sides_who_comes_and_goes: 30,
        a_dead_connection_is_noticed_and_the_forward_connects_again: 60,
        streams_spread_over_several_connections: 30,
        a_busy_peer_gets_as_many_connections_as_streams_are_spread_over: 30,
        a_stream_waits_for_a_slot_when_every_connection_is_full: 30,
        a_thousand_opens_at_once_are_all_served: 60,
        a_connection_above_connections_per_peer_is_refused: 30,
        a_connection_above_connections_max_is_refused: 30,
    }
}

fn with<'a>(given: Options<'a>, more: Options<'a>) -> Vec<(&'a str, &'a str)> {
    [given, more].concat()
}

/// The only transport of these options.
fn transport<'a>(given: Options<'a>) -> &'a str {
    given.iter().find(|(name, _)| *name == "transports").unwrap().1
}

/// A multiaddr of `place` without a peer id.
fn multiaddr(place: SocketAddr, transport: &str) -> String {
    let version = if place.is_ipv4() { 4 } else { 6 };
    let port = place.port();
    let transport = match transport {
        "quic" => format!("udp/{port}/quic-v1"),
        "ws" => format!("tcp/{port}/ws"),
        _ => format!("tcp/{port}"),
    };
    format!("/ip{version}/{}/{transport}", place.ip())
}

/// `address` without its peer id.
fn bare(address: &str) -> &str {
    address.split("/p2p/").next().unwrap()
}

/// A place where nobody listens, over TCP or UDP.
fn free_place() -> SocketAddr {
    TcpListener::bind((own_ip(), 0)).unwrap().local_addr().unwrap()
}

/// Servers that take what comes and never answer.
struct Silent {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Silent {
    fn new() -> Self {
        Silent { tcp: TcpListener::bind((own_ip(), 0)).unwrap(), udp: UdpSocket::bind((own_ip(), 0)).unwrap() }
    }

    /// Its multiaddr, as if the peer `id` were there.
    fn as_peer(&self, transport: &str, id: &str) -> String {
        let place = if transport == "quic" { self.udp.local_addr() } else { self.tcp.local_addr() };
        format!("{}/p2p/{id}", multiaddr(place.unwrap(), transport))
    }

    /// The next connection over TCP.
    #[track_caller]
    fn accept(&self) -> TcpStream {
        let mut accepted = None;
        self.tcp.set_nonblocking(true).unwrap();
        wait_until("a dial comes to the silent server", || {
            accepted = self.tcp.accept().ok();
            accepted.is_some()
        });
        accepted.unwrap().0
    }
}

#[track_caller]
fn connect(node: &TestNode, peer: &str, time: Option<Duration>) -> Result<(), Error> {
    at("connecting to a peer");
    block(node.connect(peer, time, &CancellationToken::new()))
}

#[track_caller]
fn connected(node: &TestNode, peer: &str) {
    connect(node, peer, Some(PATIENCE)).unwrap_or_else(|error| panic!("{error}"));
}

#[track_caller]
fn assert_error<T>(result: Result<T, Error>, status: Status, parts: &[&str]) -> Error {
    let Err(error) = result else { panic!("no error, but {parts:?} were expected") };
    assert_eq!(error.status, status, "{error}");
    for part in parts {
        assert!(error.message.contains(part), "'{part}' is not in '{error}'");
    }
    error
}

/// The row of the only peer.
#[track_caller]
fn only_peer(node: &TestNode) -> Row {
    let mut rows = node.peer_rows();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

/// Sends through a tunnel to an echoing target and gets it back.
#[track_caller]
fn assert_echoes(stream: &mut TcpStream, run: usize) {
    let data = bytes(1000, run);
    stream.write_all(data).unwrap();
    assert_eq!(read_exact(stream, data.len()), data, "run {run}");
}

// --- opening and listening -------------------------------------------------------------------------------------------

#[test]
fn a_node_is_ready_soon_after_it_is_opened() {
    let _limit = limit(30);
    let far = TestNode::open(&[]);
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let node = TestNode::open(&[]);
        let opened = start.elapsed();
        connected(&node, &far.address());
        times.push((opened, start.elapsed()));
        let addresses: Vec<_> = node.addresses().iter().map(ToString::to_string).collect();
        for part in ["/ip4/127.0.0.1/tcp/", "/ip4/127.0.0.1/udp/"] {
            assert!(addresses.iter().any(|address| address.starts_with(part)), "{part} is not in {addresses:?}");
        }
        assert!(addresses.iter().all(|address| !address.contains("/0/") && address.ends_with(&node.id_text())));
    }
    times.sort();
    println!("opened, and connected to a peer: {times:?}");
    let (opened, ready) = times[times.len() / 2];
    assert!(opened < Duration::from_secs(1) && ready < Duration::from_secs(1), "{times:?}");
}

#[test]
fn a_key_file_is_made_for_its_owner_alone_and_gives_the_same_peer_id_again() {
    let _limit = limit(20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let given = [("identity.file", path.to_str().unwrap())];
    let first = TestNode::open(&given).id_text();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let written = fs::read(&path).unwrap();
    assert_eq!(TestNode::open(&given).id_text(), first);
    assert_eq!(fs::read(&path).unwrap(), written);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something else was left in the folder");
    assert_ne!(TestNode::open(&[]).id_text(), first);
}

#[test]
fn a_damaged_key_file_is_refused_and_left_as_it_is() {
    let _limit = limit(20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let given = [("identity.file", path.to_str().unwrap())];
    drop(TestNode::open(&given));
    let mut damaged = fs::read(&path).unwrap();
    damaged[20] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let sentence =
        format!("key file '{}' is damaged or not a libp2p private key; it was left as it is", path.display());
    let error = assert_error(TestNode::try_open(&given), Status::BadKey, &[]);
    assert_eq!(error.message, sentence);
    assert_eq!(fs::read(&path).unwrap(), damaged);
}

#[test]
fn nodes_reach_each_other_at_every_automatic_address() {
    let _limit = limit(30);
    let far = TestNode::open(&[]);
    let target = Target::echo();
    far.expose("net", &target.text(), &[]);
    for (start, transport) in [
        ("/ip4/127.0.0.1/tcp/", "tcp"),
        ("/ip4/127.0.0.1/udp/", "quic"),
        ("/ip6/::1/tcp/", "tcp"),
        ("/ip6/::1/udp/", "quic"),
    ] {
        let near = TestNode::open(&[]);
        let address = far.address_with(start);
        let (_, forward) = near.forward_to("net", &address, &[]);
        assert_echoes(&mut client(forward), 1);
        let row = only_peer(&near);
        assert_eq!(text(&row, "address"), bare(&address));
        assert_eq!(text(&row, "transport"), transport);
    }
}

#[test]
fn nodes_listen_and_dial_on_the_ipv6_loopback_interface_alone() {
    let _limit = limit(30);
    for listen in ["/ip6/::1/tcp/0", "/ip6/::1/udp/0/quic-v1"] {
        let pair = Pair::open(&[("listen.addresses", listen)]);
        assert_eq!(pair.far.addresses().len(), 1);
        let target = Target::echo();
        pair.far.expose("net", &target.text(), &[]);
        let (_, forward) = pair.near.forward_to("net", &pair.far.address_with("/ip6/::1/"), &[]);
        assert_echoes(&mut client(forward), 1);
        assert!(text(&only_peer(&pair.far), "address").starts_with("/ip6/::1/"));
    }
}

#[test]
fn a_node_without_listening_addresses_only_dials() {
    let _limit = limit(20);
    let far = TestNode::open(&[]);
    let target = Target::echo();
    far.expose("net", &target.text(), &[]);
    for transport in ["/tcp/", "/quic-v1/"] {
        let near = TestNode::open(&[("listen.addresses", "")]);
        assert!(near.addresses().is_empty());
        let (_, forward) = near.forward_to("net", &far.address_with(transport), &[]);
        assert_echoes(&mut client(forward), 1);
    }
}

fn a_node_listens_on_the_port_it_is_given_and_frees_it_when_it_closes(given: Options) {
    let place = free_place();
    let listen = multiaddr(place, transport(given));
    let listening = [("listen.addresses", listen.as_str())];
    let given = with(given, &listening);
    let target = Target::echo();
    for run in 0..3 {
        // Each run binds what the one before has just given back.
        let far = TestNode::open(&given);
        assert_eq!(far.address(), format!("{listen}/p2p/{}", far.id_text()));
        far.expose("net", &target.text(), &[]);
        let near = TestNode::open(&[]);
        let (_, address) = near.forward_to("net", &far.address(), &[]);
        let mut stream = client(address);
        assert_echoes(&mut stream, run);
        let start = Instant::now();
        far.close_now();
        assert!(start.elapsed() < AT_ONCE, "closing took {:?}", start.elapsed());
        assert!(is_free(place) && UdpSocket::bind(place).is_ok(), "run {run}");
        expect_reset(&mut stream);
        near.close_now();
        assert!(freed(address), "run {run}");
    }
}

fn a_port_in_use_is_refused_with_its_number(given: Options) {
    let refused = |listen: &str| {
        let error = TestNode::try_open(&with(given, &[("listen.addresses", listen)])).err().unwrap();
        assert_eq!((error.status, error.system_error), (Status::AddressInUse, libc::EADDRINUSE), "{error}");
        assert_eq!(error.message, format!("listening address {listen} is already in use"));
    };
    let another = Silent::new();
    refused(bare(&another.as_peer(transport(given), "another program")));
    let holder = TestNode::open(given);
    refused(bare(&holder.address()));
    // The first address is given back when the second is refused.
    let free = free_place();
    let both = [multiaddr(free, transport(given)), bare(&holder.address()).to_owned()].join(",");
    let error = TestNode::try_open(&with(given, &[("listen.addresses", &both)])).err().unwrap();
    assert_eq!(error.status, Status::AddressInUse, "{error}");
    assert!(is_free(free) && UdpSocket::bind(free).is_ok());
}

#[test]
fn a_transport_that_the_node_does_not_have_is_refused() {
    let _limit = limit(20);
    let far = TestNode::open(&[]);
    let web = TestNode::open(WS);
    for (has, lacks, listen, far, dial) in [
        ("tcp", "quic", "/ip4/127.0.0.1/udp/0/quic-v1", &far, "/quic-v1"),
        ("quic", "tcp", "/ip4/127.0.0.1/tcp/0", &far, "/tcp/"),
        ("tcp,quic", "ws", "/ip4/127.0.0.1/tcp/0/ws", &web, "/ws"),
        ("ws", "tcp", "/ip4/127.0.0.1/tcp/0", &far, "/tcp/"),
    ] {
        let error = TestNode::try_open(&[("transports", has), ("listen.addresses", listen)]).err().unwrap();
        assert_eq!(error.status, Status::BadOption);
        let sentence =
            format!("option listen.addresses: {listen} needs transport {lacks}, which is not among transports={has}");
        assert_eq!(error.message, sentence);
        let node = TestNode::open(&[("transports", has)]);
        let address = far.address_with(dial);
        let parts = [&far.id_text(), bare(&address), "a transport that the node has"];
        assert_error(connect(&node, &address, Some(PATIENCE)), Status::Unreachable, &parts);
    }
}

#[test]
fn a_node_listens_for_websockets_where_it_is_told_to_and_dials_them_without_being_told() {
    let _limit = limit(30);
    let near = TestNode::open(&[]);
    assert!(near.addresses().iter().all(|address| !address.to_string().contains("/ws")), "{:?}", near.addresses());
    let listen = "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/tcp/0/ws,/ip6/::1/tcp/0/ws";
    let far = TestNode::open(&[("listen.addresses", listen)]);
    assert_eq!(far.addresses().len(), 3);
    let target = Target::echo();
    far.expose("net", &target.text(), &[]);
    let ws: Vec<_> =
        far.addresses().iter().map(ToString::to_string).filter(|address| address.contains("/ws")).collect();
    for (run, address) in ws.iter().enumerate() {
        let near = TestNode::open(&[]);
        let (_, forward) = near.forward_to("net", address, &[]);
        assert_echoes(&mut client(forward), run);
        for (node, direction) in [(&near, "outbound"), (&far, "inbound")] {
            let rows = node.peer_rows();
            let row = rows.iter().find(|row| text(row, "direction") == direction).unwrap();
            assert_eq!(text(row, "transport"), "ws");
            assert!(text(row, "address").ends_with("/ws"), "{row:?}");
        }
        assert_eq!(text(&only_peer(&near), "address"), bare(address));
        near.close_now();
        wait_until("the far side has noticed", || far.peer_rows().is_empty());
    }
}

#[test]
fn what_is_no_websocket_is_told_as_that() {
    let _limit = limit(30);
    let (far, web) = (TestNode::open(TCP), TestNode::open(WS));
    let http = Target::serving(|mut stream| {
        let _ = stream.read(&mut [0; 1000]);
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    });
    let place = http.text().parse().unwrap();
    let id = far.id_text();
    for (address, reason) in [
        (multiaddr(place, "ws"), "a web server answers there with HTTP status 404, not with a WebSocket"),
        (format!("{}/ws", bare(&far.address())), "the connection was closed before the WebSocket handshake was over"),
        (
            bare(&web.address()).trim_end_matches("/ws").to_owned(),
            "the peer closed the connection without a word; it may speak no libp2p at this port",
        ),
    ] {
        let near = TestNode::open(&[]);
        let start = Instant::now();
        let error = connect(&near, &format!("{address}/p2p/{id}"), Some(PATIENCE)).unwrap_err();
        println!("{error}");
        assert_eq!(error.status, Status::Unreachable);
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
        let sentence = format!("peer {id} is unreachable: {address}: {reason}");
        assert!(error.message.starts_with(&sentence), "'{error}' does not begin with '{sentence}'");
    }
}

#[test]
fn a_local_node_stays_on_the_loopback_interface() {
    let _limit = limit(20);
    for listen in ["/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/0/quic-v1", "/ip4/192.0.2.1/tcp/0", "/ip4/0.0.0.0/tcp/0/ws"] {
        let error = TestNode::try_open(&[("listen.addresses", listen)]).err().unwrap();
        assert_eq!(error.status, Status::BadOption);
        let sentence =
            format!("option listen.addresses: {listen} is not a loopback address, and network=local allows no other");
        assert_eq!(error.message, sentence);
    }
    let Pair { near, far } = Pair::open(&[]);
    let peer = format!("/ip4/192.0.2.1/tcp/4001/p2p/{}", far.id_text());
    let sentence = format!("peer address {peer} is not a loopback address, and network=local allows no other");
    assert_error(connect(&near, &peer, Some(PATIENCE)), Status::BadAddress, &[&sentence]);
    assert_error(forward(&near, ["net", "127.0.0.1:0", &peer], &[]), Status::BadAddress, &[&sentence]);
}

// --- connecting ------------------------------------------------------------------------------------------------------

fn another_peer_at_the_address_is_named(given: Options) {
    let Pair { near, far } = Pair::open(given);
    let wanted = TestNode::open(given).id_text();
    let wrong = format!("{}/p2p/{wanted}", bare(&far.address()));
    let error = assert_error(
        connect(&near, &wrong, Some(PATIENCE)),
        Status::Unreachable,
        &[&format!("peer {wanted} is unreachable: "), bare(&far.address()), &far.id_text()],
    );
    println!("{error}");
    assert!(near.peer_rows().is_empty(), "{:?}", near.peer_rows());
}

#[test]
fn an_unreachable_peer_is_told_with_every_address_and_its_reason() {
    let _limit = limit(30);
    let Pair { near, far } = Pair::open(&[]);
    let id = TestNode::open(&[]).id_text();
    let closed = [free_place(), free_place()].map(|place| multiaddr(place, "tcp"));
    let quic = far.address_with("/quic-v1");
    let tried = [
        (closed[0].as_str(), "Connection refused"),
        (&closed[1], "Connection refused"),
        ("/ip4/192.0.2.1/tcp/4001", "network=local allows loopback addresses only"),
        ("/dns4/localhost/tcp/4001", "names are not looked up with network=local"),
        // The other transport is tried, too, and its failure told.
        (bare(&quic), ""),
    ];
    let peer = tried.map(|(address, _)| format!("{address}/p2p/{id}")).join(",");
    let start = Instant::now();
    let error = connect(&near, &peer, Some(PATIENCE)).unwrap_err();
    println!("{error}");
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert_eq!(error.status, Status::Unreachable, "{error}");
    assert!(error.temporary);
    assert!(error.message.starts_with(&format!("peer {id} is unreachable: ")), "{error}");
    for (address, reason) in tried {
        let told = error.message.split("; ").any(|part| part.contains(address) && part.contains(reason));
        assert!(told, "{address}: {reason}\nis not in\n{error}");
    }
}

fn connecting_to_a_silent_server_times_out_and_holds_nothing_up(given: Options) {
    let Pair { near, far } = Pair::open(given);
    let silent = Silent::new();
    let peer = silent.as_peer(transport(given), &far.id_text());
    let start = Instant::now();
    let error = connect(&near, &peer, Some(Duration::from_millis(300))).unwrap_err();
    let took = start.elapsed();
    assert_eq!(error.status, Status::TimedOut);
    let id = far.id_text();
    let sentence = format!("peer {id} could not be reached within 300 ms; no answer from {}", bare(&peer));
    assert_eq!(error.message, sentence);
    assert!((Duration::from_millis(300)..AT_ONCE).contains(&took), "{took:?}");
    let start = Instant::now();
    connected(&near, &far.address());
    println!("connected {:?} after the time-out", start.elapsed());
    assert!(start.elapsed() < AT_ONCE, "the old dial held the new one up for {:?}", start.elapsed());
    assert_eq!(text(&only_peer(&near), "address"), bare(&far.address()));
}

#[test]
fn a_right_address_given_while_a_wrong_one_is_dialled_is_tried_at_once() {
    let _limit = limit(20);
    let Pair { near, far } = Pair::open(&[]);
    let silent = Silent::new();
    let peer = silent.as_peer("tcp", &far.id_text());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| block(near.connect(&peer, None, &CancellationToken::new())));
        // The first dial is under way when its connection comes.
        let _held = silent.accept();
        let start = Instant::now();
        connected(&near, &far.address_with("/tcp/"));
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(text(&only_peer(&near), "peer"), far.id_text());
}

#[test]
fn a_timeout_of_zero_only_looks() {
    let _limit = limit(20);
    let Pair { near, far } = Pair::open(&[]);
    let watched = Silent::new();
    let stranger = TestNode::open(&[]).id_text();
    let error = connect(&near, &watched.as_peer("tcp", &stranger), Some(Duration::ZERO)).unwrap_err();
    assert_eq!(error.status, Status::TimedOut);
    assert_eq!(error.message, format!("peer {stranger} is not connected"));
    // Whatever the look had begun would have come before this.
    connected(&near, &far.address());
    connect(&near, &far.id_text(), Some(Duration::ZERO)).unwrap();
    watched.tcp.set_nonblocking(true).unwrap();
    assert_eq!(watched.tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "a look dialled");
}

#[test]
fn a_peer_of_whom_only_the_id_is_known_is_refused_until_it_has_connected() {
    let _limit = limit(20);
    let Pair { near, far } = Pair::open(&[]);
    let id = far.id_text();
    let sentence = format!(
        "no address of peer {id} is known, and this version cannot find peers by their id alone; give its multiaddr, such as \
         /ip4/192.0.2.1/tcp/4001/p2p/{id}, or connect to it first"
    );
    for peer in [id.clone(), format!("/p2p/{id}")] {
        for error in [
            connect(&near, &peer, Some(PATIENCE)).unwrap_err(),
            connect(&near, &peer, Some(Duration::ZERO)).unwrap_err(),
            forward(&near, ["net", "127.0.0.1:0", &peer], &[]).err().unwrap(),
        ] {
            assert_eq!((error.status, error.temporary), (Status::Unreachable, false), "{error}");
            assert_eq!(error.message, sentence);
        }
    }
    let target = Target::echo();
    far.expose("net", &target.text(), &[]);
    let peers = near.events(kind::PEER);
    connected(&far, &near.address());
    peers.wait_state("connected");
    let (_, address) = near.forward_to("net", &id, &[]);
    assert_echoes(&mut client(address), 1);
    connect(&near, &id, Some(Duration::ZERO)).unwrap();
}

#[test]
fn the_preferred_transport_is_used_when_both_work() {
    let _limit = limit(30);
    let far = TestNode::open(&[]);
    let both = format!("{},{}", far.address_with("/quic-v1"), far.address_with("/tcp/"));
    let turned = format!("{},{}", far.address_with("/tcp/"), far.address_with("/quic-v1"));
    let cases: [(Options, &str); 3] =
        [(&[], "tcp"), (&[("transports", "quic,tcp")], "quic"), (&[("transports", "tcp,quic")], "tcp")];
    for (given, expected) in cases {
        for peer in [&both, &turned] {
            let near = TestNode::open(given);
            connected(&near, peer);
            let row = only_peer(&near);
            assert_eq!(text(&row, "transport"), expected, "{given:?}");
            assert_eq!(int(&row, "connections"), 1);
        }
    }
}

#[test]
fn the_other_transport_takes_over_from_a_black_hole() {
    let _limit = limit(30);
    let far = TestNode::open(&[]);
    let hole = Silent::new();
    for (preferred, dark, works, expected) in
        [("tcp,quic", "tcp", "/quic-v1", "quic"), ("quic,tcp", "quic", "/tcp/", "tcp")]
    {
        let near = TestNode::open(&[("transports", preferred)]);
        let start = Instant::now();
        connected(&near, &format!("{},{}", hole.as_peer(dark, &far.id_text()), far.address_with(works)));
        println!("{expected} took over after {:?}", start.elapsed());
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
        assert_eq!(text(&only_peer(&near), "transport"), expected);
    }
}

// --- what is told of peers -------------------------------------------------------------------------------------------

fn a_peer_row_tells_both_sides_who_is_there(given: Options) {
    let Pair { near, far } = Pair::open(given);
    connected(&near, &far.address());
    wait_until("the far side knows of the connection", || !far.peer_rows().is_empty());
    for (node, other, direction) in [(&near, &far, "outbound"), (&far, &near, "inbound")] {
        wait_until("ping and identify", || {
            let row = only_peer(node);
            int(&row, "rtt_us") >= 0 && !text(&row, "agent").is_empty()
        });
        let row = only_peer(node);
        assert_eq!(text(&row, "peer"), other.id_text());
        assert_eq!(text(&row, "direction"), direction);
        assert_eq!(text(&row, "transport"), transport(given));
        assert_eq!(text(&row, "path"), "direct");
        assert!(text(&row, "agent").starts_with("p2pmount/"), "{row:?}");
        assert!(int(&row, "rtt_us") < 5_000_000, "{row:?}");
        assert_eq!((int(&row, "connections"), int(&row, "streams")), (1, 0));
        assert!(text(&row, "address").starts_with("/ip4/127.0.0.1/"), "{row:?}");
        assert_eq!(int(&node.row(), "peers"), 1);
    }
    assert_eq!(text(&only_peer(&near), "address"), bare(&far.address()));
}

fn peer_events_tell_both_sides_who_comes_and_goes(given: Options) {
    let Pair { near, far } = Pair::open(given);
    let [near_events, far_events] = [&near, &far].map(|node| node.events(kind::PEER));
    connected(&near, &far.address());
    for (events, other, direction) in [(&near_events, &far, "outbound"), (&far_events, &near, "inbound")] {
        let row = events.wait_state("connected");
        assert_eq!(text(&row, "peer"), other.id_text());
        assert_eq!(text(&row, "direction"), direction);
        assert_eq!(text(&row, "transport"), transport(given));
        assert!(text(&row, "address").starts_with("/ip4/127.0.0.1/"), "{row:?}");
    }
    far.close_now();
    let row = near_events.wait_state("disconnected");
    assert_eq!(text(&row, "peer"), far.id_text());
    assert!(!text(&row, "message").is_empty());
    assert!(near.peer_rows().is_empty());
    assert!(near_events.drain().is_empty(), "a peer was told of twice");
}

// --- dead connections ------------------------------------------------------------------------------------------------

fn a_dead_connection_is_noticed_and_the_forward_connects_again(given: Options) {
    let Pair { near, far } = Pair::open(&with(given, IMPATIENT));
    let target = Target::new();
    far.expose("net", &target.text(), &[]);
    let path = Path::to(&far);
    let (_, address) = near.forward_to("net", &path.address(), &[]);
    let (mounts, peers) = (near.events(kind::MOUNT), near.events(kind::PEER));
    let far_peers = far.events(kind::PEER);

    // One that is idle, and one whose bytes can go nowhere.
    let (mut idle, mut idle_server) = (client(address), target.accept());
    idle.write_all(b"there").unwrap();
    read_exact(&mut idle_server, 5);
    let (mut pouring, mut poured) = (client(address), target.accept());
    let pour = thread::spawn(move || while pouring.write_all(bytes(64 << 10, 0)).is_ok() {});
    read_exact(&mut poured, 1 << 20);
    for events in [&mounts, &peers, &far_peers] {
        events.wait_state("connected");
    }

    let frozen = Instant::now();
    path.freeze();
    expect_reset(&mut idle);
    let took = frozen.elapsed();
    println!("the stream was reset {took:?} after the path went dead");
    assert!((Duration::from_millis(400)..Duration::from_secs(3)).contains(&took), "{took:?}");
    at("the end of the one whose bytes went nowhere");
    pour.join().unwrap();
    let row = peers.wait_state("disconnected");
    assert_eq!((text(&row, "peer"), text(&row, "message")), (far.id_text(), DEAD.to_owned()));
    let old = |row: &Row| u128::try_from(int(row, "age_ms")).unwrap() > frozen.elapsed().as_millis();
    assert!(!near.peer_rows().iter().any(old), "the dead connection is still listed: {:?}", near.peer_rows());
    let row = mounts.wait_state("disconnected");
    assert_eq!(text(&row, "message"), format!("the connection to peer {} was lost: {DEAD}", far.id_text()));
    assert_eq!(int(&row, "code"), Status::Unreachable as i64);
    // The far side noticed by itself.
    assert_eq!(text(&far_peers.wait_state("disconnected"), "message"), DEAD);
    expect_reset(&mut idle_server);
    expect_reset(&mut poured);

    path.thaw();
    let row = mounts.wait_state("connected");
    assert_eq!(text(&row, "peer"), far.id_text());
    peers.wait_state("connected");
    let (mut again, mut server) = (client(address), target.accept());
    again.write_all(b"again").unwrap();
    assert_eq!(read_exact(&mut server, 5), b"again");
    if let Path::Tcp(proxy, _) = &path {
        assert!(proxy.connections.load(Ordering::Acquire) >= 2);
    }
}

// --- many streams ----------------------------------------------------------------------------------------------------

fn streams_spread_over_several_connections(given: Options) {
    for (most, given) in [(8, with(given, &[])), (6, with(given, &[("connections.per_peer", "6")]))] {
        let pair = Pair::open(&with(&given, &[("connection.streams", "4")]));
        let target = Target::echo();
        let address = pair.tunnel("net", &target.text());
        let mut clients: Vec<_> = (0..20).map(|_| client(address)).collect();
        for (run, stream) in clients.iter_mut().enumerate() {
            assert_echoes(stream, run);
        }
        let row = only_peer(&pair.near);
        println!("20 streams on {} connections", int(&row, "connections"));
        // No connection has more than 4 streams.
        assert!((5..=most).contains(&int(&row, "connections")), "{row:?}");
        assert_eq!(int(&row, "streams"), 20);
        assert_eq!(int(&only_peer(&pair.far), "connections"), int(&row, "connections"));
        for (run, stream) in clients.iter_mut().enumerate() {
            assert_echoes(stream, run + 100);
        }
        drop(clients);
        wait_until("every stream is gone", || int(&only_peer(&pair.near), "streams") == 0);
    }
}

fn a_busy_peer_gets_as_many_connections_as_streams_are_spread_over(given: Options) {
    let pair = Pair::open(&with(given, &[("connections.spread", "3")]));
    let target = Target::echo();
    let address = pair.tunnel("net", &target.text());
    let mut clients = vec![client(address)];
    assert_echoes(&mut clients[0], 0);
    assert_eq!(int(&only_peer(&pair.near), "connections"), 1, "one stream needs no more");
    // Whenever all are busy, one more is dialled beside the next stream.
    wait_until("there are three connections", || {
        clients.push(client(address));
        let run = clients.len();
        assert_echoes(clients.last_mut().unwrap(), run);
        int(&only_peer(&pair.near), "connections") == 3
    });
    clients.extend((0..50).map(|_| client(address)));
    for (run, stream) in clients.iter_mut().enumerate() {
        assert_echoes(stream, run + 100);
    }
    assert_eq!(int(&only_peer(&pair.near), "connections"), 3, "and no more than that");
}

fn a_stream_waits_for_a_slot_when_every_connection_is_full(given: Options) {
    let Pair { near, far } = Pair::open(&with(given, &[("connection.streams", "4"), ("connections.per_peer", "1")]));
    let target = Target::new();
    far.expose("net", &target.text(), &[]);
    let (_, address) = near.forward_to("net", &far.address(), &[]);
    let mut open: Vec<_> = (0..4).map(|_| (client(address), target.accept())).collect();
    let mut fifth = client(address);
    fifth.write_all(b"early").unwrap();
    wait_until("the fifth is taken in", || int(&near.forwards()[0], "streams") == 5);
    // Whatever it had opened would have come before these bytes.
    for (client, server) in &mut open {
        client.write_all(b"there").unwrap();
        read_exact(server, 5);
    }
    assert!(target.untouched(), "a fifth stream was opened");
    assert_eq!((near.streams().len(), int(&only_peer(&near), "connections")), (4, 1));
    drop(open.remove(1));
    let mut server = target.accept();
    assert_eq!(read_exact(&mut server, 5), b"early");
    drop(fifth);
    expect_end(&mut server);
}

fn a_thousand_opens_at_once_are_all_served(given: Options) {
    const CLIENTS: usize = 1000;
    // Both ends of a thousand tunnels are in this process.
    let descriptors = raise_descriptors();
    assert!(descriptors >= 8192, "this test needs 8192 descriptors; the limit is {descriptors}");
    let pair = Pair::open(given);
    let target = Target::serving(|mut stream| {
        let mut request = [0; 8];
        if stream.read_exact(&mut request).is_ok() {
            let _ = stream.write_all(&request);
        }
    });
    let address = pair.tunnel("net", &target.text());
    let start = Instant::now();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| client(address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&number.to_be_bytes()).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(read_exact(client, 8), number.to_be_bytes());
        expect_end(client);
    }
    let connections = int(&only_peer(&pair.near), "connections");
    println!("{CLIENTS} streams in {:?} on {connections} connections", start.elapsed());
    assert_eq!(int(&pair.near.forwards()[0], "streams_total"), i64::try_from(CLIENTS).unwrap());
    assert!((1..=8).contains(&connections));
    drop(clients);
    wait_until("every stream is gone", || pair.near.streams().is_empty() && pair.far.streams().is_empty());
}

// --- limits ----------------------------------------------------------------------------------------------------------

#[track_caller]
fn assert_refused(events: &Events) {
    let row = events.wait_refused();
    assert_eq!(int(&row, "code"), Status::Limit as i64);
    let sentence = text(&row, "message");
    assert!(sentence.starts_with("connection from /ip4/127.0.0.1/"), "{sentence}");
    assert!(sentence.contains(" was refused: a limit of this node forbids it: "), "{sentence}");
}

fn a_connection_above_connections_per_peer_is_refused(given: Options) {
    let far = TestNode::open(&with(given, &[("connections.per_peer", "1")]));
    let near = TestNode::open(&with(given, &[("connection.streams", "1")]));
    let refusals = far.events(kind::REFUSED);
    let target = Target::echo();
    far.expose("net", &target.text(), &[]);
    let (_, address) = near.forward_to("net", &far.address(), &[]);
    let mut first = client(address);
    assert_echoes(&mut first, 1);
    // The second wants a connection of its own, does not get it, and has its turn when the first ends.
    let mut second = client(address);
    second.write_all(b"second").unwrap();
    assert_refused(&refusals);
    assert_echoes(&mut first, 2);
    // The time is what is measured here.
    thread::sleep(Duration::from_secs(1));
    let tries = refusals.drain().len();
    assert!(tries < FEW_TRIES, "the refused node tried {tries} times in a second");
    drop(first);
    assert_eq!(read_exact(&mut second, 6), b"second");
    assert_eq!(int(&only_peer(&far), "connections"), 1);
}

fn a_connection_above_connections_max_is_refused(given: Options) {
    let far = TestNode::open(&with(given, &[("connections.max", "1")]));
    let Pair { near: first, far: second } = Pair::open(given);
    let refusals = far.events(kind::REFUSED);
    let target = Target::echo();
    far.expose("net", &target.text(), &[]);
    let (_, address) = first.forward_to("net", &far.address(), &[]);
    let mut stream = client(address);
    assert_echoes(&mut stream, 1);
    let (_, refused) = second.forward_to("net", &far.address(), &[("open.timeout", "1s"), ("reconnect", "false")]);
    expect_reset(&mut client(refused));
    assert_refused(&refusals);
    let tries = refusals.drain().len();
    assert!(tries < FEW_TRIES, "the refused node tried {} times in a second", tries + 1);
    wait_until("the refused node has no connection", || second.peer_rows().is_empty());
    assert_echoes(&mut stream, 2);
    assert_eq!(text(&only_peer(&far), "peer"), first.id_text());
    first.close_now();
    wait_until("there is room", || far.peer_rows().is_empty());
    wait_until("the other is let in", || {
        let mut late = client(refused);
        let _ = late.write_all(b"late");
        late.read_exact(&mut [0; 4]).is_ok()
    });
    assert_eq!(text(&only_peer(&far), "peer"), second.id_text());
}

// --- what is left behind ---------------------------------------------------------------------------------------------

const ALONE: &str = "P2PMOUNT_TEST_ALONE";

/// Runs `what`, the body of the test `name`, in a process without other tests: it counts what the process has.
fn alone(name: &str, what: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        return what();
    }
    at("waiting for the process of its own");
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A name that is not the test's would run nothing, and succeed.
    assert!(output.status.success() && told.contains("1 passed"), "{told}{errors}");
    println!("{told}");
}

/// Open descriptors of the process, and tasks of its runtime.
fn held() -> (usize, usize) {
    (fs::read_dir("/proc/self/fd").unwrap().count(), runtime().metrics().num_alive_tasks())
}

/// Runs `what` a few times to warm up, then `runs` times, after which nothing more may be held than before.
#[track_caller]
fn assert_leaves_nothing(runs: usize, mut what: impl FnMut(usize)) {
    (0..3).for_each(&mut what);
    // What ends in its own time has ended when two looks agree.
    let mut before = held();
    wait_until("the process is at rest", || {
        thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut before, held()) == before
    });
    let start = Instant::now();
    (0..runs).for_each(&mut what);
    println!("{runs} runs in {:?}; descriptors and tasks before: {before:?}", start.elapsed());
    let fewer = |(descriptors, tasks)| descriptors <= before.0 && tasks <= before.1;
    let deadline = Instant::now() + Duration::from_secs(5);
    while !fewer(held()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let after = held();
    assert!(fewer(after), "descriptors and tasks before {before:?}, after {after:?}");
}

fn streams_leave_nothing(given: Options) {
    let pair = Pair::open(given);
    let target = Target::new();
    let address = pair.tunnel("net", &target.text());
    assert_leaves_nothing(1000, |run| {
        let (mut client, mut server) = (client(address), target.accept());
        match run % 3 {
            // Closed from one side, from the other, and reset.
            0 => {
                drop(client);
                expect_end(&mut server);
            }
            1 => {
                drop(server);
                expect_end(&mut client);
            }
            _ => {
                client.write_all(b"there").unwrap();
                read_exact(&mut server, 5);
                support::reset(client);
                expect_reset(&mut server);
            }
        }
    });
    assert!(pair.near.streams().is_empty() && pair.far.streams().is_empty());
}

#[test]
fn a_thousand_streams_over_tcp_leave_no_descriptor_and_no_task() {
    let _limit = limit(60);
    alone("a_thousand_streams_over_tcp_leave_no_descriptor_and_no_task", || streams_leave_nothing(TCP));
}

#[test]
fn a_thousand_streams_over_quic_leave_no_descriptor_and_no_task() {
    let _limit = limit(60);
    alone("a_thousand_streams_over_quic_leave_no_descriptor_and_no_task", || streams_leave_nothing(QUIC));
}

#[test]
fn thirty_nodes_opened_and_closed_leave_no_descriptor_and_no_task() {
    let _limit = limit(60);
    alone("thirty_nodes_opened_and_closed_leave_no_descriptor_and_no_task", || {
        let target = Target::echo();
        assert_leaves_nothing(30, |run| {
            let pair = Pair::open(&[]);
            pair.far.expose("net", &target.text(), &[]);
            let transport = if run % 2 == 0 { "/tcp/" } else { "/quic-v1" };
            let (_, address) = pair.near.forward_to("net", &pair.far.address_with(transport), &[]);
            assert_echoes(&mut client(address), run);
        });
    });
}

#[test]
fn a_node_that_could_not_be_opened_leaves_no_descriptor_and_no_task() {
    let _limit = limit(30);
    alone("a_node_that_could_not_be_opened_leaves_no_descriptor_and_no_task", || {
        let taken = Silent::new();
        let refused = taken.as_peer("tcp", "another program");
        let listen = format!("/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1,{}", bare(&refused));
        assert_leaves_nothing(30, |_| {
            assert!(TestNode::try_open(&[("listen.addresses", &listen)]).is_err());
        });
    });
}

#[test]
fn closing_a_node_ends_everything_it_had() {
    let _limit = limit(30);
    alone("closing_a_node_ends_everything_it_had", || {
        let target = Target::echo();
        let far = TestNode::open(&[]);
        far.expose("net", &target.text(), &[]);
        let silent = Silent::new();
        let nowhere = silent.as_peer("tcp", &TestNode::open(&[]).id_text());
        assert_leaves_nothing(5, |run| {
            let near = TestNode::open(&[]);
            let (_, address) = near.forward_to("net", &far.address(), &[]);
            let mut open: Vec<_> = (0..10).map(|_| client(address)).collect();
            open.iter_mut().for_each(|stream| assert_echoes(stream, run));
            // A client whose stream cannot be opened, and a caller who would wait for ever.
            let (_, stuck) = near.forward_to("net", &nowhere, &[]);
            let mut waiting = client(stuck);
            let (node, peer) = ((*near).clone(), nowhere.clone());
            let caller = thread::spawn(move || block(node.connect(&peer, None, &CancellationToken::new())));
            let _held = silent.accept();
            let start = Instant::now();
            near.close_now();
            assert!(start.elapsed() < AT_ONCE, "closing took {:?}", start.elapsed());
            assert_error(caller.join().unwrap(), Status::Closed, &["the node "]);
            for stream in open.iter_mut().chain([&mut waiting]) {
                expect_reset(stream);
            }
            assert!(freed(address) && freed(stuck));
        });
    });
}
