//! One per connection: opens the streams that the behaviour sends, offers the registered protocols, passes inbound streams on.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Stream, StreamProtocol,
    core::{
        UpgradeInfo,
        upgrade::{InboundUpgrade, ReadyUpgrade},
    },
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use tokio::{
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};

use super::{Failure, Registry, TunnelStream};
use crate::network::connections::{Connection, Opening, StreamGuard};

/// Time that a peer has to name the protocol of a stream it opened.
const INBOUND_TIMEOUT: Duration = Duration::from_secs(30);

/// What the behaviour tells a handler: the offered protocols may have changed. Look again, and let identify know.
#[derive(Debug)]
pub struct Refresh;

pub struct Handler {
    registry: Arc<Registry>,
    connection: Arc<Connection>,
    opens: mpsc::UnboundedReceiver<Opening>,
    /// The offer as of a version of the registry: asked for on every poll of the connection.
    offer: RefCell<(u64, Arc<[StreamProtocol]>)>,
    idle_timeout: Duration,
    /// When it may be time to close the connection as idle.
    idle: Pin<Box<Sleep>>,
}

impl Handler {
    /// Within a runtime.
    pub fn new(
        registry: Arc<Registry>,
        connection: Arc<Connection>,
        opens: mpsc::UnboundedReceiver<Opening>,
        idle_timeout: Duration,
    ) -> Self {
        let offer = RefCell::new((u64::MAX, Arc::new([]) as Arc<_>));
        Handler { registry, connection, opens, offer, idle_timeout, idle: Box::pin(sleep(idle_timeout)) }
    }

    /// When the connection has been idle for too long, as far as is known now.
    fn idle_end(&self) -> Instant {
        let since = if self.connection.is_in_use() { Instant::now() } else { self.connection.idle_since().into() };
        since + self.idle_timeout
    }

    /// Sees to it that the swarm asks when the connection has been idle for too long. That a stream ends wakes nobody; the timer
    /// finds out.
    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        while self.idle.as_mut().poll(cx).is_ready() {
            // If the time is over now, the swarm learns it in this turn, unless somebody begins to use the connection.
            let kept = self.connection_keep_alive();
            let end = if kept { self.idle_end() } else { Instant::now() + self.idle_timeout };
            self.idle.as_mut().reset(end);
        }
    }

    fn offer(&self) -> Arc<[StreamProtocol]> {
        let mut offer = self.offer.borrow_mut();
        let version = self.registry.version();
        if offer.0 != version {
            *offer = (version, self.registry.offered_to(&self.connection.peer));
        }
        offer.1.clone()
    }
}

/// The protocols offered on an inbound stream.
pub struct Offer(Arc<[StreamProtocol]>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = OfferIter;

    fn protocol_info(&self) -> OfferIter {
        OfferIter { offer: self.0.clone(), next: 0 }
    }
}

/// Walks an offer without copying it.
pub struct OfferIter {
    offer: Arc<[StreamProtocol]>,
    next: usize,
}

impl Iterator for OfferIter {
    type Item = StreamProtocol;

    fn next(&mut self) -> Option<StreamProtocol> {
        let protocol = self.offer.get(self.next).cloned();
        self.next += 1;
        protocol
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Refresh;
    type ToBehaviour = Infallible;
    type InboundProtocol = Offer;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opening;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(Offer(self.offer()), ()).with_timeout(INBOUND_TIMEOUT)
    }

    fn connection_keep_alive(&self) -> bool {
        self.idle_end() > Instant::now()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Opening, Infallible>> {
        self.poll_idle(cx);
        while let Poll::Ready(Some(opening)) = self.opens.poll_recv(cx) {
            if opening.request.reply.is_closed() {
                continue;
            }
            let left = opening.request.deadline.saturating_duration_since(tokio::time::Instant::now());
            let upgrade = ReadyUpgrade::new(opening.request.protocol.clone());
            let protocol = SubstreamProtocol::new(upgrade, opening).with_timeout(left);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    /// The connection is polled after it anyway, and identify with it.
    fn on_behaviour_event(&mut self, Refresh: Refresh) {}

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Opening>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol), ..
            }) => {
                self.registry.deliver(&protocol, TunnelStream::accepted(stream, self.connection.stream()));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                let Opening { request, guard } = info;
                // Whoever asked may be gone: then the stream is dropped here, and reset.
                let _ = request.reply.send(Ok(TunnelStream::proposed(stream, guard)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let failure = match error {
                    StreamUpgradeError::NegotiationFailed => Failure::Refused,
                    StreamUpgradeError::Timeout => Failure::TimedOut,
                    StreamUpgradeError::Io(error) => Failure::Broken(error),
                };
                let _ = info.request.reply.send(Err(failure));
            }
            _ => {}
        }
    }
}

impl std::fmt::Debug for StreamGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamGuard({})", self.connection.id)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.id)
    }
}
