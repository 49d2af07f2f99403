//! One listen address: the network interfaces it stands for, and the connections that come in.

use std::{
    collections::{HashSet, VecDeque},
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{FutureExt, future::BoxFuture};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::core::transport::{ListenerId, TransportEvent};
use tokio::task::JoinHandle;

use super::{address, connection::Upgrade, error::Error, port::Port};

/// What a listener has to tell.
pub(super) enum Event {
    /// For libp2p as it is.
    Transport(TransportEvent<Upgrade, Error>),
    /// Somebody wants a connection to this local address.
    Connection { incoming: Box<quinn::Incoming>, local: SocketAddr },
}

pub(super) struct Listener {
    pub id: ListenerId,
    pub port: Arc<Port>,
    accept: BoxFuture<'static, Option<quinn::Incoming>>,
    /// For an unspecified address: what it stands for at the moment.
    interfaces: Option<IfWatcher>,
    addresses: HashSet<IpAddr>,
    events: VecDeque<TransportEvent<Upgrade, Error>>,
    state: State,
}

enum State {
    Open,
    Closing { task: Option<JoinHandle<()>>, reason: Result<(), Error> },
    Closed,
}

impl Listener {
    pub fn new(id: ListenerId, port: Arc<Port>) -> Result<Self, Error> {
        let mut listener = Listener {
            id,
            accept: accept(&port),
            port,
            interfaces: None,
            addresses: HashSet::new(),
            events: VecDeque::new(),
            state: State::Open,
        };
        let local = listener.port.local();
        if local.ip().is_unspecified() {
            listener.interfaces = Some(IfWatcher::new().map_err(Error::Interfaces)?);
        } else {
            listener.up(local.ip());
        }
        Ok(listener)
    }

    /// Whether a dial to `remote` can leave from this listener's port.
    pub fn can_dial(&self, remote: SocketAddr) -> bool {
        let local = self.port.local();
        matches!(self.state, State::Open)
            && local.is_ipv4() == remote.is_ipv4()
            && (local.ip().is_unspecified() || local.ip().is_loopback() == remote.ip().is_loopback())
    }

    /// Closes all connections of the port and gives it back; the listener reports its end once that is done.
    pub fn close(&mut self, reason: Result<(), Error>) {
        if matches!(self.state, State::Open) {
            self.interfaces = None;
            self.state = State::Closing { task: self.port.close(), reason };
        }
    }

    fn up(&mut self, ip: IpAddr) {
        let local = self.port.local();
        if ip.is_ipv4() == local.is_ipv4() && self.addresses.insert(ip) {
            let listen_addr = address::format(SocketAddr::new(ip, local.port()));
            self.events.push_back(TransportEvent::NewAddress { listener_id: self.id, listen_addr });
        }
    }

    fn down(&mut self, ip: IpAddr) {
        if self.addresses.remove(&ip) {
            let listen_addr = address::format(SocketAddr::new(ip, self.port.local().port()));
            self.events.push_back(TransportEvent::AddressExpired { listener_id: self.id, listen_addr });
        }
    }

    /// The next event; `None` when the end has been reported.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(Event::Transport(event)));
            }
            match &mut self.state {
                State::Open => {}
                State::Closing { task, .. } => {
                    if let Some(task) = task {
                        // An error means that the runtime has ended the task: the socket is gone as well.
                        let _ = ready!(Pin::new(task).poll(cx));
                    }
                    if let State::Closing { reason, .. } = std::mem::replace(&mut self.state, State::Closed) {
                        self.events.push_back(TransportEvent::ListenerClosed { listener_id: self.id, reason });
                    }
                    continue;
                }
                State::Closed => return Poll::Ready(None),
            }
            if self.poll_interfaces(cx).is_ready() {
                continue;
            }
            let Some(incoming) = ready!(self.accept.poll_unpin(cx)) else {
                self.close(Err(Error::SocketLost { local: self.port.local() }));
                continue;
            };
            self.accept = accept(&self.port);
            let ip = incoming.local_ip().unwrap_or(self.port.local().ip());
            let local = SocketAddr::new(ip, self.port.local().port());
            return Poll::Ready(Some(Event::Connection { incoming: incoming.into(), local }));
        }
    }

    fn poll_interfaces(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(interfaces) = &mut self.interfaces else { return Poll::Pending };
        match ready!(interfaces.poll_if_event(cx)) {
            Ok(IfEvent::Up(net)) => self.up(net.addr()),
            Ok(IfEvent::Down(net)) => self.down(net.addr()),
            Err(error) => {
                let error = Error::Interfaces(error);
                self.events.push_back(TransportEvent::ListenerError { listener_id: self.id, error });
            }
        }
        Poll::Ready(())
    }
}

fn accept(port: &Port) -> BoxFuture<'static, Option<quinn::Incoming>> {
    let endpoint = port.endpoint.clone();
    async move { endpoint.accept().await }.boxed()
}
