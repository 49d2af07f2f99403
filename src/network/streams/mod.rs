//! Tunnel streams as a libp2p behaviour: any number of opens at once, each on a connection that was chosen for it, and
//! inbound streams handed to whoever registered the protocol, if it admits the peer.

mod behaviour;
mod handler;
mod registry;
mod transfer;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWriteExt};
use libp2p::{PeerId, StreamProtocol};
use tokio::{runtime::Handle, sync::oneshot};

use self::transfer::{Link, Sink, Source};
pub use self::{
    behaviour::{Behaviour, Failure, limits as behaviour_limits},
    registry::{Admission, Inbound, Registration, Registry},
    transfer::{Failed, with_scratch},
};
use super::{
    connections::{Connection, StreamGuard},
    failure,
};
use crate::process;

/// Whenever a stream has moved so much, it says so: often enough for [`Connection::is_loaded`].
const LOAD: usize = 1024 * 1024;

/// A stream. Before the peer has [agreed](TunnelStream::agreed) to its protocol there is only
/// [`write_early`](TunnelStream::write_early). Errors are `ConnectionReset` if the peer reset it and `ConnectionAborted` if the
/// connection was lost. Dropped before both ends, it is reset.
pub struct TunnelStream {
    stream: libp2p::Stream,
    /// Once the protocol is agreed on.
    link: Option<Link>,
    guard: StreamGuard,
    early: usize,
    /// Moved since it has last told its connection.
    moved: usize,
}

impl TunnelStream {
    /// Of a stream whose protocol may not be agreed on yet.
    fn proposed(stream: libp2p::Stream, guard: StreamGuard) -> Self {
        TunnelStream { stream, link: None, guard, early: 0, moved: 0 }
    }

    /// Of a stream that the peer opened.
    fn accepted(mut stream: libp2p::Stream, guard: StreamGuard) -> Self {
        let link = Some(Link::new(&mut stream));
        TunnelStream { stream, link, guard, early: 0, moved: 0 }
    }

    /// Waits until the peer has agreed to the protocol. After a failure the stream must not be used any more.
    pub async fn agreed(&mut self) -> Result<(), Failure> {
        // The answer is read first whatever is asked for.
        let nothing = poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut []));
        match nothing.await {
            Ok(_) => {
                self.link = Some(Link::new(&mut self.stream));
                Ok(())
            }
            Err(error) if failure::is_refusal(&error) => Err(Failure::Refused),
            Err(error) => Err(Failure::Broken(error)),
        }
    }

    /// Writes what may be sent before the peer has agreed.
    pub async fn write_early(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.early += bytes.len();
        self.stream.write_all(bytes).await
    }

    /// Bytes written by `write_early`.
    pub fn early(&self) -> usize {
        self.early
    }

    pub fn peer(&self) -> PeerId {
        self.guard.connection.peer
    }

    pub fn connection(&self) -> &Arc<Connection> {
        &self.guard.connection
    }

    /// Sends what `source` puts into the room that it is given: how much of it the stream has taken, 0 at the source's end.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, source: impl Source) -> Poll<Result<usize, Failed>> {
        let sent = match &mut self.link {
            Some(link) => link.poll_send(&mut self.stream, cx, source),
            None => Poll::Ready(Err(Failed::Stream(not_agreed()))),
        };
        self.count(sent)
    }

    /// Gives what has come to `sink`: how much of it was taken, 0 at the peer's end.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>, sink: impl Sink) -> Poll<Result<usize, Failed>> {
        let received = match &mut self.link {
            Some(link) => link.poll_receive(&mut self.stream, cx, sink),
            None => Poll::Ready(Err(Failed::Stream(not_agreed()))),
        };
        self.count(received)
    }

    fn count(&mut self, moved: Poll<Result<usize, Failed>>) -> Poll<Result<usize, Failed>> {
        if let Poll::Ready(Ok(moved)) = &moved {
            self.moved += moved;
            if self.moved >= LOAD {
                self.moved = 0;
                self.connection().has_moved_much();
            }
        }
        moved
    }

    /// The thread that its connection belongs to, if that is not the runtime's only one. From now on the connection moves there,
    /// and so should whoever moves the stream's bytes.
    pub fn second_thread(&self) -> Option<Handle> {
        let link = self.link.as_ref().filter(|_| self.connection().second)?;
        process::second_thread().filter(|thread| link.move_connection(thread))
    }

    /// Ends the direction to the peer; ready when the end has left.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.link {
            Some(link) => link.poll_close(&mut self.stream, cx),
            None => Poll::Ready(Err(not_agreed())),
        }
    }

    /// Whether the last `poll_send` waits for the stream, not for its source.
    pub fn is_full(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_full)
    }
}

fn not_agreed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the peer has not agreed to the protocol")
}

/// A stream that somebody waits for. Dropping the receiver of `reply` takes the request back.
#[derive(Debug)]
pub struct OpenRequest {
    pub protocol: StreamProtocol,
    /// When the one who waits gives up.
    pub deadline: tokio::time::Instant,
    pub reply: oneshot::Sender<Result<TunnelStream, Failure>>,
}

impl std::fmt::Debug for TunnelStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TunnelStream").field("peer", &self.peer()).finish_non_exhaustive()
    }
}
