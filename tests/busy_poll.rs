//! The runtime's only thread does not go to sleep between messages that follow each other closely, and does when they end.

#[macro_use]
mod support;

use std::{
    fs,
    io::Write,
    net::TcpStream,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use p2pmount::process::{runtime, set_busy_poll};
use support::{Pair, QUIC, TCP, at, client, echo_server, limit, read_exact, wait_until};

type Options<'a> = &'a [(&'a str, &'a str)];

const ROUND_TRIPS: usize = 200;
/// Between two of them, so that the thread has nothing to do.
const PAUSE: Duration = Duration::from_millis(2);

/// What is looked at is the process's.
static ALONE: Mutex<()> = Mutex::new(());

on_paths! {
    [tcp TCP, quic QUIC] {
        between_close_messages_the_thread_stays_awake: 240,
        after_the_last_message_the_thread_sleeps: 240,
    }
}

/// The library's runtime, with the one thread that looks for what comes. Whether it does: not with one processor.
fn applies() -> bool {
    assert_eq!(runtime(1).unwrap().metrics().num_workers(), 1);
    let applies = thread::available_parallelism().unwrap().get() > 1;
    if !applies {
        eprintln!("not tested: there is one processor");
    }
    applies
}

/// The line of each of the library's threads that `file` has below `/proc/self/task`, by `read`, summed up.
fn of_threads(file: &str, read: fn(&str) -> u64) -> u64 {
    let folders = fs::read_dir("/proc/self/task").unwrap().map(|folder| folder.unwrap().path());
    let ours =
        folders.filter(|folder| fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.trim() == "p2pmount"));
    ours.filter_map(|folder| Some(read(&fs::read_to_string(folder.join(file)).ok()?))).sum()
}

/// How often the library's threads have gone to sleep.
fn sleeps() -> u64 {
    of_threads("status", |status| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    })
}

/// How long they have run.
fn run_time() -> Duration {
    Duration::from_nanos(of_threads("schedstat", |stat| stat.split(' ').next().unwrap().parse().unwrap()))
}

/// A tunnel to an echo server, and a client of it.
fn tunnel(path: Options) -> (Pair, TcpStream) {
    let pair = Pair::open(path);
    pair.far.expose("p2p-test", &echo_server().to_string(), &[]);
    let (_, address) = pair.near.forward_to("p2p-test", &pair.far.address(), &[]);
    (pair, client(address))
}

fn ping_pong(client: &mut TcpStream) {
    for _ in 0..ROUND_TRIPS {
        thread::sleep(PAUSE);
        client.write_all(&[7; 64]).unwrap();
        read_exact(client, 64);
    }
}

fn between_close_messages_the_thread_stays_awake(path: Options) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !applies() {
        return;
    }
    let (_pair, mut client) = tunnel(path);
    let mut sleeps_with = |busy_poll| {
        set_busy_poll(busy_poll);
        at("round trips");
        ping_pong(&mut client);
        let before = sleeps();
        ping_pong(&mut client);
        sleeps() - before
    };
    // So long that no message comes too late, however busy the machine.
    let awake = sleeps_with(Duration::from_secs(20));
    assert!(awake < ROUND_TRIPS as u64 / 10, "it went to sleep {awake} times");
    let asleep = sleeps_with(Duration::ZERO);
    assert!(asleep >= ROUND_TRIPS as u64 / 2, "it went to sleep {asleep} times");
}

fn after_the_last_message_the_thread_sleeps(path: Options) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !applies() {
        return;
    }
    let (_pair, mut client) = tunnel(path);
    set_busy_poll(Duration::from_millis(20));
    at("round trips");
    ping_pong(&mut client);
    at("waiting for the thread to rest");
    wait_until("the thread rests", || {
        let before = run_time();
        thread::sleep(Duration::from_millis(100));
        run_time() - before < Duration::from_millis(10)
    });
}
