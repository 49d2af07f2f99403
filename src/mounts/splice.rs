//! The way of a byte: between a local connection and a stream, both directions on their own.
//!
//! An end of file passes as an end of file and only once everything before it is delivered; a reset passes as a reset. While
//! nothing moves, a stream holds no buffer.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};

use super::local::LocalStream;
use crate::fault;

/// Most bytes moved at a time.
const CHUNK: usize = 64 * 1024;
/// Most such moves before the task lets others run.
const TURN: usize = 4;
/// After the peer has stopped reading, the local side has this long to take what was still for it before it is reset.
const LAST_WORDS: Duration = Duration::from_secs(2);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The thread's buffer, of `CHUNK` bytes.
fn with_scratch<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|buffer| {
        buffer.resize(CHUNK, 0);
        work(buffer)
    })
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both directions came to their end of file; every byte was delivered.
    Finished,
    LocalReset,
    PeerReset,
    ConnectionLost,
}

/// Bytes that were delivered so far.
#[derive(Default)]
pub struct Bytes {
    /// From the network to the local side.
    pub received: AtomicU64,
    /// From the local side to the network.
    pub sent: AtomicU64,
}

impl Bytes {
    /// Received and sent.
    pub fn totals(&self) -> [u64; 2] {
        [self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed)]
    }
}

/// Copies both ways until both have ended. Whatever is dropped before its end is reset by its own `Drop`.
pub async fn splice<S>(local: &LocalStream, stream: &mut S, bytes: &Bytes) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut outbound = Direction::default();
    let mut inbound = Direction::default();
    // Until the client's end of file, a reset shows when reading from it, which is not done while what it sent before does
    // not get on.
    let mut reset = pin!(local.was_reset());
    let end = poll_fn(|cx| {
        fault::point("copy");
        if let Poll::Ready(Err(end)) = outbound.poll(cx, Way::Out(local, stream), &bytes.sent) {
            return Poll::Ready(Some(end));
        }
        match inbound.poll(cx, Way::In(local, stream), &bytes.received) {
            Poll::Ready(Err(end)) => Poll::Ready(Some(end)),
            Poll::Ready(Ok(())) if outbound.ended() => Poll::Ready(outbound.verdict()),
            _ if outbound.state == State::Done && inbound.state != State::Done => Poll::Ready(None),
            _ if outbound.is_held_up() && reset.as_mut().poll(cx).is_ready() => Poll::Ready(Some(End::LocalReset)),
            _ => Poll::Pending,
        }
    })
    .await;
    let end = match end {
        Some(end) => end,
        None => {
            let rest = poll_fn(|cx| inbound.poll(cx, Way::In(local, stream), &bytes.received));
            tokio::select! {
                biased;
                result = rest => result.err().unwrap_or(End::Finished),
                () = reset => End::LocalReset,
            }
        }
    };
    match end {
        End::Finished => local.finish(),
        End::PeerReset if inbound.state == State::Done => last_words(local).await,
        _ => {}
    }
    end
}

/// What a client sends first. For one that sends nothing, or is gone, this waits for ever.
pub async fn first_bytes(local: &LocalStream) -> Vec<u8> {
    poll_fn(|cx| {
        with_scratch(|buffer| match ready!(local.poll_read(cx, buffer)) {
            Ok(0) | Err(_) => Poll::Pending,
            Ok(read) => Poll::Ready(buffer[..read].to_vec()),
        })
    })
    .await
}

/// The peer read no further but sent its own end of file: the local side gets it, and time to read what came before, until it
/// is reset. What it sends meanwhile goes nowhere, as on any connection whose other end has closed.
async fn last_words(local: &LocalStream) {
    let drain = poll_fn(|cx| {
        with_scratch(|buffer| {
            loop {
                match ready!(local.poll_read(cx, buffer)) {
                    Ok(0) | Err(_) => return Poll::Ready(()),
                    Ok(_) => {}
                }
            }
        })
    });
    let _ = tokio::time::timeout(LAST_WORDS, drain).await;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Copying,
    /// The source has ended, the end is still to be passed on.
    Ending,
    Done,
    /// The sink takes no more, though it is not known to be lost.
    Refused,
}

#[derive(Default)]
struct Direction {
    state: State,
    /// Read but not yet taken by the sink.
    rest: Vec<u8>,
    at: usize,
    unflushed: bool,
}

/// Source and sink of a direction.
enum Way<'a, S> {
    Out(&'a LocalStream, &'a mut S),
    In(&'a LocalStream, &'a mut S),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Way<'_, S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Way::Out(local, _) => local.poll_read(cx, buffer),
            Way::In(_, stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Way::Out(_, stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Way::In(local, _) => local.poll_write(cx, bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Way::Out(_, stream) => Pin::new(&mut **stream).poll_flush(cx),
            Way::In(..) => Poll::Ready(Ok(())),
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Way::Out(_, stream) => Pin::new(&mut **stream).poll_close(cx),
            Way::In(local, _) => Poll::Ready(match local.shut_down_write() {
                // The other end has closed both ways already, after all was delivered.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                result => result,
            }),
        }
    }

    /// What an error while reading means for the whole.
    fn source_failed(&self, error: &io::Error) -> End {
        match self {
            Way::Out(..) => End::LocalReset,
            Way::In(..) => stream_end(error),
        }
    }

    /// What an error while writing means: `None` if only this direction has ended.
    fn sink_failed(&self, error: &io::Error) -> Option<End> {
        match self {
            Way::Out(..) if stream_end(error) == End::ConnectionLost => Some(End::ConnectionLost),
            Way::Out(..) => None,
            Way::In(..) => Some(End::LocalReset),
        }
    }
}

/// Resets and lost connections are different kinds of error on every transport.
fn stream_end(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => End::PeerReset,
        _ => End::ConnectionLost,
    }
}

impl Direction {
    fn ended(&self) -> bool {
        matches!(self.state, State::Done | State::Refused)
    }

    /// The source is not read now, because the sink does not take what it has given.
    fn is_held_up(&self) -> bool {
        self.at < self.rest.len() || self.state == State::Ending
    }

    /// The end of the whole when the other direction is done.
    fn verdict(&self) -> Option<End> {
        Some(if self.state == State::Refused { End::PeerReset } else { End::Finished })
    }

    /// Moves bytes until nothing moves any more, or others should have their turn. `Ready(Ok)` when this direction has ended,
    /// `Ready(Err)` when the whole has.
    fn poll<S>(&mut self, cx: &mut Context<'_>, mut way: Way<'_, S>, count: &AtomicU64) -> Poll<Result<(), End>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        for _ in 0..TURN {
            let step = match self.state {
                State::Done | State::Refused => return Poll::Ready(Ok(())),
                State::Ending => way.poll_end(cx).map_ok(|()| self.state = State::Done),
                State::Copying if self.at < self.rest.len() => {
                    way.poll_write(cx, &self.rest[self.at..]).map(|result| {
                        self.took(result?, count)?;
                        if self.at == self.rest.len() {
                            (self.rest, self.at) = (Vec::new(), 0);
                        }
                        Ok(())
                    })
                }
                State::Copying => match self.poll_move(cx, &mut way, count) {
                    Poll::Ready(Err(Side::Source(error))) => return Poll::Ready(Err(way.source_failed(&error))),
                    Poll::Ready(Err(Side::Sink(error))) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                    Poll::Pending => Poll::Pending,
                },
            };
            match ready!(step) {
                Ok(()) => {}
                Err(error) => match way.sink_failed(&error) {
                    Some(end) => return Poll::Ready(Err(end)),
                    None => self.state = State::Refused,
                },
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and writes what was read; keeps what the sink did not take.
    fn poll_move<S>(&mut self, cx: &mut Context<'_>, way: &mut Way<'_, S>, count: &AtomicU64) -> Poll<Result<(), Side>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        with_scratch(|buffer| {
            let Poll::Ready(read) = way.poll_read(cx, buffer) else {
                if self.unflushed {
                    ready!(way.poll_flush(cx)).map_err(Side::Sink)?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            };
            let read = read.map_err(Side::Source)?;
            if read == 0 {
                self.state = State::Ending;
                return Poll::Ready(Ok(()));
            }
            let taken = match way.poll_write(cx, &buffer[..read]) {
                Poll::Ready(result) => result.map_err(Side::Sink)?,
                Poll::Pending => 0,
            };
            if taken > 0 {
                self.took(taken, count).map_err(Side::Sink)?;
                self.at = 0;
            }
            if taken < read {
                self.rest = buffer[taken..read].to_vec();
            }
            Poll::Ready(Ok(()))
        })
    }

    fn took(&mut self, taken: usize, count: &AtomicU64) -> io::Result<()> {
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.at += taken;
        self.unflushed = true;
        count.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(())
    }
}

enum Side {
    Source(io::Error),
    Sink(io::Error),
}
