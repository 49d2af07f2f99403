//! The library's muxer without the rest of the library, built with `cfg(fuzzing)`.

#[allow(dead_code, reason = "the fuzzer uses a part of it")]
#[path = "../../src/network/yamux/mod.rs"]
mod yamux;

#[allow(dead_code, reason = "the log alone names its target")]
#[path = "../../src/network/frames.rs"]
mod frames;

/// Where the muxer looks for what is around it.
mod network {
    pub use crate::frames;
}

pub use yamux::fuzzing::{bytes, frames};
