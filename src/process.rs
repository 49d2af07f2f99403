//! What exists once per process: the runtime, the budget of file descriptors, the counter behind every id.
//!
//! After a fork the child has none of the parent's threads, and any lock may be held by a thread that is gone. So nothing of
//! the parent's is touched there: `forked` moves the process on to a fresh slot of every [`PerProcess`], and ids made before
//! the fork are recognised by their number alone.

mod busy_poll;
mod descriptors;
mod runtime;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use once_cell::sync::OnceCell;

#[cfg(test)]
pub(crate) use self::runtime::pretend_second_thread;
pub(crate) use self::runtime::thread_start;
pub use self::{
    busy_poll::{arrived, set_busy_poll, take_arrived},
    descriptors::{Descriptor, Descriptors, ServesTargets, descriptors},
    runtime::{is_second_thread, may_have_second_thread, runtime, second_thread, set_thread_start, threads},
};
use crate::error::{Error, Result, Status};

/// How many forks deep a new node still works.
const DEPTHS: usize = 16;

static DEPTH: AtomicUsize = AtomicUsize::new(0);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static FIRST_ID: AtomicU64 = AtomicU64::new(1);

/// Called in the child of a fork, on its only thread, before anything else. Async-signal-safe.
pub fn forked() {
    DEPTH.fetch_add(1, Ordering::Relaxed);
    FIRST_ID.store(NEXT_ID.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// A number that was never given out before in this process or the processes it was forked from.
pub fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// `id` was made before this process was forked off.
pub fn is_inherited(id: u64) -> bool {
    id < FIRST_ID.load(Ordering::Relaxed)
}

/// A value of which each process has its own, made when it is first needed.
pub struct PerProcess<T> {
    slots: [OnceCell<T>; DEPTHS],
}

impl<T> PerProcess<T> {
    pub const fn new() -> Self {
        PerProcess { slots: [const { OnceCell::new() }; DEPTHS] }
    }

    /// The value of this process; more forks deep than there are slots, the last one serves.
    pub fn get_or_init(&'static self, make: impl FnOnce() -> T) -> &'static T {
        self.slot().get_or_init(make)
    }

    pub fn get_or_try_init(&'static self, make: impl FnOnce() -> Result<T>) -> Result<&'static T> {
        if DEPTH.load(Ordering::Relaxed) >= DEPTHS {
            return Err(Error::new(
                Status::Forked,
                format!("more than {} forks lie between this process and the first", DEPTHS - 1),
            ));
        }
        self.slot().get_or_try_init(make)
    }

    pub fn get(&'static self) -> Option<&'static T> {
        self.slot().get()
    }

    fn slot(&'static self) -> &'static OnceCell<T> {
        &self.slots[DEPTH.load(Ordering::Relaxed).min(DEPTHS - 1)]
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_never_given_out_twice() {
        let first = next_id();
        assert!(next_id() > first);
        assert!(!is_inherited(first));
    }
}
