//! A QUIC connection: its handshake, and its streams for libp2p.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use libp2p::{
    PeerId,
    core::muxing::{StreamMuxer, StreamMuxerEvent},
};
use quinn::{ConnectionError, RecvStream, SendStream, rustls::pki_types::CertificateDer};
use tokio::time::timeout;

use super::{
    error::Error,
    port::Port,
    room::Room,
    stream::{Shared, Stream},
};
use crate::network::yamux::Budget;

/// A handshake in progress.
pub type Upgrade = BoxFuture<'static, Result<(PeerId, Muxer), Error>>;

/// The limits of one handshake and of the connection that comes out of it.
#[derive(Clone)]
pub(super) struct Limits {
    pub handshake: Duration,
    pub close: Duration,
    /// Streams that the peer may open at first, and at most.
    pub streams: [u32; 2],
    /// Receive windows: of a stream, and of all of a connection as long as they are few.
    pub stream_window: usize,
    pub connection_window: usize,
    /// Most that is kept of what was sent.
    pub send_window: u64,
    pub budget: Arc<Budget>,
}

/// Completes a handshake and checks who is at the other end. `expected` fails it for everybody else.
pub(super) async fn establish(
    connecting: quinn::Connecting,
    expected: Option<PeerId>,
    limits: Limits,
    port: Arc<Port>,
) -> Result<(PeerId, Muxer), Error> {
    let remote = connecting.remote_address();
    let connection = timeout(limits.handshake, connecting)
        .await
        .map_err(|_| Error::HandshakeTimedOut { remote, after: limits.handshake })?
        .map_err(|error| Error::Handshake { remote, error })?;
    let muxer = Muxer::new(connection, port, limits);
    let actual = peer_id(&muxer.shared.connection, remote)?;
    match expected {
        Some(expected) if expected != actual => {
            Err(Error::WrongPeer { remote, expected: expected.into(), actual: actual.into() })
        }
        _ => Ok((actual, muxer)),
    }
}

/// The owner of the certificate that the TLS handshake has verified.
fn peer_id(connection: &quinn::Connection, remote: SocketAddr) -> Result<PeerId, Error> {
    let failed = |reason: &str| Error::Certificate { remote, reason: reason.to_owned() };
    let identity = connection.peer_identity().ok_or_else(|| failed("there is none"))?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| failed("it is of an unknown kind"))?;
    let [certificate] = chain.as_slice() else { return Err(failed("there is not exactly one")) };
    match libp2p::tls::certificate::parse(certificate) {
        Ok(certificate) => Ok(certificate.peer_id()),
        Err(error) => Err(failed(&error.to_string())),
    }
}

type NextStream = BoxFuture<'static, Result<(SendStream, RecvStream), ConnectionError>>;

/// A QUIC connection as libp2p's stream multiplexer.
///
/// Closing it, or dropping it, waits in the background until the peer has what the finished streams have sent and knows of
/// those that were reset (bounded, see [`Config::close_timeout`](super::Config::close_timeout)) and then closes the
/// connection; unfinished streams are lost with it.
pub struct Muxer {
    pub(super) shared: Arc<Shared>,
    incoming: Option<NextStream>,
    outgoing: Option<NextStream>,
    closing: Option<BoxFuture<'static, ()>>,
    close_timeout: Duration,
    /// Streams that the peer may have open now, and at most.
    allowed: [u32; 2],
    /// Every stream of the peer that is open holds one.
    inbound: Arc<()>,
    /// Keeps a dial-only port while a connection uses it.
    port: Arc<Port>,
}

impl Muxer {
    fn new(connection: quinn::Connection, port: Arc<Port>, limits: Limits) -> Self {
        Muxer {
            shared: Shared::new(
                connection,
                Room::new(limits.stream_window, limits.connection_window, limits.budget),
                limits.send_window,
            ),
            incoming: None,
            outgoing: None,
            closing: None,
            close_timeout: limits.close,
            allowed: limits.streams,
            inbound: Arc::default(),
            port,
        }
    }

    /// Lets the peer open more streams in time, once it has half of what it may.
    fn allow_more(&mut self) {
        let [now, most] = self.allowed;
        let open = Arc::strong_count(&self.inbound) - 1;
        if now < most && open >= now as usize / 2 {
            self.allowed[0] = now.saturating_mul(4).min(most);
            self.shared.connection.set_max_concurrent_bi_streams(self.allowed[0].into());
        }
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        let (shared, port, limit) = (self.shared.clone(), self.port.clone(), self.close_timeout);
        async move {
            shared.close(limit).await;
            drop(port);
        }
        .boxed()
    }
}

impl StreamMuxer for Muxer {
    type Substream = Stream;
    type Error = Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let this = self.get_mut();
        let connection = &this.shared.connection;
        let incoming = this.incoming.get_or_insert_with(|| {
            let connection = connection.clone();
            async move { connection.accept_bi().await }.boxed()
        });
        let result = ready!(incoming.poll_unpin(cx));
        this.incoming = None;
        let halves = result.map_err(Error::Connection)?;
        let stream = Stream::new(halves, this.shared.clone()).counted(this.inbound.clone());
        this.allow_more();
        Poll::Ready(Ok(stream))
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let this = self.get_mut();
        let connection = &this.shared.connection;
        // Kept while the peer's stream limit is reached. A caller that has given up leaves it for the next one.
        let outgoing = this.outgoing.get_or_insert_with(|| {
            let connection = connection.clone();
            async move { connection.open_bi().await }.boxed()
        });
        let result = ready!(outgoing.poll_unpin(cx));
        this.outgoing = None;
        Poll::Ready(result.map(|halves| Stream::new(halves, this.shared.clone())).map_err(Error::Connection))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.closing.is_none() && this.shared.connection.close_reason().is_none() {
            this.closing = Some(this.close());
        }
        if let Some(closing) = &mut this.closing {
            ready!(closing.poll_unpin(cx));
            this.closing = None;
        }
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Error>> {
        // Nothing to do: the connection has its own task, and its addresses never change.
        Poll::Pending
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        if self.shared.connection.close_reason().is_some() {
            return;
        }
        if let Some(closing) = self.closing.take() {
            self.port.runtime.spawn(closing);
        } else if self.shared.has_undelivered() {
            self.port.runtime.spawn(self.close());
        } else {
            self.shared.connection.close(0u32.into(), b"");
        }
    }
}
