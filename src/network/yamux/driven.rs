//! A connection that moves by itself: in a task of its own, so that bytes pass without waking whoever owns the streams.

use std::{
    future::{Future, poll_fn},
    io, mem, panic,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::task::{JoinError, JoinHandle};

use super::{Muxer, Stream};

/// The owner's side of a [`Muxer`] that a task of its own polls. Dropped, it drops the muxer, and with it the socket, at once.
///
/// libp2p's swarm looks at everything that it keeps for a connection whenever it polls the muxer. Here the bytes of a tunnel do
/// not make it do that.
pub struct Driven<C> {
    shared: Arc<Shared<C>>,
    /// Ends with the connection: why it did. `None` once that was told, or since the owner closes the connection.
    task: Option<JoinHandle<io::Error>>,
}

struct Shared<C> {
    /// Held while bytes move, so whoever waits for it waits in the system, and where nothing is shared with others.
    phase: Mutex<Phase<C>>,
    /// The owner waits for it, or is about to: then the task lets it have its turn.
    wanted: AtomicBool,
}

enum Phase<C> {
    /// The task polls it.
    Moving(Box<Muxer<C>>),
    /// The owner closes it.
    Closing(Box<Muxer<C>>),
    /// It has ended or was given up. So it is, too, while it is polled by the task or closed: who panics leaves nothing behind.
    Gone,
}

impl<C> Shared<C> {
    fn lock(&self) -> MutexGuard<'_, Phase<C>> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the owner.
    fn claim(&self) -> MutexGuard<'_, Phase<C>> {
        self.wanted.store(true, Ordering::SeqCst);
        let phase = self.lock();
        self.wanted.store(false, Ordering::SeqCst);
        phase
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Shared<C> {
    /// Moves what can be moved; ready with the reason when the connection has ended.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.wanted.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut phase = self.lock();
        match mem::replace(&mut *phase, Phase::Gone) {
            Phase::Moving(mut muxer) => {
                let ended = Pin::new(&mut *muxer).poll(cx);
                match ended {
                    Poll::Pending => *phase = Phase::Moving(muxer),
                    // It is dropped when the lock is free again.
                    Poll::Ready(_) => drop(phase),
                }
                ended.map(|ended| ended.err().unwrap_or_else(gone))
            }
            other => {
                *phase = other;
                Poll::Ready(gone())
            }
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> Driven<C> {
    /// To be called within a tokio runtime.
    pub(super) fn new(muxer: Muxer<C>) -> Self {
        let shared =
            Arc::new(Shared { phase: Mutex::new(Phase::Moving(Box::new(muxer))), wanted: AtomicBool::new(false) });
        let moving = shared.clone();
        let task = tokio::spawn(poll_fn(move |cx| moving.poll(cx)));
        Self { shared, task: Some(task) }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Driven<C> {
    /// Takes a new stream. What fails fails because the connection has ended, and `poll` tells why.
    fn poll_stream(
        &self,
        take: impl FnOnce(Pin<&mut Muxer<C>>) -> Poll<io::Result<Stream>>,
    ) -> Poll<io::Result<Stream>> {
        let polled = match &mut *self.shared.claim() {
            Phase::Moving(muxer) | Phase::Closing(muxer) => take(Pin::new(muxer)),
            Phase::Gone => Poll::Ready(Err(gone())),
        };
        match polled {
            Poll::Ready(Err(_)) if self.task.is_some() => Poll::Pending,
            polled => polled,
        }
    }

    /// Waits until the task has ended, which it does when the connection does.
    fn poll_task(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(task) = &mut self.task else { return Poll::Pending };
        let ended = ready!(Pin::new(task).poll(cx));
        self.task = None;
        match ended.map_err(JoinError::try_into_panic) {
            Ok(error) => Poll::Ready(error),
            // The owner's task deals with it as if it had polled the muxer itself.
            Err(Ok(payload)) => panic::resume_unwind(payload),
            Err(Err(_)) => Poll::Ready(gone()),
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Driven<C> {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.poll_stream(|muxer| muxer.poll_inbound(cx))
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.poll_stream(|muxer| muxer.poll_outbound(cx))
    }

    /// The owner itself writes what is left.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut phase = self.shared.claim();
        let mut muxer = match mem::replace(&mut *phase, Phase::Gone) {
            Phase::Moving(muxer) | Phase::Closing(muxer) => muxer,
            Phase::Gone => {
                drop(phase);
                if self.task.is_some() {
                    ready!(self.poll_task(cx));
                }
                return Poll::Ready(Ok(()));
            }
        };
        let closed = Pin::new(&mut *muxer).poll_close(cx);
        *phase = Phase::Closing(muxer);
        drop(phase);
        if let Some(task) = self.task.take() {
            task.abort();
        }
        closed
    }

    /// Waits for the end of the connection.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.poll_task(cx).map(Err)
    }
}

impl<C> Drop for Driven<C> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        // Its streams wake others when it is dropped; the lock is free again by then.
        let given_up = mem::replace(&mut *self.shared.claim(), Phase::Gone);
        drop(given_up);
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "yamux: the connection is closed")
}
