//! The yamux stream muxer, `/yamux/1.0.0` (HashiCorp's `spec.md` and libp2p's yamux specification).
//!
//! What it promises to a tunnel: the end of a stream is never mistaken (FIN, RST and a lost connection are told apart),
//! both directions end on their own, reading from the socket never waits for writing to it, and reaching a limit costs
//! one stream, never the connection.

mod budget;
mod chunk;
mod clock;
mod company;
mod connection;
mod core;
mod dispatch;
mod driven;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod io;
mod state;
mod stream;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use libp2p::core::Endpoint;

use self::core::Role;
pub use self::{
    budget::Budget,
    connection::Muxer,
    driven::Driven,
    stream::{Stream, unbox},
};

#[cfg(test)]
pub use self::tests::lost_stream;

/// How a silent connection is noticed.
#[derive(Debug, Clone, Copy)]
pub struct KeepAlive {
    /// A ping is sent when nothing was received for this long.
    pub interval: Duration,
    /// The connection ends with [`std::io::ErrorKind::TimedOut`] if nothing was received for this long after a ping.
    pub timeout: Duration,
}

/// The name under which libp2p knows it.
pub const PROTOCOL: &str = "/yamux/1.0.0";

/// Limits and times of a connection. The listener is yamux's server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Streams open at a time, both directions together. Beyond it an inbound stream is reset and an outbound one waits.
    pub max_streams: usize,
    /// Largest receive window of a stream in bytes. It starts at 256 KiB and doubles towards the bandwidth-delay product.
    pub receive_window_max: u32,
    /// Bound on what all windows of the connection have grown together beyond 256 KiB each, in bytes.
    pub connection_window_max: usize,
    /// Largest data frame sent, in bytes without header; at most 64 KiB with it.
    pub frame_size: usize,
    /// Inbound streams that may wait for `poll_inbound`; more are reset.
    pub accept_backlog: usize,
    /// Outbound streams that may wait for the remote's acknowledgement; more wait in `poll_outbound`.
    pub ack_backlog: usize,
    /// Pings on an idle connection.
    pub keep_alive: Option<KeepAlive>,
    /// The connection ends with [`std::io::ErrorKind::TimedOut`] if a write makes no progress for this long.
    pub write_timeout: Option<Duration>,
    /// The node's bound on all receive windows.
    pub budget: Option<Arc<Budget>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_streams: 8192,
            receive_window_max: 16 * 1024 * 1024,
            connection_window_max: 128 * 1024 * 1024,
            frame_size: chunk::CHUNK - frame::HEADER,
            accept_backlog: 256,
            ack_backlog: 256,
            keep_alive: Some(KeepAlive { interval: Duration::from_secs(30), timeout: Duration::from_secs(30) }),
            write_timeout: Some(Duration::from_secs(30)),
            budget: None,
        }
    }
}

impl Config {
    /// The end of a connection over `socket`.
    pub fn muxer<C>(self, socket: C, end: Endpoint) -> Muxer<C> {
        let role = match end {
            Endpoint::Dialer => Role::Client,
            Endpoint::Listener => Role::Server,
        };
        Muxer::new(socket, self, role)
    }
}
