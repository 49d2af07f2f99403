//! The UDP socket under an endpoint: quinn's socket interface on tokio, with the addition that it can be closed.

use std::{
    fmt,
    future::Future,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::RwLock;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use socket2::{Domain, Protocol, Type};
use tokio::{io::Interest, net::UdpSocket};

/// A UDP socket whose port can be given back while connections still refer to it.
///
/// Connections keep their socket for some round trips after their end. Closed, the socket swallows what they send and
/// never receives.
pub(super) struct Socket {
    io: RwLock<Option<Arc<UdpSocket>>>,
    local: SocketAddr,
    state: UdpSocketState,
}

impl Socket {
    /// Binds to `local`. IPv6 sockets carry IPv6 only: IPv4 has its own listeners. `buffer_size` is a wish.
    pub fn bind(local: SocketAddr, buffer_size: usize) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // The operating system may refuse, or give less.
        let _ = socket.set_recv_buffer_size(buffer_size);
        let _ = socket.set_send_buffer_size(buffer_size);
        socket.bind(&local.into())?;
        let socket = std::net::UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        Ok(Socket { io: RwLock::new(Some(Arc::new(UdpSocket::from_std(socket)?))), local, state })
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Gives the port back. When this returns, another socket can have it.
    pub fn close(&self) {
        *self.io.write() = None;
    }

    /// Sends one packet outside of any connection; it may be lost like any other.
    pub async fn send_to(&self, packet: &[u8], remote: SocketAddr) -> io::Result<()> {
        let Some(io) = self.io.read().clone() else { return Err(io::ErrorKind::NotConnected.into()) };
        io.send_to(packet, remote).await.map(drop)
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match &*self.io.read() {
            Some(io) => io.try_io(Interest::WRITABLE, || self.state.send(io.as_ref().into(), transmit)),
            None => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let io = self.io.read();
        let Some(io) = &*io else { return Poll::Pending };
        loop {
            ready!(io.poll_recv_ready(cx))?;
            match io.try_io(Interest::READABLE, || self.state.recv(io.as_ref().into(), buffers, meta)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A report of an earlier packet that did not arrive says nothing about the socket.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.local).finish()
    }
}

/// One connection's wait for room in the send buffer. Each has its own: a socket remembers a single waker only.
struct Writable {
    socket: Arc<Socket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let waiting = match &mut this.waiting {
            Some(waiting) => waiting,
            None => {
                let Some(io) = this.socket.io.read().clone() else { return Poll::Ready(Ok(())) };
                this.waiting.insert(Box::pin(async move { io.writable().await }))
            }
        };
        let result = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writable").field(&self.socket).finish()
    }
}
