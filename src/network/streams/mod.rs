//! Tunnel streams as a libp2p behaviour: any number of opens at once, each on a connection that was chosen for it, and
//! inbound streams handed to whoever registered the protocol, if it admits the peer.

mod behaviour;
mod handler;
mod registry;

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::oneshot;

pub use self::{
    behaviour::{Behaviour, Failure, limits as behaviour_limits},
    registry::{Admission, Inbound, Registration, Registry},
};
use super::connections::{Connection, StreamGuard};

/// An open stream: reading gives the bytes, then `Ok(0)` at the peer's end, `ConnectionReset` if the peer reset it and
/// `ConnectionAborted` if the connection was lost. Dropped before both ends, it is reset.
pub struct TunnelStream {
    stream: libp2p::Stream,
    guard: StreamGuard,
}

impl TunnelStream {
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
