//! The library's muxer without the rest of the library, built with `cfg(fuzzing)`.

#[allow(dead_code, reason = "the fuzzer uses a part of it")]
#[path = "../../src/network/yamux/mod.rs"]
mod yamux;

/// What the muxer needs of what is around it.
mod network {
    #[allow(dead_code, reason = "its target is named by the log alone")]
    #[path = "../../../src/network/frames.rs"]
    pub mod frames;
}

pub use yamux::fuzzing::{bytes, frames};
