//! Streams that share a connection do not depend on each other.

#[macro_use]
mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use support::{
    HalfClose, PATIENCE, Pair, QUIC, TCP, Target, at, block, bytes, client, digest, echo_server, limit, wait_until,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Options<'a> = &'a [(&'a str, &'a str)];

/// Streams in each direction whose readers never read.
const STALLED: usize = 50;
/// Windows: those of all the stalled streams exceed what the connection has for a few.
const WINDOWS: Options = &[("stream.window", "2MiB"), ("connection.window", "16MiB")];
/// Streams beside them, in each direction, and what each transfers.
const BESIDE: usize = 4;
const TRANSFER: usize = 4 << 20;
/// Streams that wait for each answer beside one that is always full, and their round trips.
const PINGING: usize = 100;
const ROUND_TRIPS: u64 = 50;

on_paths! {
    [tcp TCP, quic QUIC] {
        readers_that_never_read_stall_nobody_else: 60,
        a_full_stream_starves_no_small_ones: 60,
    }
}

/// Everything shares one connection.
fn one_connection<'a>(given: Options<'a>) -> Vec<(&'a str, &'a str)> {
    [given, &[("connections.per_peer", "1")]].concat()
}

/// Writes on a thread of its own until that fails, and counts.
fn pour(mut stream: TcpStream) -> Arc<AtomicU64> {
    let poured = Arc::new(AtomicU64::new(0));
    let count = poured.clone();
    stream.set_write_timeout(None).unwrap();
    thread::spawn(move || {
        let data = bytes(64 << 10, 0);
        while let Ok(n) = stream.write(data) {
            count.fetch_add(n as u64, Ordering::Relaxed);
        }
    });
    poured
}

fn readers_that_never_read_stall_nobody_else(given: Options) {
    let pair = Pair::open(&[one_connection(given).as_slice(), WINDOWS].concat());
    let target = Target::new();
    let address = pair.tunnel("fair", &target.text());
    let connect = || (client(address), target.accept());

    let (mut silent, mut poured) = (Vec::new(), Vec::new());
    for number in 0..2 * STALLED {
        let (client, server) = connect();
        let (reader, writer) = if number % 2 == 0 { (client, server) } else { (server, client) };
        silent.push(reader);
        poured.push(pour(writer));
    }
    let now = || poured.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let mut before = Vec::new();
    wait_until("every sender is stuck", || {
        thread::sleep(Duration::from_millis(200));
        let now = now();
        now.iter().all(|count| *count > 0) && std::mem::replace(&mut before, now.clone()) == now
    });
    println!("{given:?}: {} bytes went into {} stalled streams", before.iter().sum::<u64>(), 2 * STALLED);

    at("the transfers beside them");
    thread::scope(|scope| {
        for number in 0..2 * BESIDE {
            let (client, server) = connect();
            let (mut from, mut to) = if number % 2 == 0 { (client, server) } else { (server, client) };
            let sent = bytes(TRANSFER, number);
            scope.spawn(move || {
                from.write_all(sent).unwrap();
                from.half_close();
                // Holds the connection until the other end has closed.
                let _ = from.read(&mut [0]);
            });
            scope.spawn(move || {
                let mut got = Vec::new();
                if let Err(error) = to.read_to_end(&mut got) {
                    panic!("stream {number}: {error} after {} bytes", got.len());
                }
                assert_eq!(digest(&got), digest(sent), "stream {number}");
            });
        }
    });
    assert_eq!(pair.near.peer_rows().len(), 1);
}

fn a_full_stream_starves_no_small_ones(given: Options) {
    let pair = Pair::open(&one_connection(given));
    let bulk = Target::new();
    let bulk_address = pair.tunnel("bulk", &bulk.text());
    let address = pair.tunnel("ping", &echo_server().to_string());
    for upwards in [true, false] {
        let (client, server) = (client(bulk_address), bulk.accept());
        let (from, mut to) = if upwards { (client, server) } else { (server, client) };
        pour(from);
        let moved = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let reading = {
            let (moved, ended) = (moved.clone(), ended.clone());
            thread::spawn(move || {
                let mut buffer = vec![0; 256 << 10];
                while !ended.load(Ordering::Relaxed) {
                    match to.read(&mut buffer).unwrap() {
                        0 => panic!("the full stream ended"),
                        n => moved.fetch_add(n as u64, Ordering::Relaxed),
                    };
                }
            })
        };
        wait_until("the full stream moves", || moved.load(Ordering::Relaxed) > 8 << 20);
        at("the small streams");
        let started = moved.load(Ordering::Relaxed);
        let trips: Vec<_> = (0..PINGING).map(|_| Arc::new(AtomicU64::new(0))).collect();
        block(async {
            let tasks: Vec<_> = trips.iter().map(|count| tokio::spawn(ping(address, count.clone()))).collect();
            for (number, task) in tasks.into_iter().enumerate() {
                let ended = tokio::time::timeout(PATIENCE, task).await;
                assert!(ended.is_ok_and(|task| task.is_ok()), "stream {number} starves; round trips: {trips:?}");
            }
        });
        let beside = moved.load(Ordering::Relaxed) - started;
        println!("{given:?}: {PINGING} streams, {ROUND_TRIPS} round trips each, beside {} MiB", beside >> 20);
        assert!(beside > 0, "the full stream stood still meanwhile");
        ended.store(true, Ordering::Relaxed);
        reading.join().unwrap();
    }
}

async fn ping(address: SocketAddr, count: Arc<AtomicU64>) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    for trip in 0..ROUND_TRIPS {
        stream.write_all(&trip.to_be_bytes()).await.unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, trip.to_be_bytes());
        count.fetch_add(1, Ordering::Relaxed);
    }
}
