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

use super::{Muxer, Stream, state};

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
        let streams = muxer.core.shared.clone();
        let shared =
            Arc::new(Shared { phase: Mutex::new(Phase::Moving(Box::new(muxer))), wanted: AtomicBool::new(false) });
        let task = tokio::spawn(run(shared.clone(), streams));
        Self { shared, task: Some(task) }
    }
}

/// Moves the connection until it ends, from some time on perhaps [elsewhere](super::Stream::move_connection).
async fn run<C>(shared: Arc<Shared<C>>, streams: Arc<state::Shared>) -> io::Error
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let here = poll_fn(|cx| match (shared.poll(cx), streams.elsewhere.get()) {
        (Poll::Ready(error), _) => Poll::Ready(Err(error)),
        (Poll::Pending, Some(elsewhere)) => Poll::Ready(Ok(elsewhere)),
        (Poll::Pending, None) => Poll::Pending,
    });
    let elsewhere = match here.await {
        Ok(elsewhere) => elsewhere,
        Err(error) => return error,
    };
    let moving = shared.clone();
    let mut there = Elsewhere(elsewhere.spawn(poll_fn(move |cx| moving.poll(cx))));
    end_of((&mut there.0).await)
}

/// The task that moves a connection on another runtime; it ends with whoever waits for it.
struct Elsewhere(JoinHandle<io::Error>);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why the connection has ended that a task has moved; its panic goes on here.
fn end_of(task: Result<io::Error, JoinError>) -> io::Error {
    match task.map_err(JoinError::try_into_panic) {
        Ok(error) => error,
        Err(Ok(payload)) => panic::resume_unwind(payload),
        Err(Err(_)) => gone(),
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
        // The owner's task deals with a panic as if it had polled the muxer itself.
        Poll::Ready(end_of(ended))
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
