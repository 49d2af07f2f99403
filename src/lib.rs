//! p2pmount mounts TCP services on a libp2p network: one process exposes a local service under a protocol name, another
//! forwards a local port to it by peer id. It speaks the wire protocol of Kubo's `ipfs p2p`.
//!
//! The rooms, from the door down; each uses only those below it:
//!
//! * [`capi`]: the C ABI of `include/p2pmount.h`, and the only `unsafe` code.
//! * [`node`]: a node's life: open, connect, list, close.
//! * [`mounts`]: what the library is for: listeners, forwards, the copying of bytes, access.
//! * [`network`]: how a stream reaches a peer: transports, muxer, choice of connection, the swarm.
//! * [`events`], [`rows`], [`logging`], [`process`]: what happened, how it is told, what exists once per process.
//! * [`options`], [`address`], [`protocol`], [`identity`], `secret`, [`error`]: the ground: what people write, checked.
//!
//! A byte's way: a client connects to a forward (`mounts::forward`), which asks the network for a stream
//! (`network::streams`); `mounts::splice` copies between the two until both directions have ended.

#[cfg(not(panic = "unwind"))]
compile_error!("p2pmount contains panics at its boundary and must be built with panic=unwind");

pub mod address;
pub mod capi;
pub mod error;
pub mod events;
#[doc(hidden)]
pub mod fault;
pub mod identity;
pub mod logging;
pub mod mounts;
mod network;
pub mod node;
pub mod options;
pub mod process;
pub mod protocol;
pub mod rows;
mod secret;

pub use error::{Error, Result, Status};
pub use mounts::Mount;
#[cfg(feature = "plaintext-bench")]
#[doc(hidden)]
pub use network::disable_encryption;
pub use node::Node;
pub use options::Options;
