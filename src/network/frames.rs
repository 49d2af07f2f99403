//! The frame log: what goes over the wire of which stream, never what it carries. It is the level `trace` of the target
//! `p2pmount::frames`; while that is off, nothing is formatted.

use std::sync::atomic::{AtomicU64, Ordering};

/// The target of the frame log's events.
pub const TARGET: &str = "p2pmount::frames";

/// A new connection's number in the process.
pub fn connection() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
