//! What the integration tests share: nodes, sockets around them, and a limit on every test.
//!
//! The tests are clients of the Rust API. Their own ends of the connections are plain blocking sockets with a timeout, so
//! a byte that does not come fails the test at the line that waits for it.

// Each test file uses its own part of this.
#![allow(dead_code, unused_imports, unused_macros)]

/// Each test once for each path: a module of its own, and the options that its nodes are given. The numbers are limits in
/// seconds.
macro_rules! on_paths {
    ([$($path:ident $given:ident),*] $tests:tt) => {
        $(on_paths! { @ $path $given $tests })*
    };
    (@ $path:ident $given:ident { $($name:ident: $seconds:literal,)* }) => {
        mod $path {
            $(#[test] fn $name() { let _limit = super::limit($seconds); super::$name(super::$given); })*
        }
    };
}

mod child;
mod limit;
mod node;
mod proxy;
mod sockets;

pub use self::{
    child::{Child, run_child},
    limit::{at, limit},
    node::{
        Events, Pair, QUIC, TCP, TestNode, WS, block, forward, in_background, int, listen, options, own_ip, rows,
        runtime, text,
    },
    proxy::{Path, TcpProxy, UdpProxy},
    sockets::{
        HalfClose, Target, TargetAt, bytes, client, digest, echo_server, expect_end, expect_reset, freed, is_free,
        read_exact, read_to_end, reset, set_patience,
    },
};

use std::time::{Duration, Instant};

/// How long anything that should come at once may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Raises the process's limit of descriptors as far as it goes; the number.
pub fn raise_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit.
    if current.is_some() && current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    }
    maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap())
}

/// Waits for a condition of which there is no event.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    at(what);
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
