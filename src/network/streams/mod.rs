//! Tunnel streams as a libp2p behaviour: any number of opens at once, each on a connection that was chosen for it, and
//! inbound streams handed to whoever registered the protocol, if it admits the peer.

mod behaviour;
mod handler;
mod registry;

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::oneshot;

pub use self::{
    behaviour::{Behaviour, Failure, limits as behaviour_limits},
    registry::{Admission, Inbound, Registration, Registry},
};
use super::{
    connections::{Connection, StreamGuard},
    failure,
};

/// A stream. It may be used before the peer has agreed to its protocol, see [`TunnelStream::agreed`]. Reading gives the
/// bytes, then `Ok(0)` at the peer's end, `ConnectionReset` if the peer reset it and `ConnectionAborted` if the connection was
/// lost. Dropped before both ends, it is reset.
pub struct TunnelStream {
    stream: libp2p::Stream,
    guard: StreamGuard,
    early: usize,
}

impl TunnelStream {
    fn new(stream: libp2p::Stream, guard: StreamGuard) -> Self {
        TunnelStream { stream, guard, early: 0 }
    }

    /// Waits until the peer has agreed to the protocol. After a failure the stream must not be used any more.
    pub async fn agreed(&mut self) -> Result<(), Failure> {
        // The answer is read first whatever is asked for.
        let nothing = poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut []));
        match nothing.await {
            Ok(_) => Ok(()),
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
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
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
