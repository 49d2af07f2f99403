//! The first promise: no byte is lost, changed or added, however either end closes; and what was cut short is never passed
//! off as complete. Over TCP with either encryption, over QUIC, and over WebSocket.

#[macro_use]
mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use support::{
    Child, HalfClose, Pair, Path, QUIC, Target, TestNode, WS, at, bytes, client, digest, expect_end, expect_reset,
    limit, read_exact, read_to_end, reset, run_child,
};

/// Sizes of what is sent, and how often each.
const SMALL: &[(usize, usize)] = &[(0, 60), (1, 60), (1_000, 60), (200_000, 60)];
const LARGE: &[(usize, usize)] = &[(16 << 20, 10)];
/// How often what depends on the moment is tried.
const RUNS: usize = 20;
const REQUEST: usize = 16;

type Options<'a> = &'a [(&'a str, &'a str)];

const TLS: Options = &[("transports", "tcp"), ("security", "tls")];
const NOISE: Options = &[("transports", "tcp"), ("security", "noise")];
const WS_NOISE: Options = &[("transports", "ws"), ("security", "noise")];

on_paths! {
    [tls TLS, noise NOISE, quic QUIC, ws WS, ws_noise WS_NOISE] {
        a_response_arrives_whole_when_the_server_closes_at_once: 60,
        a_large_response_arrives_whole_when_the_server_closes_at_once: 60,
        an_upload_arrives_whole_when_the_client_closes_at_once: 60,
        a_large_upload_arrives_whole_when_the_client_closes_at_once: 60,
        a_reply_after_the_clients_end_of_file_arrives_whole: 60,
        a_large_reply_after_the_clients_end_of_file_arrives_whole: 60,
        an_upload_after_the_servers_end_of_file_arrives_whole: 60,
        a_large_upload_after_the_servers_end_of_file_arrives_whole: 60,
        both_directions_run_at_once_and_a_slow_reader_delays_only_its_own: 60,
        a_client_that_resets_while_it_sends_resets_the_target: 30,
        a_client_that_resets_while_it_receives_resets_the_target: 30,
        a_client_that_resets_while_nobody_reads_is_noticed: 30,
        a_client_that_resets_before_the_first_byte_resets_the_target: 30,
        a_client_that_resets_after_its_end_of_file_resets_the_target: 30,
        a_client_that_resets_after_the_targets_end_of_file_resets_the_target: 30,
        what_a_target_sends_to_nobody_is_taken_at_a_pace: 30,
        a_target_that_resets_while_it_sends_resets_the_client: 30,
        a_target_that_resets_while_it_receives_resets_the_client: 30,
        a_target_that_resets_before_the_first_byte_resets_the_client: 30,
        a_target_that_resets_after_its_end_of_file_resets_the_client: 30,
        a_target_that_resets_after_the_clients_end_of_file_resets_the_client: 30,
        a_listening_node_that_is_closed_resets_the_client: 30,
        a_forwarding_node_that_is_closed_resets_the_target: 30,
        a_listening_process_that_is_killed_resets_the_client: 60,
        a_forwarding_process_that_is_killed_resets_the_target: 60,
        a_connection_that_is_cut_resets_the_client: 60,
        a_connection_that_is_cut_resets_the_target: 60,
    }
}

#[test]
#[ignore = "the other process of other tests"]
fn child_process() {
    run_child();
}

/// Two nodes and a target, with a forward that leads to it.
struct Tunnel {
    pair: Pair,
    target: Target,
    address: SocketAddr,
}

impl Tunnel {
    fn open(given: Options) -> Self {
        let pair = Pair::open(given);
        let target = Target::new();
        let address = pair.tunnel("data", &target.text());
        Tunnel { pair, target, address }
    }

    /// The client's and the target's end of a new connection.
    #[track_caller]
    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = client(self.address);
        (client, self.target.accept())
    }

    /// Runs a client on a thread of its own, and the target's side here.
    fn run(&self, client_side: impl FnOnce(TcpStream) + Send, target_side: impl FnOnce(TcpStream)) {
        let address = self.address;
        thread::scope(|scope| {
            scope.spawn(move || client_side(client(address)));
            target_side(self.target.accept());
        });
    }
}

#[track_caller]
fn assert_same(got: &[u8], sent: &[u8], run: usize) {
    assert_eq!(digest(got), digest(sent), "{} bytes came of {} (run {run})", got.len(), sent.len());
}

#[track_caller]
fn assert_start(got: &[u8], sent: &[u8], run: usize) {
    assert!(sent.starts_with(got), "the {} bytes that came are not the first of those sent (run {run})", got.len());
}

fn each(sizes: &[(usize, usize)], mut what: impl FnMut(usize, usize)) {
    for (size, runs) in sizes {
        for run in 0..*runs {
            at(&format!("{size} bytes, run {run}"));
            what(*size, run);
        }
    }
}

// --- transfers -------------------------------------------------------------------------------------------------------

fn a_response_arrives_whole_when_the_server_closes_at_once(given: Options) {
    responses(&Tunnel::open(given), SMALL);
}

fn a_large_response_arrives_whole_when_the_server_closes_at_once(given: Options) {
    responses(&Tunnel::open(given), LARGE);
}

fn responses(tunnel: &Tunnel, sizes: &[(usize, usize)]) {
    each(sizes, |size, run| {
        let (request, response) = (bytes(REQUEST, run + 1), bytes(size, run));
        tunnel.run(
            |mut client| {
                client.write_all(request).unwrap();
                assert_same(&read_to_end(&mut client), response, run);
            },
            |mut server| {
                assert_same(&read_exact(&mut server, REQUEST), request, run);
                server.write_all(response).unwrap();
            },
        );
    });
}

fn an_upload_arrives_whole_when_the_client_closes_at_once(given: Options) {
    uploads(&Tunnel::open(given), SMALL);
}

fn a_large_upload_arrives_whole_when_the_client_closes_at_once(given: Options) {
    uploads(&Tunnel::open(given), LARGE);
}

fn uploads(tunnel: &Tunnel, sizes: &[(usize, usize)]) {
    each(sizes, |size, run| {
        let upload = bytes(size, run);
        tunnel.run(
            |mut client| client.write_all(upload).unwrap(),
            |mut server| assert_same(&read_to_end(&mut server), upload, run),
        );
    });
}

fn a_reply_after_the_clients_end_of_file_arrives_whole(given: Options) {
    replies(&Tunnel::open(given), SMALL);
}

fn a_large_reply_after_the_clients_end_of_file_arrives_whole(given: Options) {
    replies(&Tunnel::open(given), LARGE);
}

fn replies(tunnel: &Tunnel, sizes: &[(usize, usize)]) {
    each(sizes, |size, run| {
        let (upload, reply) = (bytes(size, run), bytes(size, run + 100));
        tunnel.run(
            |mut client| {
                client.write_all(upload).unwrap();
                client.half_close();
                assert_same(&read_to_end(&mut client), reply, run);
            },
            |mut server| {
                assert_same(&read_to_end(&mut server), upload, run);
                server.write_all(reply).unwrap();
            },
        );
    });
}

fn an_upload_after_the_servers_end_of_file_arrives_whole(given: Options) {
    late_uploads(&Tunnel::open(given), SMALL);
}

fn a_large_upload_after_the_servers_end_of_file_arrives_whole(given: Options) {
    late_uploads(&Tunnel::open(given), LARGE);
}

fn late_uploads(tunnel: &Tunnel, sizes: &[(usize, usize)]) {
    each(sizes, |size, run| {
        let (greeting, upload) = (bytes(size, run), bytes(size, run + 100));
        tunnel.run(
            |mut client| {
                assert_same(&read_to_end(&mut client), greeting, run);
                client.write_all(upload).unwrap();
            },
            |mut server| {
                server.write_all(greeting).unwrap();
                server.half_close();
                assert_same(&read_to_end(&mut server), upload, run);
            },
        );
    });
}

fn both_directions_run_at_once_and_a_slow_reader_delays_only_its_own(given: Options) {
    const SIZE: usize = 64 << 20;
    let tunnel = Tunnel::open(given);
    let (client, server) = tunnel.connect();
    let (there, back) = (bytes(SIZE, 1), bytes(SIZE, 2));
    let (arrived, wait) = mpsc::channel();
    let send = |mut stream: &TcpStream, data: &[u8]| {
        stream.write_all(data).unwrap();
        stream.half_close();
    };
    thread::scope(|scope| {
        scope.spawn(|| send(&client, there));
        scope.spawn(|| send(&server, back));
        let fast = scope.spawn(|| {
            let mut got = Vec::new();
            (&server).read_to_end(&mut got).unwrap();
            assert_same(&got, there, 0);
            arrived.send(()).unwrap();
        });
        // The slow one stops until the other direction is through, then reads in small bites.
        let mut got = vec![0; 1 << 20];
        at("the slow reader's first bytes");
        (&client).read_exact(&mut got).unwrap();
        at("the direction that nobody slows down");
        wait.recv_timeout(support::PATIENCE).expect("the slow reader held up the other direction");
        at("the slow reader's rest");
        let mut bite = vec![0; 64 << 10];
        loop {
            match (&client).read(&mut bite).unwrap() {
                0 => break,
                read => got.extend_from_slice(&bite[..read]),
            }
            thread::sleep(Duration::from_millis(1));
        }
        fast.join().unwrap();
        assert_same(&got, back, 0);
    });
}

// --- resets ----------------------------------------------------------------------------------------------------------

/// Writes until that fails, as it must when the other end was reset.
#[track_caller]
fn expect_write_failure(stream: &mut TcpStream, run: usize) {
    at("writing to a connection that was reset");
    let deadline = std::time::Instant::now() + support::PATIENCE;
    loop {
        match stream.write(&[0; 1000]) {
            Err(error) if [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()) => return,
            Err(error) => panic!("{error} (run {run})"),
            Ok(_) => assert!(std::time::Instant::now() < deadline, "writing goes on after a reset (run {run})"),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn repeated(given: Options, what: impl Fn(&Tunnel, usize)) {
    times(RUNS, given, what);
}

fn times(runs: usize, given: Options, what: impl Fn(&Tunnel, usize)) {
    let tunnel = Tunnel::open(given);
    for run in 0..runs {
        at(&format!("run {run}"));
        what(&tunnel, run);
    }
    support::wait_until("every stream is gone", || {
        tunnel.pair.near.streams().is_empty() && tunnel.pair.far.streams().is_empty()
    });
}

/// `from` sends and resets in the middle of it; `to` gets the beginning and a reset.
fn reset_while_sending([mut from, mut to]: [TcpStream; 2], run: usize) {
    const SURE: usize = 300_000;
    let data = bytes(SURE + run * 50_000, run);
    thread::scope(|scope| {
        scope.spawn(|| {
            from.write_all(data).unwrap();
            reset(from);
        });
        let got = expect_reset(&mut to);
        assert_start(&got, data, run);
    });
}

/// `to` resets while `from` sends without end.
fn reset_while_receiving([mut from, mut to]: [TcpStream; 2], run: usize) {
    let got = thread::scope(|scope| {
        let sending = scope.spawn(|| expect_write_failure(&mut from, run));
        let got = read_exact(&mut to, 100_000);
        reset(to);
        sending.join().unwrap();
        got
    });
    assert!(got.iter().all(|byte| *byte == 0));
}

fn reset_by_client_while_sending(tunnel: &Tunnel, run: usize) {
    let (client, server) = tunnel.connect();
    reset_while_sending([client, server], run);
}

fn reset_by_target_while_sending(tunnel: &Tunnel, run: usize) {
    let (client, server) = tunnel.connect();
    reset_while_sending([server, client], run);
}

fn a_client_that_resets_while_it_sends_resets_the_target(given: Options) {
    repeated(given, reset_by_client_while_sending);
}

fn a_target_that_resets_while_it_sends_resets_the_client(given: Options) {
    repeated(given, reset_by_target_while_sending);
}

fn a_client_that_resets_while_it_receives_resets_the_target(given: Options) {
    repeated(given, |tunnel, run| {
        let (client, server) = tunnel.connect();
        reset_while_receiving([server, client], run);
    });
}

fn a_target_that_resets_while_it_receives_resets_the_client(given: Options) {
    repeated(given, |tunnel, run| {
        let (client, server) = tunnel.connect();
        reset_while_receiving([client, server], run);
    });
}

fn a_client_that_resets_while_nobody_reads_is_noticed(given: Options) {
    /// A client that could write nothing for so long has filled everything on the way.
    const FULL: Duration = Duration::from_millis(300);
    times(1, given, |tunnel, run| {
        let (mut client, mut server) = tunnel.connect();
        client.set_write_timeout(Some(FULL)).unwrap();
        while client.write(&[0; 1 << 16]).is_ok() {}
        reset(client);
        support::wait_until("the stream is gone", || tunnel.pair.near.streams().is_empty());
        assert!(!expect_reset(&mut server).is_empty(), "run {run}");
    });
}

fn a_client_that_resets_before_the_first_byte_resets_the_target(given: Options) {
    repeated(given, |tunnel, _| {
        let (client, mut server) = tunnel.connect();
        reset(client);
        assert!(expect_reset(&mut server).is_empty());
    });
}

fn a_target_that_resets_before_the_first_byte_resets_the_client(given: Options) {
    repeated(given, |tunnel, _| {
        let (mut client, server) = tunnel.connect();
        reset(server);
        assert!(expect_reset(&mut client).is_empty());
    });
}

fn reset_after_end([mut from, mut to]: [TcpStream; 2], run: usize) {
    let data = bytes(100_000 * run, run);
    from.write_all(data).unwrap();
    from.half_close();
    assert_same(&read_to_end(&mut to), data, run);
    reset(from);
    expect_write_failure(&mut to, run);
}

fn a_client_that_resets_after_its_end_of_file_resets_the_target(given: Options) {
    // After an end of file the other side has a grace of two seconds to read what came before it.
    times(3, given, |tunnel, run| {
        let (client, server) = tunnel.connect();
        reset_after_end([client, server], run);
    });
}

fn a_target_that_resets_after_its_end_of_file_resets_the_client(given: Options) {
    times(3, given, |tunnel, run| {
        let (client, server) = tunnel.connect();
        reset_after_end([server, client], run);
    });
}

/// `from` resets in the middle of what it sends, and has got the other direction's end of file before.
fn reset_after_other_end([mut from, to]: [TcpStream; 2], run: usize) {
    to.half_close();
    expect_end(&mut from);
    reset_while_sending([from, to], run);
}

fn a_client_that_resets_after_the_targets_end_of_file_resets_the_target(given: Options) {
    repeated(given, |tunnel, run| {
        let (client, server) = tunnel.connect();
        reset_after_other_end([client, server], run);
    });
}

fn a_target_that_resets_after_the_clients_end_of_file_resets_the_client(given: Options) {
    repeated(given, |tunnel, run| {
        let (client, server) = tunnel.connect();
        reset_after_other_end([server, client], run);
    });
}

/// The target has its grace, but nothing is gained by taking what it sends meanwhile as fast as it can.
fn what_a_target_sends_to_nobody_is_taken_at_a_pace(given: Options) {
    let tunnel = Tunnel::open(given);
    let (mut client, mut server) = tunnel.connect();
    client.half_close();
    expect_end(&mut server);
    let pouring = thread::spawn(move || pour(server));
    read_exact(&mut client, 1 << 20);
    reset(client);
    let sent = pouring.join().unwrap() >> 4;
    assert!(sent < 200, "{sent} MiB were read");
}

// --- nodes that go away ----------------------------------------------------------------------------------------------

/// Sends without end until the connection is cut: how many pieces of 64 KiB.
fn pour(mut stream: TcpStream) -> usize {
    let data = bytes(64 << 10, 0);
    std::iter::from_fn(|| stream.write_all(data).ok()).count()
}

/// Connections of every kind that must not look complete when the node between them goes away: the ends that have to see a
/// reset.
fn cut_short(connect: impl Fn() -> (TcpStream, TcpStream)) -> Vec<TcpStream> {
    let (idle, server) = connect();
    thread::spawn(move || read_until_cut(server));

    let (mut busy, server) = connect();
    thread::spawn(move || pour(server));
    read_exact(&mut busy, 1 << 20);

    let (mut answered, mut server) = connect();
    server.write_all(b"the beginning").unwrap();
    read_exact(&mut answered, 13);
    thread::spawn(move || read_until_cut(server));

    let (ended, mut server) = connect();
    ended.half_close();
    expect_end(&mut server);
    thread::spawn(move || pour(server));

    vec![idle, busy, answered, ended]
}

/// Holds an end open until the other side is gone.
fn read_until_cut(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 1]);
}

#[track_caller]
fn assert_all_reset(ends: Vec<TcpStream>) {
    for (number, mut end) in ends.into_iter().enumerate() {
        at(&format!("the reset of connection {number}"));
        expect_reset(&mut end);
    }
}

fn a_listening_node_that_is_closed_resets_the_client(given: Options) {
    for _ in 0..3 {
        let tunnel = Tunnel::open(given);
        let ends = cut_short(|| tunnel.connect());
        tunnel.pair.far.close_now();
        assert_all_reset(ends);
    }
}

fn a_forwarding_node_that_is_closed_resets_the_target(given: Options) {
    for _ in 0..3 {
        let tunnel = Tunnel::open(given);
        let swapped = || {
            let (client, server) = tunnel.connect();
            (server, client)
        };
        let ends = cut_short(swapped);
        tunnel.pair.near.close_now();
        assert_all_reset(ends);
    }
}

/// A silent peer is given up within a second.
fn impatient<'a>(given: Options<'a>) -> Vec<(&'a str, &'a str)> {
    [given, &[("ping.interval", "200ms"), ("ping.timeout", "500ms")]].concat()
}

fn a_listening_process_that_is_killed_resets_the_client(given: Options) {
    let target = Target::new();
    let near = TestNode::open(&impatient(given));
    let mut child = Child::start("listen", &target.text(), given);
    let (_, address) = near.forward_to("child", &child.address, &[]);
    let ends = cut_short(|| {
        let client = client(address);
        (client, target.accept())
    });
    child.kill();
    assert_all_reset(ends);
}

fn a_forwarding_process_that_is_killed_resets_the_target(given: Options) {
    let target = Target::new();
    let far = TestNode::open(&impatient(given));
    far.expose("child", &target.text(), &[]);
    let mut child = Child::start("forward", &far.address(), given);
    let address = child.forward.parse().unwrap();
    let ends = cut_short(|| {
        let client = client(address);
        (target.accept(), client)
    });
    child.kill();
    assert_all_reset(ends);
}

/// Two nodes whose way to each other can be cut.
fn cut_path(given: Options, ends: impl Fn(TcpStream, TcpStream) -> (TcpStream, TcpStream)) {
    let target = Target::new();
    let pair = Pair::open(&impatient(given));
    pair.far.expose("data", &target.text(), &[]);
    let path = Path::to(&pair.far);
    let (_, address) = pair.near.forward_to("data", &path.address(), &[("reconnect", "false")]);
    let open = cut_short(|| {
        let (mut client, mut server) = (client(address), target.accept());
        // One that is not open at both ends yet may be asked for again on the next connection.
        server.write_all(b"!").unwrap();
        read_exact(&mut client, 1);
        ends(client, server)
    });
    path.cut();
    assert_all_reset(open);
    support::wait_until("no stream is left", || pair.near.streams().is_empty() && pair.far.streams().is_empty());
}

fn a_connection_that_is_cut_resets_the_client(given: Options) {
    cut_path(given, |client, server| (client, server));
}

fn a_connection_that_is_cut_resets_the_target(given: Options) {
    cut_path(given, |client, server| (server, client));
}
