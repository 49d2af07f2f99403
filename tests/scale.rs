//! Ten thousand streams through one forward.

mod support;

use std::{
    fs,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use futures::{StreamExt, TryStreamExt, stream};
use support::{Child, QUIC, TCP, at, block, limit, raise_descriptors, run_child, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

type Options<'a> = &'a [(&'a str, &'a str)];

const STREAMS: usize = 10_000;
/// Streams that are opened, or asked, at a time.
const AT_A_TIME: usize = 256;
/// Descriptors that a process has beside those of the streams and of the connections that a node leaves room for.
const OTHERS: usize = 100;
/// Below this many streams the test says too little.
const FEW: usize = 1000;
/// Descriptors of the thread that a second connection may bring, which stays.
const SECOND_THREAD: usize = 3;

#[test]
#[ignore = "the other process of other tests"]
fn child_process() {
    run_child();
}

#[test]
fn ten_thousand_streams_over_tcp_live_at_the_same_time() {
    let _limit = limit(120);
    many_streams(TCP);
}

#[test]
fn ten_thousand_streams_over_quic_live_at_the_same_time() {
    let _limit = limit(120);
    many_streams(QUIC);
}

/// How many streams the limit of descriptors allows. Each process has one for each, and a node leaves up to three eighths
/// to its connections.
fn how_many() -> usize {
    let descriptors = raise_descriptors();
    let streams = STREAMS.min((descriptors / 8 * 5).saturating_sub(OTHERS));
    if streams < STREAMS {
        println!("{streams} streams instead of {STREAMS}: a process may have {descriptors} descriptors");
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci || streams >= FEW, "the limit of {descriptors} descriptors allows {streams} streams only");
    }
    streams
}

/// What a process holds: descriptors, and memory in KiB.
fn held(process: u32) -> (usize, usize) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    (descriptors, resident.split_whitespace().next().unwrap().parse().unwrap())
}

async fn echoes(stream: &mut TcpStream, question: u64) -> std::io::Result<()> {
    stream.write_all(&question.to_be_bytes()).await?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await?;
    assert_eq!(u64::from_be_bytes(answer), question);
    Ok(())
}

async fn open(address: SocketAddr, number: u64) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    echoes(&mut stream, number).await?;
    Ok(stream)
}

fn many_streams(given: Options) {
    // One test at a time has all descriptors of this process.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let count = how_many();
    let half = (STREAMS / 2).to_string();
    let given = [given, &[("connection.streams", &half)]].concat();
    // Each kind of end has a process of its own: the clients this one.
    let echo = Child::start("echo", "none", &[]);
    let mut listener = Child::start("listen", &echo.address, &given);
    let mut forward = Child::start("forward", &listener.address, &given);
    let address: SocketAddr = forward.forward.parse().unwrap();

    // The first one makes the connection.
    block(open(address, 0)).unwrap();
    wait_until("the first stream is gone", || (forward.streams(), listener.streams()) == ((0, 0), (0, 0)));
    let nodes = [("listener", listener.id()), ("forward", forward.id())];
    let before = nodes.map(|(_, id)| held(id));

    let mut most = [0; 2];
    for wave in 0..2 {
        at("opening the streams");
        let start = Instant::now();
        let opening = stream::iter(0..count as u64).map(|number| open(address, number)).buffer_unordered(AT_A_TIME);
        let mut streams: Vec<TcpStream> = block(opening.try_collect()).unwrap();
        println!("{count} streams answer after {:?}", start.elapsed());
        assert_eq!((forward.streams(), listener.streams()), ((count, count), (count, count)));
        let full = nodes.map(|(_, id)| held(id));

        at("asking every stream again");
        let start = Instant::now();
        let asking = stream::iter(&mut streams).zip(stream::iter(1 << 32..));
        let asking = asking.map(|(stream, number)| echoes(stream, number)).buffer_unordered(AT_A_TIME);
        block(asking.try_collect::<()>()).unwrap();
        println!("all {count} answer again within {:?}", start.elapsed());
        assert_eq!((forward.streams(), listener.streams()), ((count, count), (count, count)));

        drop(streams);
        wait_until("every stream is gone", || (forward.streams(), listener.streams()) == ((0, 0), (0, 0)));
        for (place, (name, id)) in nodes.into_iter().enumerate() {
            let (before, full) = (before[place], full[place]);
            assert!(full.0 >= before.0 + count, "{name}: a stream without a descriptor");
            wait_until("the descriptors are given back", || held(id).0 <= before.0 + 2 + SECOND_THREAD);
            println!(
                "{name}: {} bytes for each idle stream; {} KiB before, {} KiB with all, {} KiB after",
                full.1.saturating_sub(before.1) * 1024 / count,
                before.1,
                full.1,
                held(id).1
            );
            // What the allocator keeps serves the second wave.
            if wave == 0 {
                most[place] = full.1 + full.1 / 4;
            }
            assert!(full.1 <= most[place], "{name}: {} KiB with all, where {} KiB were enough", full.1, most[place]);
        }
    }
}
