//! libp2p's transport: listeners, and the ports dials leave from.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Weak, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use futures::FutureExt;
use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint,
        transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
    },
};

use super::{
    address,
    config::Config,
    connection::{Limits, Muxer, Upgrade, establish},
    error::Error,
    listener::{Event, Listener},
    port::Port,
    punch::{Punches, punch},
};

/// QUIC version 1 for a libp2p swarm, on the tokio runtime: listen and dial within one.
///
/// Dials leave from a listener's port where one can reach the address, so that the address which peers observe is
/// one that they can dial. Connections share the UDP socket of their port: removing a listener closes all of its
/// connections, dropping the transport closes every connection.
pub struct Transport {
    config: Config,
    server: quinn::ServerConfig,
    pub(super) listeners: Vec<Listener>,
    /// Where dials leave from that no listener's port can serve: IPv4, IPv6.
    pub(super) dialers: [Option<Arc<Port>>; 2],
    /// The ports of dials that asked for their own; their connections keep them.
    own_ports: Vec<Weak<Port>>,
    punches: Punches,
    waker: Option<Waker>,
}

impl Transport {
    /// Fails when the TLS certificate cannot be made.
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Transport {
            server: config.server()?,
            config,
            listeners: Vec::new(),
            dialers: [None, None],
            own_ports: Vec::new(),
            punches: Punches::default(),
            waker: None,
        })
    }

    fn limits(&self) -> Limits {
        let config = &self.config;
        Limits {
            handshake: config.handshake_timeout,
            close: config.close_timeout,
            streams: [config.first_streams(), config.max_concurrent_streams],
            stream_window: config.stream_receive_window as usize,
            connection_window: config.connection_receive_window as usize,
            send_window: config.send_window,
            budget: config.budget.clone(),
        }
    }

    /// The listener's port that dials to `remote` leave from: always the same one, if there are several.
    fn listening_port(&self, remote: SocketAddr) -> Option<&Arc<Port>> {
        let able: Vec<_> = self.listeners.iter().filter(|l| l.can_dial(remote)).collect();
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(remote);
        let index = hash.checked_rem(able.len() as u64)?;
        able.get(index as usize).map(|listener| &listener.port)
    }

    fn dial_port(&mut self, remote: SocketAddr, port_use: PortUse) -> Result<Arc<Port>, Error> {
        let any = match remote {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        if port_use == PortUse::New {
            let port = Arc::new(Port::bind(any, &self.config, None)?);
            self.own_ports.retain(|port| port.strong_count() > 0);
            self.own_ports.push(Arc::downgrade(&port));
            return Ok(port);
        }
        if let Some(port) = self.listening_port(remote) {
            return Ok(port.clone());
        }
        let dialer = &mut self.dialers[usize::from(remote.is_ipv6())];
        match dialer {
            Some(port) if !port.failed.load(Ordering::Relaxed) => Ok(port.clone()),
            _ => Ok(dialer.insert(Arc::new(Port::bind(any, &self.config, None)?)).clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl libp2p::core::Transport for Transport {
    type Output = (PeerId, Muxer);
    type Error = Error;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Error>> {
        let Some((local, _)) = address::parse(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let port = Port::bind(local, &self.config, Some(self.server.clone()))?;
        self.listeners.push(Listener::new(id, Arc::new(port))?);
        self.wake();
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(listener) = self.listeners.iter_mut().find(|l| l.id == id) else { return false };
        listener.close(Ok(()));
        self.wake();
        true
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Upgrade, TransportError<Error>> {
        let Some((remote, peer)) = address::parse_dialable(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let limits = self.limits();
        if options.role == Endpoint::Listener {
            let port = self.listening_port(remote).ok_or(Error::NoListener { remote })?.clone();
            let incoming = self.punches.expect(remote)?;
            return Ok(async move {
                let connecting = punch(port.clone(), remote, incoming, limits.handshake).await?;
                establish(connecting, peer, limits, port).await
            }
            .boxed());
        }
        let port = self.dial_port(remote, options.port_use)?;
        let config = self.config.clone();
        Ok(async move {
            let client = config.client(remote)?;
            // libp2p has no host names, but TLS wants one.
            let connecting = port.endpoint.connect_with(client, remote, "l").map_err(|error| {
                if matches!(error, quinn::ConnectError::EndpointStopping) {
                    port.failed.store(true, Ordering::Relaxed);
                }
                Error::Connect { remote, error }
            })?;
            establish(connecting, peer, limits, port).await
        }
        .boxed())
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Upgrade, Error>> {
        let this = self.get_mut();
        let mut index = 0;
        while let Some(listener) = this.listeners.get_mut(index) {
            match listener.poll(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(None) => drop(this.listeners.remove(index)),
                Poll::Ready(Some(Event::Transport(event))) => return Poll::Ready(event),
                Poll::Ready(Some(Event::Connection { incoming, local })) => {
                    let (listener_id, port) = (listener.id, listener.port.clone());
                    let remote = incoming.remote_address();
                    let mut server = this.server.clone();
                    server.transport_config(this.config.transport(remote));
                    let connecting = match incoming.accept_with(Arc::new(server)) {
                        Ok(connecting) => connecting,
                        Err(error) => {
                            let error = Error::Handshake { remote, error };
                            return Poll::Ready(TransportEvent::ListenerError { listener_id, error });
                        }
                    };
                    let Some(connecting) = this.punches.offer(connecting) else { continue };
                    let send_back_addr = address::format(remote);
                    // The others' turn comes first next time.
                    this.listeners.rotate_left(index + 1);
                    return Poll::Ready(TransportEvent::Incoming {
                        listener_id,
                        upgrade: establish(connecting, None, this.limits(), port).boxed(),
                        local_addr: address::format(local),
                        send_back_addr,
                    });
                }
            }
        }
        this.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        for listener in &mut self.listeners {
            listener.close(Ok(()));
        }
        let own = self.own_ports.iter().filter_map(Weak::upgrade);
        for port in self.dialers.iter_mut().filter_map(Option::take).chain(own) {
            // Where connections are left, a task of the runtime gives the port back after their goodbyes.
            let _ = port.close();
        }
    }
}
