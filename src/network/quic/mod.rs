//! QUIC version 1 as a libp2p transport, on quinn.
//!
//! Addresses are `/ip4|ip6/.../udp/PORT/quic-v1[/p2p/PEER]`; the handshake is libp2p's TLS
//! (<https://github.com/libp2p/specs/blob/master/quic/README.md>). What differs from libp2p-quic: an abandoned stream
//! is reset and never looks complete, a lost connection never reads as an end of data, a closed connection first
//! delivers what its finished streams still have in flight, and the limits can be set.

mod address;
mod batch;
mod config;
mod congestion;
mod connection;
mod error;
mod listener;
mod mtu;
mod port;
mod punch;
mod room;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod transport;

pub use self::{config::Config, error::Error, transport::Transport};
