//! The way of a byte: between a local connection and a stream, both directions on their own.
//!
//! An end of file passes as an end of file and only once everything before it is delivered; a reset passes as a reset. While
//! nothing moves, a stream holds no buffer.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use super::local::LocalStream;
use crate::{
    fault,
    network::{Failed, TunnelStream, with_scratch},
};

/// Most times that something is moved before the task lets others run.
const TURN: usize = 4;
/// After the peer has stopped reading, the local side has this long to take what was still for it before it is reset.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Between two looks at what it sends meanwhile, each of which takes 64 KiB at most: one that sends without end shall not keep
/// a processor busy.
const LAST_WORDS_PAUSE: Duration = Duration::from_millis(1);

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
pub async fn splice(local: &LocalStream, stream: &mut TunnelStream, bytes: &Bytes) -> End {
    let mut outbound = Direction::new(Way::Out);
    let mut inbound = Direction::new(Way::In);
    // Until the client's end of file, a reset shows when reading from it, which is not done while what it sent before does
    // not get on.
    let mut reset = pin!(local.was_reset());
    let end = poll_fn(|cx| {
        fault::point("copy");
        if let Poll::Ready(Err(end)) = outbound.poll(cx, local, stream, &bytes.sent) {
            return Poll::Ready(Some(end));
        }
        match inbound.poll(cx, local, stream, &bytes.received) {
            Poll::Ready(Err(end)) => Poll::Ready(Some(end)),
            Poll::Ready(Ok(())) if outbound.ended() => Poll::Ready(Some(outbound.verdict())),
            _ if outbound.state == State::Done && inbound.state != State::Done => Poll::Ready(None),
            _ if outbound.is_held_up(stream) && reset.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Some(End::LocalReset))
            }
            _ => Poll::Pending,
        }
    })
    .await;
    let end = match end {
        Some(end) => end,
        None => {
            let rest = poll_fn(|cx| inbound.poll(cx, local, stream, &bytes.received));
            tokio::select! {
                biased;
                result = rest => result.err().unwrap_or(End::Finished),
                () = reset => End::LocalReset,
            }
        }
    };
    match end {
        End::Finished => local.finish(),
        End::PeerReset | End::ConnectionLost if inbound.state == State::Done => last_words(local).await,
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

/// The peer read no further, or is gone, but had sent its own end of file: the local side gets it, and time to read what
/// came before, until it is reset. What it sends meanwhile goes nowhere, as on any connection whose other end has closed.
async fn last_words(local: &LocalStream) {
    let drain = async {
        let read = || poll_fn(|cx| with_scratch(|buffer| local.poll_read(cx, buffer)));
        while matches!(read().await, Ok(1..)) {
            tokio::time::sleep(LAST_WORDS_PAUSE).await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, drain).await;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Copying,
    /// The source has ended, the end is still to be passed on.
    Ending,
    Done,
    /// The peer takes no more, or is lost; how the whole ends once what came from it is delivered.
    Refused(End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From the local side to the peer.
    Out,
    In,
}

struct Direction {
    way: Way,
    state: State,
}

impl Direction {
    fn new(way: Way) -> Self {
        Direction { way, state: State::default() }
    }

    fn ended(&self) -> bool {
        matches!(self.state, State::Done | State::Refused(_))
    }

    /// Of the way out: the local side is not read now, because the stream does not take what it has given.
    fn is_held_up(&self, stream: &TunnelStream) -> bool {
        self.state == State::Ending || (self.state == State::Copying && stream.is_full())
    }

    /// The end of the whole when the other direction is done.
    fn verdict(&self) -> End {
        if let State::Refused(end) = self.state { end } else { End::Finished }
    }

    /// Moves bytes until nothing moves any more, or others should have their turn. `Ready(Ok)` when this direction has ended,
    /// `Ready(Err)` when the whole has.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        local: &LocalStream,
        stream: &mut TunnelStream,
        count: &AtomicU64,
    ) -> Poll<Result<(), End>> {
        for _ in 0..TURN {
            let step = match self.state {
                State::Done | State::Refused(_) => return Poll::Ready(Ok(())),
                State::Ending => self.poll_end(cx, local, stream).map_ok(|()| self.state = State::Done),
                State::Copying => self.poll_move(cx, local, stream).map_ok(|moved| match moved {
                    0 => self.state = State::Ending,
                    _ => drop(count.fetch_add(moved as u64, Ordering::Relaxed)),
                }),
            };
            match ready!(step) {
                Ok(()) => {}
                Err(failed) => match (self.way, End::of(&failed)) {
                    // What has come from the peer is delivered all the same.
                    (Way::Out, end @ (End::PeerReset | End::ConnectionLost)) => self.state = State::Refused(end),
                    (_, end) => return Poll::Ready(Err(end)),
                },
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_move(
        &self,
        cx: &mut Context<'_>,
        local: &LocalStream,
        stream: &mut TunnelStream,
    ) -> Poll<Result<usize, Failed>> {
        match self.way {
            Way::Out => stream.poll_send(cx, |cx, room| local.poll_read_vectored(cx, room)),
            Way::In => stream.poll_receive(cx, |cx, bytes| local.poll_write_vectored(cx, bytes)),
        }
    }

    /// Passes the end of file on.
    fn poll_end(
        &self,
        cx: &mut Context<'_>,
        local: &LocalStream,
        stream: &mut TunnelStream,
    ) -> Poll<Result<(), Failed>> {
        match self.way {
            Way::Out => stream.poll_close(cx).map_err(Failed::Stream),
            // Needed even where the socket is closed right afterwards: a copy of it in a forked child would keep it open.
            Way::In => Poll::Ready(match local.shut_down_write() {
                // The other end has closed both ways already, after all was delivered.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                result => result.map_err(Failed::Local),
            }),
        }
    }
}

impl End {
    /// What a failure means. Resets and lost connections are different kinds of error on every transport.
    fn of(failed: &Failed) -> End {
        match failed {
            Failed::Local(_) => End::LocalReset,
            Failed::Stream(error) => match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => End::PeerReset,
                _ => End::ConnectionLost,
            },
        }
    }
}
