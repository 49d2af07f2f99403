//! Moving bytes between a stream and what is at its local end.
//!
//! Over our own muxer they are read to where they are sent from, and written from where they were received: libp2p's boxes
//! around its streams, which take and give copies, are left out. Over QUIC bytes go through a buffer of the thread.

use std::{
    cell::RefCell,
    io::{self, IoSlice, IoSliceMut},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;

use crate::network::yamux;

/// Most bytes moved at a time by way of the thread's buffer.
const CHUNK: usize = 64 * 1024;

/// Reads into buffers, the first of them first, and says how much: 0 at its end.
pub trait Source: FnOnce(&mut Context<'_>, &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {}
impl<F: FnOnce(&mut Context<'_>, &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>> Source for F {}

/// Takes bytes, not necessarily all, and says how many.
pub trait Sink: FnOnce(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>> {}
impl<F: FnOnce(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>> Sink for F {}

/// What has failed.
#[derive(Debug)]
pub enum Failed {
    /// The stream.
    Stream(io::Error),
    /// The local end.
    Local(io::Error),
}

/// Most parts of what was received that are given to a sink at a time.
const SLICES: usize = 8;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The thread's buffer, of [`CHUNK`] bytes. `work` must not ask for it again.
pub fn with_scratch<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|buffer| {
        buffer.resize(CHUNK, 0);
        work(buffer)
    })
}

/// The way of the bytes of a stream that is agreed on.
pub(super) enum Link {
    /// A stream of our muxer, out of its boxes.
    Direct(Direct),
    /// Whatever is in the boxes.
    Boxed(Copies),
}

/// A stream of our muxer, and whether it takes no more now.
pub(super) struct Direct {
    stream: yamux::Stream,
    full: bool,
}

/// What was read at one end and not taken by the other, in both directions.
#[derive(Default)]
pub(super) struct Copies {
    sent: Rest,
    received: Rest,
    unflushed: bool,
}

impl Link {
    pub fn new(boxed: &mut libp2p::Stream) -> Self {
        match yamux::unbox(boxed) {
            Some(stream) => Link::Direct(Direct { stream, full: false }),
            None => Link::Boxed(Copies::default()),
        }
    }

    /// Has the connection move on `runtime` from now on: whether it can.
    pub fn move_connection(&self, runtime: &Handle) -> bool {
        match self {
            Link::Direct(direct) => {
                direct.stream.move_connection(runtime);
                true
            }
            Link::Boxed(_) => false,
        }
    }

    /// Whether the last [`poll_send`](Self::poll_send) waits for the stream to take what it is given.
    pub fn is_full(&self) -> bool {
        match self {
            Link::Direct(direct) => direct.full,
            Link::Boxed(copies) => !copies.sent.is_empty(),
        }
    }

    /// Sends what `source` puts into the room that it is given: how much of it the stream has taken, 0 at the source's end.
    pub fn poll_send(
        &mut self,
        boxed: &mut libp2p::Stream,
        cx: &mut Context<'_>,
        source: impl Source,
    ) -> Poll<Result<usize, Failed>> {
        match self {
            Link::Direct(direct) => direct.poll_send(cx, source),
            Link::Boxed(copies) => copies.poll_send(boxed, cx, source),
        }
    }

    /// Gives what has come to `sink`: how much of it was taken, 0 at the stream's end.
    pub fn poll_receive(
        &mut self,
        boxed: &mut libp2p::Stream,
        cx: &mut Context<'_>,
        sink: impl Sink,
    ) -> Poll<Result<usize, Failed>> {
        match self {
            Link::Direct(direct) => direct.poll_receive(cx, sink),
            Link::Boxed(copies) => copies.poll_receive(boxed, cx, sink),
        }
    }

    /// Ends the direction to the peer; ready when the end has left.
    pub fn poll_close(&mut self, boxed: &mut libp2p::Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Link::Direct(direct) => Pin::new(&mut direct.stream).poll_close(cx),
            Link::Boxed(_) => Pin::new(boxed).poll_close(cx),
        }
    }
}

impl Direct {
    fn poll_send(&mut self, cx: &mut Context<'_>, source: impl Source) -> Poll<Result<usize, Failed>> {
        let room = self.stream.poll_room(cx);
        self.full = room.is_pending();
        match ready!(room) {
            Ok(room) => self.stream.poll_write_from(room, |buffers| source(cx, buffers)).map_err(Failed::Local),
            // That matters once there is something to send: until then what was received goes on its way.
            Err(error) => match ready!(source(cx, &mut [IoSliceMut::new(&mut [0])])).map_err(Failed::Local)? {
                0 => Poll::Ready(Ok(0)),
                _ => Poll::Ready(Err(Failed::Stream(error))),
            },
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, sink: impl Sink) -> Poll<Result<usize, Failed>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = ready!(self.stream.poll_data(cx, &mut slices)).map_err(Failed::Stream)?;
        if used == 0 {
            return Poll::Ready(Ok(0));
        }
        let taken = ready!(take(cx, &slices[..used], sink)).map_err(Failed::Local)?;
        self.stream.consume(taken);
        Poll::Ready(Ok(taken))
    }
}

impl Copies {
    fn poll_send(
        &mut self,
        boxed: &mut libp2p::Stream,
        cx: &mut Context<'_>,
        source: impl Source,
    ) -> Poll<Result<usize, Failed>> {
        let write = |cx: &mut Context<'_>, bytes: &[IoSlice<'_>]| Pin::new(&mut *boxed).poll_write_vectored(cx, bytes);
        if !self.sent.is_empty() {
            let drained = self.sent.poll_drain(cx, write).map_err(Failed::Stream);
            self.unflushed |= drained.is_ready();
            return drained;
        }
        let moved = with_scratch(|buffer| {
            let read = ready!(source(cx, &mut [IoSliceMut::new(buffer)])).map_err(Failed::Local)?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            self.sent.poll_first(cx, &buffer[..read], write).map_err(Failed::Stream)
        });
        match moved {
            Poll::Ready(_) => self.unflushed = true,
            Poll::Pending if self.unflushed => {
                ready!(Pin::new(boxed).poll_flush(cx)).map_err(Failed::Stream)?;
                self.unflushed = false;
            }
            Poll::Pending => {}
        }
        moved
    }

    fn poll_receive(
        &mut self,
        boxed: &mut libp2p::Stream,
        cx: &mut Context<'_>,
        sink: impl Sink,
    ) -> Poll<Result<usize, Failed>> {
        if !self.received.is_empty() {
            return self.received.poll_drain(cx, sink).map_err(Failed::Local);
        }
        with_scratch(|buffer| {
            let read = ready!(Pin::new(boxed).poll_read(cx, buffer)).map_err(Failed::Stream)?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            self.received.poll_first(cx, &buffer[..read], sink).map_err(Failed::Local)
        })
    }
}

/// What was read and not yet taken.
#[derive(Default)]
struct Rest {
    bytes: Vec<u8>,
    at: usize,
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Gives what is left to `sink`.
    fn poll_drain(&mut self, cx: &mut Context<'_>, sink: impl Sink) -> Poll<io::Result<usize>> {
        let taken = ready!(take(cx, &[IoSlice::new(&self.bytes[self.at..])], sink))?;
        self.at += taken;
        if self.is_empty() {
            *self = Rest::default();
        }
        Poll::Ready(Ok(taken))
    }

    /// Gives `bytes` to `sink` and keeps what it does not take.
    fn poll_first(&mut self, cx: &mut Context<'_>, bytes: &[u8], sink: impl Sink) -> Poll<io::Result<usize>> {
        let result = take(cx, &[IoSlice::new(bytes)], sink);
        let taken = match &result {
            Poll::Ready(Ok(taken)) => *taken,
            Poll::Ready(Err(_)) => return result,
            Poll::Pending => 0,
        };
        self.bytes = bytes[taken..].to_vec();
        self.at = 0;
        result
    }
}

/// Gives `bytes`, of which there are some, to `sink`.
fn take(cx: &mut Context<'_>, bytes: &[IoSlice<'_>], sink: impl Sink) -> Poll<io::Result<usize>> {
    match ready!(sink(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        taken => Poll::Ready(Ok(taken)),
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;

    use super::*;

    /// What `direct` gives until it waits or ends, and its end if there is one.
    fn received(direct: &mut Direct) -> (Vec<u8>, Option<io::Result<()>>) {
        let cx = &mut Context::from_waker(noop_waker_ref());
        let mut received = Vec::new();
        loop {
            // Three bytes at a time.
            let polled = direct.poll_receive(cx, |_, parts| {
                let part = &parts[0][..parts[0].len().min(3)];
                received.extend_from_slice(part);
                Poll::Ready(Ok(part.len()))
            });
            match polled {
                Poll::Ready(Ok(0)) => return (received, Some(Ok(()))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(Failed::Stream(error))) => return (received, Some(Err(error))),
                Poll::Ready(Err(Failed::Local(error))) => panic!("{error}"),
                Poll::Pending => return (received, None),
            }
        }
    }

    #[tokio::test]
    async fn what_came_before_the_connection_ended_is_received_though_nothing_can_be_sent() {
        let cx = &mut Context::from_waker(noop_waker_ref());
        for finished in [true, false] {
            let stream = yamux::lost_stream(b"came before", finished).await;
            let mut direct = Direct { stream, full: false };
            assert!(direct.poll_send(cx, |_, _| Poll::Pending).is_pending(), "a source that is silent learns nothing");
            let (bytes, end) = received(&mut direct);
            assert_eq!(bytes, b"came before");
            match end {
                Some(Ok(())) => assert!(finished),
                Some(Err(error)) => assert!(!finished && error.kind() == io::ErrorKind::ConnectionAborted, "{error}"),
                None => panic!("no end"),
            }
            let sent = direct.poll_send(cx, |_, buffers| Poll::Ready(Ok(buffers[0].len())));
            assert!(matches!(sent, Poll::Ready(Err(Failed::Stream(_)))), "{sent:?}");
            assert!(
                matches!(direct.poll_send(cx, |_, _| Poll::Ready(Ok(0))), Poll::Ready(Ok(0))),
                "its end is its end"
            );
        }
    }
}
