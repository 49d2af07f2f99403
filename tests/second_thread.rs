//! Where the runtime has one thread, a peer whose streams move much gets a second connection, and the process a second thread for
//! it. What moves there arrives whole and ends as it did, as everywhere.

#[macro_use]
mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use p2pmount::process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use support::{
    HalfClose, Pair, QUIC, Target, WS, at, bytes, client, digest, expect_reset, int, limit, read_exact, read_to_end,
    reset, runtime, wait_until,
};

type Options<'a> = &'a [(&'a str, &'a str)];

const TLS: Options = &[("transports", "tcp"), ("security", "tls")];
const NOISE: Options = &[("transports", "tcp"), ("security", "noise")];
const ONE: Options = &[("transports", "tcp"), ("connections.spread", "1")];

/// Streams that move without end.
const FULL: usize = 2;
/// Streams beside them, which are divided between both connections.
const OTHERS: usize = 12;
const SIZE: usize = 3 << 20;

/// What is looked at is the process's.
static ALONE: Mutex<()> = Mutex::new(());

on_paths! {
    [tls TLS, noise NOISE, ws WS] {
        what_moves_beside_full_streams_arrives_whole: 120,
        resets_beside_full_streams_are_resets: 120,
        a_node_that_is_closed_resets_what_moves_on_both_threads: 120,
    }
}

on_paths! {
    [quic QUIC, one ONE] {
        there_is_one_connection: 120,
    }
}

/// The runtime of a machine with two processors, for one test at a time; `None` if this one has not as many.
fn alone_on_two_processors() -> Option<MutexGuard<'static, ()>> {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = sched_getaffinity(None).unwrap();
    let few: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).take(2).collect();
    all.clear();
    few.iter().for_each(|cpu| all.set(*cpu));
    // Of this thread, and those that it starts.
    sched_setaffinity(None, &all).unwrap();
    assert_eq!(runtime().metrics().num_workers(), 1);
    if few.len() < 2 {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "one processor is too few");
        eprintln!("not tested: there is one processor");
        return None;
    }
    Some(alone)
}

fn connections(pair: &Pair) -> [i64; 2] {
    [&pair.near, &pair.far].map(|node| node.peer_rows().first().map_or(0, |peer| int(peer, "connections")))
}

/// Streams at full speed from a target, until `work` is done. They are there when it begins.
fn beside_full_streams(pair: &Pair, work: impl FnOnce()) {
    let source = Target::serving(|mut stream| while stream.write_all(bytes(SIZE, 0)).is_ok() {});
    let address = pair.tunnel("full", &source.text());
    let streams: Vec<TcpStream> = (0..FULL).map(|_| client(address)).collect();
    thread::scope(|scope| {
        let readers = streams.iter().map(|mut stream| {
            scope.spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while matches!(stream.read(&mut buffer), Ok(1..)) {}
            })
        });
        let readers: Vec<_> = readers.collect();
        let worked = catch_unwind(AssertUnwindSafe(work));
        streams.iter().for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        worked.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// Opens streams to an echoing target until there are two connections, and a thread for the second.
fn wait_for_second_thread(pair: &Pair, address: SocketAddr) {
    let mut clients = Vec::new();
    wait_until("there are two connections and two threads", || {
        let mut client = client(address);
        client.write_all(b"word").unwrap();
        read_exact(&mut client, 4);
        clients.push(client);
        connections(pair) == [2, 2] && process::threads() == 2
    });
}

fn what_moves_beside_full_streams_arrives_whole(given: Options) {
    let Some(_alone) = alone_on_two_processors() else { return };
    let Tunnels { pair, _echo, echo: address, .. } = Tunnels::open(given);
    beside_full_streams(&pair, || {
        wait_for_second_thread(&pair, address);
        at("echoes");
        thread::scope(|scope| {
            for run in 0..OTHERS {
                scope.spawn(move || {
                    let mut reading = client(address);
                    let mut writing = reading.try_clone().unwrap();
                    let sender = thread::spawn(move || {
                        writing.write_all(bytes(SIZE, run)).unwrap();
                        writing.half_close();
                    });
                    assert_eq!(digest(&read_to_end(&mut reading)), digest(bytes(SIZE, run)), "run {run}");
                    sender.join().unwrap();
                });
            }
        });
    });
    assert_eq!(connections(&pair), [2, 2]);
}

/// Two nodes, a tunnel to an echoing target, and one to a target that the test plays.
struct Tunnels {
    pair: Pair,
    _echo: Target,
    echo: SocketAddr,
    target: Target,
    address: SocketAddr,
}

impl Tunnels {
    fn open(given: Options) -> Self {
        let (pair, echo, target) = (Pair::open(given), Target::echo(), Target::new());
        let [echo_address, address] =
            [("echo", &echo), ("other", &target)].map(|(name, target)| pair.tunnel(name, &target.text()));
        Tunnels { pair, _echo: echo, echo: echo_address, target, address }
    }

    /// Beside full streams, once there are two threads: what becomes of streams of which both ends are given.
    fn with_both_threads(&self, work: impl FnOnce(Vec<(TcpStream, TcpStream)>)) {
        beside_full_streams(&self.pair, || {
            wait_for_second_thread(&self.pair, self.echo);
            work((0..OTHERS).map(|_| (client(self.address), self.target.accept())).collect());
        });
    }
}

fn resets_beside_full_streams_are_resets(given: Options) {
    let Some(_alone) = alone_on_two_processors() else { return };
    Tunnels::open(given).with_both_threads(|open| {
        for (number, (mut client, mut server)) in open.into_iter().enumerate() {
            client.write_all(bytes(SIZE / 100, number)).unwrap();
            read_exact(&mut server, SIZE / 100);
            let (breaks, mut learns) = if number % 2 == 0 { (client, server) } else { (server, client) };
            reset(breaks);
            assert!(expect_reset(&mut learns).is_empty());
        }
    });
}

fn a_node_that_is_closed_resets_what_moves_on_both_threads(given: Options) {
    let Some(_alone) = alone_on_two_processors() else { return };
    let tunnels = Tunnels::open(given);
    tunnels.with_both_threads(|open| {
        tunnels.pair.near.close_now();
        for (mut client, mut server) in open {
            expect_reset(&mut client);
            expect_reset(&mut server);
        }
    });
}

fn there_is_one_connection(given: Options) {
    let Some(_alone) = alone_on_two_processors() else { return };
    let Tunnels { pair, _echo, echo: address, .. } = Tunnels::open(given);
    beside_full_streams(&pair, || {
        for _ in 0..OTHERS {
            let mut client = client(address);
            client.write_all(bytes(SIZE / 10, 1)).unwrap();
            client.half_close();
            assert_eq!(digest(&read_to_end(&mut client)), digest(bytes(SIZE / 10, 1)));
        }
    });
    assert_eq!(connections(&pair), [1, 1]);
}
