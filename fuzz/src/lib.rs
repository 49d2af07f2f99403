//! The library's muxer without the rest of the library, built with `cfg(fuzzing)`.

#[allow(dead_code, reason = "the fuzzer uses a part of it")]
#[path = "../../src/network/yamux/mod.rs"]
mod yamux;

pub use yamux::fuzzing::{bytes, frames};
