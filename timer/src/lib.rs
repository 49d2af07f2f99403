//! libp2p's timers, on tokio's. The crate whose name and interface this has runs them on one thread per process, kept in a
//! static: after a fork the child has the static but not the thread, so no timer there would ever fire. Tokio's belong to a
//! runtime, of which a forked child has its own.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// A future that is ready after a time. To be made within a tokio runtime.
pub struct Delay(Pin<Box<Sleep>>);

impl Delay {
    /// Ready after `time` from now.
    pub fn new(time: Duration) -> Delay {
        Delay(Box::pin(sleep(time)))
    }

    /// Starts anew: ready after `time` from now.
    pub fn reset(&mut self, time: Duration) {
        match Instant::now().checked_add(time) {
            Some(deadline) => self.0.as_mut().reset(deadline),
            // Too far for the clock; `sleep` knows how far is far enough.
            None => self.0 = Box::pin(sleep(time)),
        }
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Delay").field(&self.0.deadline()).finish()
    }
}
